"""Profiles: sets of parameter overrides and time budgets under which the notebooks run (notebooks/profiles.yaml)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anytext_lib.errors import CourseError
from anytext_lib.publishing.notebooks import NUMBER

FILE = "profiles.yaml"


@dataclass(frozen=True)
class Setting:
    """How one notebook runs under a profile: overrides of its parameters, and CPU seconds before it is stopped."""

    parameters: dict[str, Any] = field(default_factory=dict)
    budget_seconds: float = 600.0


@dataclass(frozen=True)
class Profile:
    """A named set of settings; `budget_seconds` holds for notebooks that do not say otherwise."""

    name: str
    budget_seconds: float
    settings: dict[str, Setting]

    def setting(self, number: str) -> Setting:
        """The setting of notebook `number`."""
        return self.settings.get(number, Setting({}, self.budget_seconds))


@dataclass(frozen=True)
class Profiles:
    """All of profiles.yaml: the notebooks (number -> the question it answers) and the profiles by name."""

    questions: dict[str, str]
    profiles: dict[str, Profile]

    def profile(self, name: str) -> Profile:
        """The profile called `name`. Raises CourseError, naming the known ones."""
        if name not in self.profiles:
            raise CourseError(f"There is no profile {name!r} in {FILE}. There are: {', '.join(self.profiles)}.")
        return self.profiles[name]


def load_profiles(folder: Path) -> Profiles:
    """Read and validate `folder`/profiles.yaml. Raises CourseError that says what is wrong, and where."""
    import yaml

    path = folder / FILE
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CourseError(f"{path} does not exist; the runner takes profiles and budgets from it.") from error
    except yaml.YAMLError as error:
        raise CourseError(f"{FILE} is no valid YAML: {error}") from error
    data = _mapping(data, "the file", {"notebooks", "profiles"}, required={"notebooks", "profiles"})
    questions = _mapping(data["notebooks"], "notebooks")
    for number, question in questions.items():
        _check_number(number, "notebooks")
        if not isinstance(question, str):
            raise _wrong(f"notebooks.{number}", f"must be the question that the notebook answers, got {question!r}")
    profiles = _mapping(data["profiles"], "profiles")
    return Profiles(questions, {name: _profile(name, entry, questions) for name, entry in profiles.items()})


def _profile(name: str, entry: Any, questions: dict) -> Profile:
    place = f"profiles.{name}"
    entry = _mapping(entry, place, {"budget_seconds", "notebooks"}, required={"budget_seconds"})
    budget = _budget(entry["budget_seconds"], place)
    settings = {}
    for number, setting in _mapping(entry.get("notebooks") or {}, f"{place}.notebooks").items():
        _check_number(number, f"{place}.notebooks")
        where = f"{place}.notebooks.{number}"
        if number not in questions:
            raise _wrong(where, f"is not one of the notebooks listed above ({', '.join(questions)})")
        setting = _mapping(setting, where, {"budget_seconds", "parameters"})
        parameters = _mapping(setting.get("parameters") or {}, f"{where}.parameters")
        settings[number] = Setting(parameters, _budget(setting.get("budget_seconds", budget), where))
    return Profile(name, budget, settings)


def _wrong(place: str, what: str) -> CourseError:
    return CourseError(f"{FILE}: {place} {what}.")


def _mapping(value: Any, place: str, allowed: set | None = None, required: set = frozenset()) -> dict:
    if not isinstance(value, dict):
        raise _wrong(place, f"must be a mapping, got {type(value).__name__} {value!r}")
    unknown = [key for key in value if allowed is not None and key not in allowed]
    if unknown:
        raise _wrong(place, f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(allowed))}")
    missing = sorted(required - set(value))
    if missing:
        raise _wrong(place, f"lacks the key {missing[0]!r}")
    return value


def _check_number(number: Any, place: str) -> None:
    if not (isinstance(number, str) and re.fullmatch(NUMBER, number)):
        raise _wrong(place, f"has the key {number!r}: write the notebook's number in quotes, as in \"02\"")


def _budget(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _wrong(f"{place}.budget_seconds", f"must be a number above 0, got {value!r}")
    return float(value)
