"""What every recorded experiment has: sizes, arms that are compared, a plan of runs, and results on disk.

Each result is a JSON file while an experiment goes on, and none is made twice; at the end they become Parquet tables
with their provenance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anytext_lib.device import cpu_count, machine, pick_device, versions
from anytext_lib.errors import CourseError
from anytext_lib.files import atomic_path, write_json
from anytext_lib.losses.terms import Term, simple
from anytext_lib.losses.weights import uniform

PROVENANCE = b"anytext.provenance"
SIMPLE = Term("simple", simple)
KEPT: dict[Path, ProcessPoolExecutor] = {}  # worker processes of ``keep_workers``, by the folder of the results
Measured = Mapping[str, Any]
"""What was measured at the start: lengths of gradients, seconds, and the weights that follow."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of an experiment; the defaults are those of the one about the OCR losses.

    Attributes:
        seeds: paired repetitions. ``steps``, ``batch``: of fine-tuning. ``scenes``: to fine-tune on.
        words: held-out scenes that are written and read; ``tune_words`` those on which weights are chosen;
            ``invented``: share of made-up words among both; ``style``: of all scenes, see ``scenes.scene_dataset``.
        probes: scenes whose losses are followed.
        probe_times: timesteps of the probes. ``probe_every``: steps between them.
        loss_alpha, loss_beta: weights of the arms with reading losses.
        learning_rate: peak of one cycle. ``calibration``: batches on which gradients are compared.
        sampling_steps, guidance: of DDIM. ``judges``: who reads; the training recogniser always does as well.
        starts: folders in data_samples, by the name of the starting point.
        detector_steps: training steps of the DB detector. ``timed``: steps of each arm that are timed.
        ladder: timesteps at which gradients are measured. ``pictures``: words kept as pictures.
        updates: policy updates of a reward run, each on ``groups`` scenes with ``per_scene`` samples of
            ``reward_steps`` DDIM steps with ``eta``, of which ``reward_trained`` are learnt from.
        reward_rate: learning rate of the policy.
    """

    seeds: int = 5
    steps: int = 30
    batch: int = 8
    scenes: int = 320
    words: int = 40
    tune_words: int = 40
    invented: float = 0.0
    style: str = "plain"
    probes: int = 8
    probe_times: tuple[int, ...] = (300, 500, 700)
    probe_every: int = 10
    loss_alpha: float = 1.5
    loss_beta: float = 0.1
    learning_rate: float = 5e-4
    calibration: int = 6
    sampling_steps: int = 20
    guidance: float = 1.0
    judges: tuple[str, ...] = ("ppocrv4",)
    starts: tuple[tuple[str, str], ...] = (("under-trained", "mini/early"), ("converged", "mini/before"))
    detector_steps: int = 160
    timed: int = 4
    ladder: tuple[int, ...] = (0, 10, 50, 150, 250, 350, 450, 550, 650, 800, 950)
    pictures: int = 4
    updates: int = 10
    groups: int = 4
    per_scene: int = 4
    reward_steps: int = 6
    reward_trained: int = 6
    eta: float = 1.0
    reward_rate: float = 2e-4


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        name: in the tables. ``label``: in figures.
        terms: (profile, measured) -> what is trained with.
        steps: (profile, measured) -> number of optimizer steps; by default the profile's.
        watched: read by a third judge as well, and pictures are kept.
    """

    name: str
    label: str
    terms: Callable[[Sizes, Measured], list[Term]]
    steps: Callable[[Sizes, Measured], int] = lambda profile, measured: profile.steps
    watched: bool = False


def find_arm(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of a name."""
    return next(arm for arm in arms if arm.name == name)


def weights_row(terms: Sequence[Term]) -> dict[str, float | bool]:
    """The weights of a list of terms, by the names that the options of training have."""
    by_name = {term.name: term for term in terms}
    weight = {name: float(by_name[name].weight_at(None)) if name in by_name else 0.0
              for name in ("ocr", "ctc", "region")}
    plain = "ocr" in by_name and by_name["ocr"].weighting is uniform
    return {"loss_alpha": weight["ocr"], "loss_beta": weight["ctc"], "with_step_weight": not plain,
            "region_weight": 1 + weight["region"]}


@dataclass(frozen=True)
class ExperimentPlan:
    """Where and how the runs of an experiment are made.

    Attributes:
        experiment, name: of the experiment and of the profile. ``profile``: its sizes. ``folder``: of the results.
        device: where to compute. ``jobs``: runs at a time; they share the cores.
        threads: of each run, by default a fair share of the cores.
    """

    experiment: str
    name: str
    profile: Sizes
    folder: Path
    device: str
    jobs: int
    threads: int | None = None

    def path(self, *parts: Any) -> Path:
        """The file of one result."""
        return self.folder / "parts" / ("-".join(str(part) for part in parts) + ".json")

    def claim(self, **others: Any) -> None:
        """Refuse a folder that holds results of other sizes, or of other values of ``others``."""
        stamp = self.folder / "profile.json"
        mine = json.loads(json.dumps({"profile": self.name, **asdict(self.profile), **others}))
        kept = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else mine
        if differing := sorted(key for key in {*kept, *mine} if kept.get(key) != mine.get(key)):
            raise CourseError(f"{self.folder} holds results of other sizes ({', '.join(differing)}): choose another "
                              "--out, or remove it.")
        write_json(stamp, mine)

    def run_all(self, tasks: Sequence[tuple]) -> None:
        """Run the tasks whose result is not there yet: in this process, or ``jobs`` at a time in processes of
        their own, which end when this one does."""
        missing = [task for task in tasks if not self.path(task[0].__name__.strip("_"), *task[1:]).exists()]
        for count, (task, summary) in enumerate(self._summaries(missing), 1):
            named = " ".join(str(part) for part in task[1:])
            print(f"[{count}/{len(missing)}] {task[0].__name__.strip('_')} {named}: {summary}", flush=True)

    @contextmanager
    def keep_workers(self) -> Iterator[None]:
        """Within the block all calls of ``run_all`` use the same processes, and so what these have in memory."""
        if self.jobs < 2:
            yield
            return
        with self._pool(self.jobs) as pool:
            KEPT[self.folder] = pool
            try:
                yield
            finally:
                del KEPT[self.folder]

    @staticmethod
    def _pool(jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, get_context("spawn"), _end_with_parent)

    def _summaries(self, tasks: Sequence[tuple]) -> Iterator[tuple[tuple, str]]:
        if self.jobs < 2 or not tasks:
            yield from ((task, _work(self, *task)) for task in tasks)
            return
        kept = KEPT.get(self.folder)
        with nullcontext(kept) if kept else self._pool(min(self.jobs, len(tasks))) as pool:
            running = {pool.submit(_work, self, *task): task for task in tasks}
            yield from ((running[done], done.result()) for done in as_completed(running))

    def results(self) -> dict[str, Any]:
        """All results so far, by the name of their file."""
        paths = sorted((self.folder / "parts").glob("*.json"))
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def provenance(self) -> dict[str, Any]:
        """What tables of this experiment say about their origin."""
        return {"experiment": self.experiment, "profile": self.name, "sizes": asdict(self.profile),
                "machine": machine(self.device, cpu_count()), "versions": versions()}


def open_plan(experiment: str, profiles: Mapping[str, Sizes], name: str, out: Path | None, device: str | None,
              jobs: int) -> ExperimentPlan:
    """The plan of an experiment, in ``out`` or in build/experiments.

    Raises:
        CourseError: there is no profile of this name, or the folder holds results of other sizes.
    """
    if name not in profiles:
        raise CourseError(f"there is no profile {name!r}: choose one of {', '.join(profiles)}.")
    plan = ExperimentPlan(experiment, name, profiles[name], out or Path("build/experiments") / experiment,
                str(pick_device(device)), jobs)
    plan.claim()
    return plan


def scores_in_words(found: Mapping[str, Any]) -> str:
    """The judge's scores of a result, for the line of progress."""
    return f"Sen.Acc {found['ppocrv4_acc']:.3f}, NED {found['ppocrv4_ned']:.3f}"


def _end_with_parent() -> None:
    """End this worker when the process that began it ends, however that happens."""
    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _work(plan: ExperimentPlan, function, *arguments) -> str:
    """Use a fair share of the cores, run, store."""
    import torch

    torch.set_num_threads(plan.threads or max(1, cpu_count() // plan.jobs))
    result, summary = function(plan, *arguments)
    write_json(plan.path(function.__name__.strip("_"), *arguments), result)
    return summary


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Write rows as Parquet with the provenance in the file's metadata, in one step."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    table = table.replace_schema_metadata({PROVENANCE: json.dumps(provenance).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and provenance of a table of ``write_table``.

    Raises:
        CourseError: no such file, or one of another origin.
    """
    if not path.is_file():
        raise CourseError(f"there is no table {path}: `anytext course experiment` writes it.")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise CourseError(f"{path} is not a complete Parquet file ({error}): run the experiment again.") from error
    stored = (table.schema.metadata or {}).get(PROVENANCE)
    if stored is None:
        raise CourseError(f"{path} says nothing about its provenance: it was not written by `anytext course "
                          "experiment`.")
    return table.to_pylist(), json.loads(stored)
