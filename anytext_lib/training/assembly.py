"""The model that a run starts from."""

from __future__ import annotations

from torch import nn

from anytext_lib.errors import MissingFileError
from anytext_lib.files import find_sample


def load_model(source: str | nn.Module) -> nn.Module:
    """An AnyText2Model: given, from a saved folder, from an upstream checkpoint, or by configuration.

    Raises:
        MissingFileError: ``source`` looks like a path and is none.
    """
    if isinstance(source, nn.Module):
        return source
    from anytext_lib.models import AnyText2Model

    path = find_sample(source)
    if path.is_dir():
        return AnyText2Model.from_pretrained(path)
    if path.is_file():
        return AnyText2Model.from_config(source) if path.suffix == ".json" else AnyText2Model.from_upstream(path)
    if path.suffix or len(path.parts) > 1:
        raise MissingFileError(f"no model {source}: give a folder written by save_pretrained, an upstream checkpoint "
                                "(.ckpt, .safetensors), or the name of a configuration such as mini or sd15")
    return AnyText2Model.from_config(source)
