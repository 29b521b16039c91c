"""Noise search and refinement of the small UDiffText: SeqAcc against cost, stored for notebook 13.

    python -m anytext_lib.experiments.noise_search FOLDER

Held-out words are written in every way from the same noises and read by a judge that no loss was computed with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anytext_lib.data import data_folder
from anytext_lib.device import versions
from anytext_lib.experiments.plan import write_table
from anytext_lib.recipes.sampling_cost import measure, summary, try_candidates, ways
from anytext_lib.recipes.udifftext_grid import draw_words


def run(folder: Path, model: str | Path | None = None, half_trained: str | Path | None = None, words: int = 64,
        steps: int = 10, most: int = 5, candidates: int = 4, judge: str = "ppocrv4", seed: int = 7) -> None:
    """Store ``effort.parquet``, a row for each word and way of ``sampling_cost.ways``, and ``candidates.parquet``.

    Args:
        model: folder of a model of ``recipes.udifftext_grid``, by default the one that comes with the course.
        half_trained: folder of one that was stopped early, whose rows are stored beside (column ``stage``).
        most: updates at a step with a goal (upstream 21). ``candidates``: noises that each word is written from.
    """
    from anytext_lib.ocr.judge import Judge
    from anytext_lib.udifftext.model import UDiffTextModel

    stages = {"trained": str(model or data_folder() / "udifftext_mini")}
    stages |= {} if half_trained is None else {"half-trained": str(half_trained)}
    reader, drawn, tables = Judge.from_name(judge), draw_words(words, "test", seed, invented=0.8), ([], [])
    about = {"words": words, "steps": steps, "most": most, "candidates": candidates, "judge": judge, "seed": seed,
             "versions": versions()}
    for stage, source in stages.items():
        writer = UDiffTextModel.load(source)
        for way, sampling in ways(steps, most=most).items():
            rows = [{"stage": stage, "way": way} | row for row in measure(writer, drawn, sampling, reader)]
            print(stage, way, summary(rows, way), flush=True)
            tables[0].extend(rows)
        tried = try_candidates(writer, drawn, candidates, reader, steps)
        tables[1].extend({"stage": stage} | row for row in tried)
        for name, stored in zip(("effort", "candidates"), tables, strict=True):
            write_table(folder / f"{name}.parquet", stored, about)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the two tables")
    parser.add_argument("--model", type=Path, help="folder of the model, by default data_samples/udifftext_mini")
    parser.add_argument("--half-trained", type=Path, help="folder of a model that was stopped early")
    parser.add_argument("--words", type=int, default=64, help="held-out words, default 64")
    parser.add_argument("--steps", type=int, default=10, help="of Euler's method, default 10")
    parser.add_argument("--most", type=int, default=5, help="updates at a step with a goal, default 5, upstream 21")
    parser.add_argument("--candidates", type=int, default=4, help="noises of each word, default 4")
    parser.add_argument("--judge", default="ppocrv4", help="default ppocrv4")
    parser.add_argument("--seed", type=int, default=7, help="of the words, default 7")
    run(**vars(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
