"""The command `anytext course`: the notebooks, the learners' copies, the recorded experiments, logs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.course.timesteps_command import run_timesteps, timesteps_parser
from anytext_lib.errors import CourseError
from anytext_lib.experiments.curves_command import curves_parser, run_curves

PLANNED = ("writing_losses",)  # experiments that are planned in anytext_lib/configs/experiments
EPILOG = (
    "Exit status: 0 all well; 1 a notebook failed, ran out of its budget, recorded nothing or drifted, or a check "
    "found something; 2 the request was wrong; 130 interrupted."
)


def add_course_commands(parser: ArgumentParser) -> None:
    """Give ``parser`` the subcommands.  A parser that is itself a subcommand must have been added to its own before."""
    parts = parser.add_subcommands(required=True)
    parts.add_subcommand("run", _run_parser(), help="execute notebooks and hold their numbers to the baselines")
    parts.add_subcommand("list", _selection("List the notebooks."), help="list the notebooks and their parameters")
    parts.add_subcommand("check", _check_parser(), help="check saved notebooks and learners' copies")
    parts.add_subcommand("exercises", _folder(ArgumentParser(description="Write the learners' copies.")),
                         help="write the learners' copies, without solutions")
    parts.add_subcommand("grade", _grade_parser(), help="run learners' copies and report how each exercise stands")
    parts.add_subcommand("site", _site_parser(), help="build the course as a site, for a browser")
    parts.add_subcommand("colab", _colab_parser(), help="write copies that set themselves up on Google Colab")
    parts.add_subcommand("lab", _lab_parser(), help="open working copies of the notebooks in JupyterLab")
    parts.add_subcommand("experiment", _experiment_parser(), help="run a recorded experiment again")
    parts.add_subcommand("curves", curves_parser(), help="train a short run and hold its loss curves to recorded ones")
    parts.add_subcommand("timesteps", timesteps_parser(), help="explain a run's log by timestep")


def run_course(options: Namespace) -> int:
    """Do what ``options`` (of the parser of `anytext course`) ask; returns the exit status."""
    return COMMANDS[options.subcommand](options[options.subcommand])


def _folder(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--folder", type=Path | None, help="folder of notebooks (default: the repository's)")
    return parser


def _selection(description: str) -> ArgumentParser:
    parser = _folder(ArgumentParser(description=description))
    parser.add_argument("notebooks", type=str, nargs="*", help="numbers or names, as 02 or 02_diffusion (default: all)")
    return parser


def _check_parser() -> ArgumentParser:
    parser = _selection("Check the saved notebooks against the rules of the course.")
    parser.add_argument("--fix", action="store_true",
                        help="first mend what needs no run: links, figures, lines of cost, metadata, learners' copies, "
                             "the README's table")
    return parser


def _grade_parser() -> ArgumentParser:
    parser = _folder(ArgumentParser(description=(
        "Run what learners handed in to its end and report each exercise as passed, wrong, open or not reached. This "
        "runs their code with your rights: grade in a container what you do not trust.")))
    parser.add_argument("handed_in", type=Path, nargs="+",
                        help="notebooks, or a folder with a folder for each student (or with one student's notebooks)")
    parser.add_argument("--only", type=str, nargs="+", default=[], help="numbers of the notebooks to grade, as 02 07")
    parser.add_argument("--profile", type=str, default="quick", help="set of parameters in profiles.yaml")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time")
    parser.add_argument("--out", type=Path | None, help="folder for grades.csv, grades.json and the executed notebooks "
                        "(default: build/grades)")
    parser.add_argument("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    return parser


def _site_parser() -> ArgumentParser:
    parser = _folder(ArgumentParser(description="Build the course as a site from the saved notebooks; nothing is run, "
                                                "nothing downloaded."))
    parser.add_argument("--out", type=Path | None, help="folder of the site (default: build/site)")
    return parser


def _colab_parser() -> ArgumentParser:
    parser = _selection("Write copies of the notebooks that set themselves up on Google Colab.")
    parser.add_argument("--repository", type=str, required=True, help="where Colab clones the course from, "
                        "https://HOST/OWNER/NAME.git")
    parser.add_argument("--branch", type=str, default="main", help="branch or tag (default: main)")
    parser.add_argument("--out", type=Path | None, help="folder of the copies (default: build/colab)")
    return parser


def _lab_parser() -> ArgumentParser:
    parser = _folder(ArgumentParser(description="Open the course in JupyterLab, on copies in the folder work."))
    parser.add_argument("options", type=str, nargs="*", help="options of JupyterLab, after --, as -- --no-browser")
    return parser


def _run_parser() -> ArgumentParser:
    parser = _selection("Execute notebooks.")
    parser.epilog = EPILOG
    parser.add_argument("--profile", type=str, default="default", help="set of parameters in profiles.yaml")
    parser.add_argument("-p", "--parameter", action="append", metavar="NAME=VALUE",
                        help="override a parameter of every selected notebook; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time")
    parser.add_argument("--check", action="store_true", help="compare recorded numbers with the baselines")
    parser.add_argument("--update-baselines", action="store_true", help="make the recorded numbers the baselines")
    parser.add_argument("--in-place", action="store_true", help="publish: write outputs back into notebooks/")
    parser.add_argument("--out", type=Path | None, help="folder for executed notebooks (default: build/notebooks/...)")
    parser.add_argument("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    parser.add_argument("--budget-factor", type=float, default=1.0, help="stretch all time budgets by this factor")
    return parser


def _experiment_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Run a recorded experiment again, or one that is planned in a file. An "
                                        "interrupted one goes on with the same command.")
    parser.add_argument("name", help="the experiment; writing_losses is planned in a file", type=Literal[
        "ocr_losses", "objectives", "beyond", "patches", "loss_curves", *PLANNED])
    parser.add_argument("--profile", type=str, default="default", help="quick, default or gpu")
    parser.add_argument("--stage", type=str | None, help="of a planned one: tune, run, measure or summarise alone "
                                                         "(default: all, seed by seed)")
    parser.add_argument("--plan", type=Path | None, help="of a planned one: another plan (default: the course's, "
                                                         "anytext_lib/configs/experiments/NAME.yaml)")
    parser.add_argument("--models", type=Path | None, help="of a planned one: folder with the checkpoints that the "
                                                           "plan names (default: in data_samples)")
    parser.add_argument("--out", type=Path | None, help="folder of the results (default: build/experiments/NAME)")
    parser.add_argument("--seeds", type=int | None, help="number of seeds (default: the profile's)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the cores")
    parser.add_argument("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    return parser


def parse_parameters(pairs: Sequence[str] | None) -> dict[str, Any]:
    """["n=3", "name=x"] as {"n": 3, "name": "x"}: Python literals, else text. Raises CourseError without a `=`."""
    found = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise CourseError(f"-p {pair!r}: write NAME=VALUE, as in -p steps=20.")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def run(options: Namespace) -> int:
    """`anytext course run`."""
    from anytext_lib.publishing import run as runner

    if options.check and options.update_baselines:
        raise CourseError("--check and --update-baselines exclude each other: compare, or replace.")
    return runner.run(runner.RunRequest(
        notebooks=options.notebooks, profile=options.profile, parameters=parse_parameters(options.parameter),
        jobs=options.jobs, check=options.check, update_baselines=options.update_baselines, in_place=options.in_place,
        out=options.out, folder=options.folder, device=options.device, budget_factor=options.budget_factor,
    ))


def list_notebooks(options: Namespace) -> int:
    """`anytext course list`."""
    from anytext_lib.publishing import notebooks
    from anytext_lib.publishing.notebooks import load_profiles

    folder = notebooks_folder(options.folder)
    profiles = load_profiles(folder)
    for book in notebooks.select(notebooks.find_books(folder), options.notebooks):
        budgets = [f"{name} {profile.setting(book.number).budget_seconds:g} s"
                   for name, profile in profiles.profiles.items()]
        print(f"{book.name}\n    {profiles.questions.get(book.number, '(not in profiles.yaml)')}")
        print(f"    budgets: {', '.join(budgets)}")
        for name, (value, comment) in notebooks.parameters_of(notebooks.read(book.path), book.name).items():
            print(f"    {name} = {value!r}  # {comment}")
    return 0


def check(options: Namespace) -> int:
    """`anytext course check`."""
    from anytext_lib.publishing import notebooks, pages
    from anytext_lib.publishing.rules import check_course, check_notebook

    folder = notebooks_folder(options.folder)
    chosen = notebooks.select(notebooks.find_books(folder), options.notebooks)
    for path in pages.fix(folder, chosen) if options.fix else []:
        print(f"mended {path.relative_to(folder)}")
    problems = [problem for book in chosen for problem in check_notebook(book.path)]
    if not options.notebooks:
        problems += check_course(folder)
    for problem in problems:
        print(problem)
    print(f"{len(chosen)} notebooks checked, {len(problems)} problems found.")
    return 1 if problems else 0


def exercises(options: Namespace) -> int:
    """`anytext course exercises`."""
    from anytext_lib.publishing.learners_copies import write_copies

    for path in write_copies(notebooks_folder(options.folder)):
        print(f"wrote {path.parent.name}/{path.name}")
    return 0


def grade(options: Namespace) -> int:
    """`anytext course grade`."""
    from anytext_lib.publishing import grading

    return grading.grade(grading.GradeRequest(
        handed_in=options.handed_in, only=options.only, profile=options.profile, jobs=options.jobs, out=options.out,
        folder=options.folder, device=options.device,
    ))


def colab(options: Namespace) -> int:
    """`anytext course colab`."""
    from anytext_lib.publishing import notebooks
    from anytext_lib.publishing.colab import write_colab

    folder = notebooks_folder(options.folder)
    chosen = notebooks.select(notebooks.find_books(folder), options.notebooks)
    target = options.out or folder.parent / "build" / "colab"
    for path in write_colab(chosen, target, options.repository, options.branch):
        print(f"wrote {path}")
    return 0


def site(options: Namespace) -> int:
    """`anytext course site`."""
    from anytext_lib.publishing import notebooks
    from anytext_lib.publishing.site import build_site

    folder = notebooks_folder(options.folder)
    books = notebooks.find_books(folder)
    out = (options.out or folder.parent / "build" / "site").resolve()
    warnings = build_site.build(folder, books, out)
    print(f"{len(books)} notebooks, {warnings} warnings. Open {out / 'index.html'} in a browser.")
    return 1 if warnings else 0


def lab(options: Namespace) -> int:
    """`anytext course lab`."""
    from anytext_lib.publishing.workspace import open_lab

    return open_lab(notebooks_folder(options.folder), options.options)


def experiment(options: Namespace) -> int:
    """`anytext course experiment`."""
    if options.name in PLANNED:
        stages = import_module("anytext_lib.experiments.study_stages")
        return stages.main(options.name, options.profile, options.out, options.seeds, options.device, options.jobs,
                           options.stage, options.models, options.plan)
    if options.stage or options.models or options.plan:
        raise CourseError(f"--stage, --models and --plan are for planned experiments, {options.name} is a recorded one")
    chosen = import_module(f"anytext_lib.experiments.{options.name}")
    return chosen.main(options.profile, options.out, options.seeds, options.device, options.jobs)


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "run": run, "list": list_notebooks, "check": check, "exercises": exercises, "grade": grade,
    "site": site, "colab": colab, "lab": lab, "experiment": experiment, "curves": run_curves,
    "timesteps": run_timesteps,
}
