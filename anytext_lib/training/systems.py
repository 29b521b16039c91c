"""Which training a configuration is meant for: it says so by ``system: udifftext``; AnyText2's needs not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from anytext_lib.training.arguments import ConfigError, configs_in, read_config

SYSTEMS = {"anytext2": "anytext_lib.training.cli", "udifftext": "anytext_lib.udifftext.command"}
"""Name: module whose function ``run(command, arguments)`` trains it."""


def training_of(arguments: Sequence[str]) -> Callable[[str, Sequence[str]], int]:
    """The function ``run`` of the system that the configurations among ``arguments`` name, the last one if several do.

    Raises:
        MissingFileError, ConfigError: a configuration is missing, cannot be read, or names an unknown system.
    """
    chosen = "anytext2"
    for name in configs_in(arguments):
        chosen = read_config(name).get("system", chosen)
        if chosen not in SYSTEMS:
            raise ConfigError(f"the configuration {name} has the system {chosen!r}: choose {' or '.join(SYSTEMS)}")
    return import_module(SYSTEMS[chosen]).run
