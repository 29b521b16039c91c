"""Loss curves of a short run, recorded: over seeds, over instruction sets and threads, and with a fault each.

`anytext course experiment loss_curves` records them, and goes on where an interrupted recording stopped; `anytext
course curves` holds a run to them.  Every run is `anytext fit --config curves.yaml` with some options more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from anytext_lib.course.training_log import read_log
from anytext_lib.device import KERNELS
from anytext_lib.errors import AnyTextError
from anytext_lib.experiments.plan import ExperimentPlan, Sizes, open_plan, write_table
from anytext_lib.files import find_sample
from anytext_lib.training.cli import run

CURVES = ("t/sim", "t/ocr", "t/ctc", "t/grad/all", "v/sim", "v/ocr", "v/ctc")
"""Tags that are held to bands."""
SETTINGS = ("t/lr", "t/loss_alpha", "t/loss_beta")
"""Tags that say how the run was set up."""
START = "data_samples/mini/before"
COMPARED_SEED = 0
PROFILES = {"default": Sizes(seeds=14, steps=20), "quick": Sizes(seeds=2, steps=2)}
KEPT_CONFIG = ("seed_everything", "model", "data")


class RunError(AnyTextError, RuntimeError):
    """A run of the recording failed; the message has its last lines."""

    exit_status = 1


@dataclass(frozen=True)
class TrainingFault:
    """A way to train wrongly.

    Attributes:
        told: in words. ``options``: of `anytext fit`. ``change``: a value in the model's configuration, as (section,
            key, value).
    """

    told: str
    options: tuple[str, ...] = ()
    change: tuple[str, str, Any] | None = None


FAULTS = {
    "alpha_10": TrainingFault("loss_alpha ten times too large", ("--loss_alpha", "15")),
    "ocr_unweighted": TrainingFault("the OCR term without its step weight", (
        "--loss_alpha", "0", "--loss_beta", "0", "--terms",
        "[{name: ocr, weight: 1.5, weighting: uniform}, {name: ctc, weight: 0.1, weighting: abar}]")),
    "other_weighting": TrainingFault("min_snr in the place of abar as step weight", ("--weighting", "min_snr")),
    "ctc_sum": TrainingFault("CTC summed over the 40 frames, not their mean", ("--loss_beta", "4")),
    "rate_10": TrainingFault("a learning rate ten times too large", ("--learning_rate", "3e-3")),
    "rate_tenth": TrainingFault("a tenth of the learning rate", ("--learning_rate", "3e-5")),
    "latents": TrainingFault("latents scaled by Stable Diffusion's 0.18215", change=("vae", "scaling_factor", 0.18215)),
    "schedule": TrainingFault("Stable Diffusion's noise schedule, beta_end 0.012 for 0.02",
                      change=("scheduler", "beta_end", 0.012)),
    "epsilon": TrainingFault("the network taken to predict noise, not v", ("--prediction_type", "epsilon")),
    "data": TrainingFault("other data: scenes of mixed styles", (
        "--data.scenes", "{split: train, epoch_length: 640, style: mixed}")),
    "weights": TrainingFault("started from other weights: mini/early", ("--model.model", "data_samples/mini/early")),
}
MACHINES = (("avx2", 1), ("own", 2), ("avx2", 2), ("sse41", 1))
"""Instruction sets and threads besides (own, 1), which the seeds are run with."""


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs.parquet into ``out``."""
    plan = open_plan("loss_curves", PROFILES, profile, out, device or "cpu", jobs)
    full = profile == "default"
    plan.run_all([(_run, "seed", "course", seed) for seed in range(seeds or plan.profile.seeds)])
    plan.run_all([(_run, "fault", name, COMPARED_SEED) for name in list(FAULTS)[: None if full else 1]])
    plan.run_all([(_run, "machine", f"{kernels}-{threads}", COMPARED_SEED)
                  for kernels, threads in MACHINES[: None if full else 1]])
    parts = plan.results()
    rows = [row for part in parts.values() for row in part["rows"]]
    config = next(part["config"] for part in parts.values() if part["kind"] == "seed")
    origin = plan.provenance() | {"config": config, "seconds": {k: part["seconds"] for k, part in parts.items()}}
    write_table(plan.folder / "runs.parquet", rows, origin)
    print(f"{len(parts)} runs, {len(rows)} values: {plan.folder / 'runs.parquet'}")
    return 0


def fit_arguments(folder: Path, steps: int, seed: int, more: Sequence[str] = ()) -> list[str]:
    """Arguments of `anytext fit` for a run in ``folder``/curves."""
    return ["--config", "curves.yaml", "--runs", str(folder), "--seed_everything", str(seed),
            "--trainer.max_steps", str(steps), *more]


def _run(plan: ExperimentPlan, kind: str, name: str, seed: int) -> tuple[dict, str]:
    """One run: its curves, its configuration, its seconds."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        more = [*_options(name, Path(work)), *(() if plan.device == "cpu" else ("--trainer.accelerator", "auto"))] \
            if kind == "fault" else []
        arguments = fit_arguments(Path(work), plan.profile.steps, seed, more)
        if kind == "machine":
            kernels, threads = name.split("-")
            run_apart(arguments, KERNELS[kernels] | {"OMP_NUM_THREADS": threads})
        else:
            torch.set_num_threads(1)
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                run("fit", [*arguments, "--quiet"])
        log = read_log(Path(work) / "curves")
        config = kept_config(Path(work) / "curves" / "config.yaml")
    rows = [{"kind": kind, "name": name, "seed": seed, "tag": tag, "step": int(step), "value": float(value)}
            for tag in (*CURVES, *SETTINGS) if tag in log for step, value in zip(*log[tag], strict=True)]
    seconds = time.perf_counter() - begin
    return {"kind": kind, "rows": rows, "config": config, "seconds": round(seconds, 1)}, f"{seconds:.0f} s"


def run_apart(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """`anytext fit` in a process of its own, where instruction sets can be chosen.

    Raises:
        RunError: it failed.
    """
    ours = {name for kernels in KERNELS.values() for name in kernels}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "anytext_lib.cli", "fit", *arguments]
    done = subprocess.run(command, env=kept | dict(environment), capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise RunError(f"anytext fit {' '.join(arguments)} ended with {done.returncode}:\n{said}")


def kept_config(path: Path) -> dict[str, Any]:
    """The options of a run that its curves depend on, flat: {"model.loss_alpha": 1.5, ...}."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return flat({name: found[name] for name in KEPT_CONFIG if name in found})


def flat(options: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Nested options by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= flat(value, f"{head}{name}.") if isinstance(value, Mapping) else {f"{head}{name}": value}
    return found


def _options(name: str, work: Path) -> list[str]:
    """The options of a fault; a model with another configuration is made in ``work``."""
    fault = FAULTS[name]
    if fault.change is None:
        return list(fault.options)
    return [*fault.options, "--model.model", str(altered_model(find_sample(START), work / "model", *fault.change))]


def altered_model(source: Path, target: Path, section: str, key: str, value: Any) -> Path:
    """A copy of a saved model with another value in a section of its configuration; returns ``target``."""
    shutil.copytree(source, target)
    for path, inner in ((target / "anytext2.json", section), (target / section / "config.json", None)):
        if path.is_file():
            config = json.loads(path.read_text(encoding="utf-8"))
            (config[inner] if inner else config)[key] = value
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return target
