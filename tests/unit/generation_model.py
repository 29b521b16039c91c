"""A tiny model in which everything has an effect, for tests of generation."""

from __future__ import annotations

import torch

from anytext_lib.models import AnyText2Model


def lively_model(seed: int = 0, **sections) -> AnyText2Model:
    """The "tiny" configuration, with random numbers where training starts from zero."""
    from anytext_lib.models.config import read_config

    config = read_config("tiny")
    for name, values in sections.items():
        config[name] = config[name] | values
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AnyText2Model.from_config(config, pretrained_recognizer=False)
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()
