"""A fresh start for what a model is told in words and colours.

    python -m anytext_lib.training.text_path runs/mini_pretrain/model runs/mini_told_start

A model that is trained from scratch may learn to ignore its captions: the ``*`` is one of 77 tokens that attention
averages, and a colour enters as LayerNorm(W rgb + b) with rgb in 0..255, where a usual W leaves b no say, so that dark
and bright colours are the same token.  Here the captions get a short window and the colours a small W, and all other
weights stay.  Training at high noise (``mini_told.yaml``), where the colour of the text tells most about the picture,
then opens the way from the token to the picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from anytext_lib.errors import OptionError
from anytext_lib.models import AnyText2Model

WINDOW = 16  # tokens of a caption's window, with its two markers
COLOR_WEIGHT = 1 / 60  # of W's usual size: W rgb is then a few times b
COLOR_GAIN = 5.0  # of the colour's LayerNorm: a colour is the louder part of its line's token


def renew_text_path(model: AnyText2Model, window: int = WINDOW, seed: int = 0) -> AnyText2Model:
    """A model with the weights of ``model``, but random weights in the caption encoder and in the colour's projection.

    Args:
        model: with colours in its text embedding; it is left as it is. ``window``: tokens of the caption encoder.
        seed: of the random weights.

    Raises:
        ValueError: the text embedding has no colours, or the window is too short for a caption.
    """
    if not model.text_embedding.config.color:
        raise OptionError("the model's text embedding has no colour: there is nothing to renew")
    if window < 4:
        raise OptionError(f"a window of {window} tokens has no room for a caption: it needs 4 or more")
    torch.manual_seed(seed)
    config = {**model.config, "text_encoder": {**model.config["text_encoder"], "max_position_embeddings": window}}
    renewed = AnyText2Model.from_config(config, model.tokenizer)
    projection = renewed.text_embedding.color_proj
    projection[0].reset_parameters()
    with torch.no_grad():
        projection[0].weight *= COLOR_WEIGHT
        projection[1].weight *= COLOR_GAIN
    fresh = ("text_encoder.", "text_embedding.color_proj.")
    renewed.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith(fresh)},
                            strict=False)
    return renewed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder written by save_pretrained")
    parser.add_argument("output", type=Path, help="folder for the renewed model")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"tokens of a caption's window (default {WINDOW})")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    options = parser.parse_args(arguments)
    renew_text_path(AnyText2Model.from_pretrained(options.model), options.window, options.seed).save_pretrained(
        options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
