"""The mini model between its trainings, and how well it writes.

    python -m anytext_lib.recipes.mini text_path runs/mini_pretrain/model runs/mini_told_start
    python -m anytext_lib.recipes.mini score data_samples/mini/after --scenes 200 --sheet sheet.png

``text_path`` gives a model a fresh caption encoder and a fresh projection of colours: one that is trained from scratch
may learn to ignore its captions.  The ``*`` is one of 77 tokens that attention averages, and a colour enters as
LayerNorm(W rgb + b) with rgb in 0..255, where a usual W leaves b no say, so that dark and bright colours are the same
token.  Here the captions get a short window and the colours a small W, and all other weights stay.  Training at high
noise (``mini_told.yaml``), where the colour of the text tells most about the picture, then opens the way from the token
to the picture.

``score`` prints JSON, for words that the model has never seen: Sen.Acc and NED by independent judges and by the
recogniser that the loss reads with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, collate
from anytext_lib.device import pick_device
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.judge_samples import score_samples
from anytext_lib.generation import sample_images
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr import Judge
from anytext_lib.recipes.reconstruction import sheet_of_pairs
from anytext_lib.scenes.scene_dataset import SceneDataset

WINDOW = 16  # tokens of a caption's window, with its two markers
COLOR_WEIGHT = 1 / 60  # of W's usual size: W rgb is then a few times b
COLOR_GAIN = 5.0  # of the colour's LayerNorm: a colour is the louder part of its line's token
SEED = 21  # of the scenes and of the starting noise


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
    renew_colors(renewed)
    fresh = ("text_encoder.", "text_embedding.color_proj.")
    renewed.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith(fresh)},
                            strict=False)
    return renewed


def renew_colors(model: AnyText2Model) -> None:
    """Give the projection of colours fresh weights, a small W and a large gain."""
    projection = model.text_embedding.color_proj
    projection[0].reset_parameters()
    with torch.no_grad():
        projection[0].weight *= COLOR_WEIGHT
        projection[1].weight *= COLOR_GAIN


def held_out(count: int, split: str = "test", batch_size: int = 32) -> Iterator[AnyTextBatch]:
    """The first ``count`` scenes of a split, in batches."""
    scenes = SceneDataset(seed=SEED, split=split, epoch_length=count)
    for first in range(0, count, batch_size):
        yield collate([scenes[i] for i in range(first, min(first + batch_size, count))])


def score(model: AnyText2Model, scenes: int = 200, split: str = "test", judges: tuple[str, ...] = ("ppocrv4",),
          steps: int = 20, guidance: float = 1.0) -> dict:
    """Sen.Acc and NED of every judge, and of the training recogniser, with the settings that they hold for.

    Args:
        scenes: number of scenes, one word each. ``split``: whose words; "test" must choose no hyper-parameters.
        steps, guidance: of DDIM.
    """
    readers = {name: Judge.from_name(name) for name in judges} | {"training recogniser": model.reader}
    begin = time.perf_counter()
    found = score_samples(model, (batch.to(model.device) for batch in held_out(scenes, split)), readers, steps,
                          guidance, SEED)
    return {"scenes": scenes, "split": split, "sampler": f"DDIM, {steps} steps, guidance {guidance:g}", "seed": SEED,
            "seconds": round(time.perf_counter() - begin, 1),
            **{name: {"sen_acc": round(s.sentence_accuracy, 4), "ned": round(s.ned, 4)} for name, s in found.items()}}


def sheet(model: AnyText2Model, count: int = 12, steps: int = 20, guidance: float = 1.0) -> np.ndarray:
    """(H, W, 3) uint8: the first scenes of "test", four a row, each above what the model writes in its place."""
    batch = next(held_out(count, batch_size=count)).to(model.device)
    with eval_mode(model):
        written = sample_images(model, batch, steps, guidance, SEED, places=batch.indices.tolist())
    return sheet_of_pairs(batch.images, written)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    renew = commands.add_parser("text_path", help="a fresh start for the text path")
    renew.add_argument("model", type=Path, help="folder written by save_pretrained")
    renew.add_argument("output", type=Path, help="folder for the renewed model")
    renew.add_argument("--window", type=int, default=WINDOW, help=f"tokens of a caption's window (default {WINDOW})")
    renew.add_argument("--seed", type=int, default=0, help="of the random weights (default 0)")
    scored = commands.add_parser("score", help="how much of what it writes can be read")
    scored.add_argument("model", type=Path, help="folder written by save_pretrained")
    scored.add_argument("--scenes", type=int, default=200)
    scored.add_argument("--split", default="test", choices=["validation", "test"])
    scored.add_argument("--judges", nargs="+", default=["ppocrv4"], help="ppocrv4, tesseract")
    scored.add_argument("--sheet", type=Path, help="PNG of twelve scenes, true above written")
    options = parser.parse_args(arguments)
    if options.command == "text_path":
        model = renew_text_path(AnyText2Model.from_pretrained(options.model), options.window, options.seed)
        model.save_pretrained(options.output)
        return 0
    model = AnyText2Model.from_pretrained(options.model, pick_device()).eval()
    print(json.dumps(score(model, options.scenes, options.split, tuple(options.judges)), indent=1))
    if options.sheet:
        from PIL import Image

        Image.fromarray(sheet(model)).save(options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
