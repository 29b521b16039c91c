"""`anytext course timesteps`: the log of a run explained by timestep, as a figure and in words."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import OptionError

ABOUT = """Explain the TensorBoard log of a run of `anytext fit` by timestep: how far each term errs at which noise,
what it adds to the loss there, and how that moves during the run; as a figure and in words. In a notebook, with a
slider over the steps: from anytext_lib.course import explain_log; explain_log("runs/mini")."""


def timesteps_parser() -> ArgumentParser:
    """The parser of `anytext course timesteps`."""
    parser = ArgumentParser(description=ABOUT)
    parser.add_argument("log", type=Path, help="folder of the run (runs/NAME), or of its TensorBoard files")
    parser.add_argument("--step", type=int | None, help="stress the stage of the run that this optimizer step belongs "
                        "to (default: thirds of the run in colours)")
    parser.add_argument("--out", type=Path, default=Path("timesteps.png"), help="the figure (default: timesteps.png)")
    return parser


def run_timesteps(options: Namespace) -> int:
    """Carry out `anytext course timesteps`; returns the exit status."""
    import textwrap

    import matplotlib.pyplot as plt

    from anytext_lib.course.log_by_timestep import FEW, by_timestep, draw, words
    from anytext_lib.course.style import PIXELS_PER_INCH
    from anytext_lib.course.training_log import read_log
    from anytext_lib.files import atomic_path

    if options.out.suffix.lower() != ".png":
        raise OptionError(f"the figure is a PNG file: name it something.png, not {options.out.name}")
    log, stage = read_log(options.log), None
    found = by_timestep(log, FEW)
    print("\n\n".join(textwrap.fill(each, 110) for each in words(found)))
    if options.step is not None:
        if not 0 <= options.step <= found.steps[-1]:
            raise OptionError(f"--step is one of the run, 0 to {found.steps[-1]}, got {options.step}")
        found = by_timestep(log)
        stage = next(i for i, last in enumerate(found.steps) if options.step <= last)
    with atomic_path(options.out) as temporary:
        figure = draw(found, stage)
        figure.savefig(temporary, format="png", dpi=PIXELS_PER_INCH)
        plt.close(figure)
    print(f"\nwrote {options.out}")
    return 0
