"""How well a mini model writes words that it has never seen, and a sheet of what it wrote.

    python -m anytext_lib.training.score data_samples/mini/after --scenes 200 --sheet sheet.png

prints JSON: Sen.Acc and NED by independent judges and by the recogniser that the loss reads with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anytext_lib.data.batch import AnyTextBatch, collate, to_uint8
from anytext_lib.device import pick_device
from anytext_lib.evaluation.judge_samples import score_samples
from anytext_lib.generation import sample_images
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr import Judge
from anytext_lib.scenes.scene_dataset import SceneDataset

SEED = 21  # of the scenes and of the starting noise


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
    pairs = [np.pad(np.concatenate(pair), ((0, 6), (0, 6), (0, 0)), constant_values=255)
             for pair in zip(to_uint8(batch.images), to_uint8(written), strict=True)]
    return np.concatenate([np.concatenate(pairs[i : i + 4], axis=1) for i in range(0, len(pairs) - 3, 4)])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder written by save_pretrained")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    parser.add_argument("--judges", nargs="+", default=["ppocrv4"], help="ppocrv4, tesseract")
    parser.add_argument("--sheet", type=Path, help="PNG of twelve scenes, true above written")
    options = parser.parse_args(arguments)
    model = AnyText2Model.from_pretrained(options.model, pick_device()).eval()
    print(json.dumps(score(model, options.scenes, options.split, tuple(options.judges)), indent=1))
    if options.sheet:
        from PIL import Image

        Image.fromarray(sheet(model)).save(options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
