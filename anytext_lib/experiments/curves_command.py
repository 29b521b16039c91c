"""`anytext course curves`: train the recorded run anew, or take a log, and compare."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import OptionError

ABOUT = """Train the course's short recorded run (20 steps of the mini model with the OCR and CTC terms, about half a
CPU minute) and hold its loss curves to those of the recorded seeds; or take a log that is there. Prints a row for each
curve and writes curves.png into the output folder."""
EPILOG = """Options of `anytext fit` may follow --, to see what a change does: anytext course curves -- --loss_alpha 15.
Exit status: 0 inside the bands, and beside the recorded run of the same seed; 1 outside; 2 the request was wrong."""


def curves_parser() -> ArgumentParser:
    """The parser of `anytext course curves`."""
    parser = ArgumentParser(description=ABOUT, epilog=EPILOG)
    add = parser.add_argument
    add("options", type=str, nargs="*", help="options of anytext fit, after --, as -- --learning_rate 1e-3")
    add("--log", type=Path | None, help="compare this run in place of training: its folder (runs/NAME) or that of its "
        "TensorBoard files; it must be of --config curves.yaml to mean anything")
    add("--steps", type=int | None, help="optimizer steps to train and compare (default: the recorded 20)")
    add("--seed", type=int, default=0, help="of the run; one of the recorded seeds, 0 to 13, is also held to its own "
        "recorded curves")
    add("--out", type=Path, default=Path("build/curves"), help="folder of curves.png and of the run's log "
        "(default: build/curves)")
    return parser


def run_curves(options: Namespace) -> int:
    """Carry out `anytext course curves`; returns the exit status."""
    import matplotlib.pyplot as plt

    from anytext_lib.course.style import PIXELS_PER_INCH
    from anytext_lib.evaluation.report import plain_table
    from anytext_lib.experiments.curve_check import Recorded, check, read_run, rows_of, words_of
    from anytext_lib.experiments.curve_figure import draw
    from anytext_lib.files import atomic_path, require_writable

    if options.log is not None and (options.options or options.steps is not None):
        raise OptionError("--log takes a run that is there: leave out --steps and options of anytext fit")
    recorded = Recorded.read()
    require_writable(options.out, "another --out")
    log, config = read_run(options.log if options.log is not None else _train(options, recorded.seeds))
    found = check(recorded, log, config)
    print(plain_table(rows_of(found, recorded.band)))
    print("\n".join([found.verdict, *words_of(found, recorded)]))
    with atomic_path(options.out / "curves.png") as temporary:
        figure = draw(recorded.band, log, found.departures, found.verdict,
                      recorded.seeds[found.twin.seed] if found.twin else None)
        figure.savefig(temporary, format="png", dpi=PIXELS_PER_INCH)
        plt.close(figure)
    print(f"wrote {options.out / 'curves.png'}")
    return 0 if found.reproduced else 1


def _train(options: Namespace, seeds) -> Path:
    """Train the run; returns OUT/run, which is replaced by its log and configuration."""
    from anytext_lib.experiments.loss_curves import fit_arguments
    from anytext_lib.training.cli import run

    last = len(next(iter(seeds.values()))["t/sim"].steps)
    steps = options.steps if options.steps is not None else last
    if not 1 <= steps <= last:
        raise OptionError(f"--steps is a number from 1 to {last}, as many as were recorded; got {steps}")
    kept = options.out / "run"
    with tempfile.TemporaryDirectory(dir=options.out) as work:
        run("fit", fit_arguments(Path(work), steps, options.seed, options.options))
        made = Path(work) / "curves"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(kept)
        kept.mkdir(parents=True)
        for name in ("config.yaml", "tensorboard"):
            shutil.move(made / name, kept / name)
    print(f"kept {kept}: the run's log and configuration, not its model")
    return kept
