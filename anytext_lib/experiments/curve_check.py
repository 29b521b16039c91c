"""A run held to the recorded curves: what is inside, what left its band and when, and what may be the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.course.training_log import Curve, LogError, find_log, read_log
from anytext_lib.errors import CourseError
from anytext_lib.experiments.curve_bands import (
    Band,
    Curves,
    Departure,
    calibrated,
    departures,
    false_alarms,
    gap,
    runs_of,
    smoothed,
)
from anytext_lib.experiments.loss_curves import COMPARED_SEED, CURVES, FAULTS, SETTINGS, kept_config
from anytext_lib.experiments.plan import read_table
from anytext_lib.files import data_folder

TWIN_FACTOR = 5.0  # times the largest gap between instruction sets and threads
LEAST_GAP = 1e-3  # relative: printed digits of a log that was written by hand
SHOWN = 6  # options that differ


@dataclass(frozen=True)
class Recorded:
    """The recorded runs, and what follows from them.

    Attributes:
        seeds, faults: runs by seed and by the fault's name. ``machines``: runs of one seed on other instruction sets.
        config: options of the runs. ``band``: of all seeds. ``alarms``: seeds that leave the others' band.
        gaps: by tag, the largest relative difference between machines.
    """

    seeds: dict[int, Curves]
    faults: dict[str, Curves]
    machines: dict[str, Curves]
    config: dict[str, Any]
    band: Band
    alarms: int
    gaps: dict[str, float]

    @classmethod
    def read(cls, path: Path | None = None) -> Recorded:
        """The record in ``path``; by default the course's own.

        Raises:
            CourseError: see ``read_table`` and ``of``.
        """
        return cls.of(*read_table(path or data_folder() / "experiments" / "loss_curves" / "runs.parquet"))

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], origin: Mapping[str, Any]) -> Recorded:
        """The record of the rows and the provenance of a table. CourseError: too few seeds."""
        kinds: dict[str, dict] = {"seed": {}, "fault": {}, "machine": {}}
        for (kind, name, seed), run in runs_of(rows).items():
            kinds[kind][seed if kind == "seed" else name] = run
        seeds, machines = kinds["seed"], kinds["machine"]
        if len(seeds) < 4:
            raise CourseError(f"the record holds {len(seeds)} seeds, and a band needs four: record more of them.")
        runs = list(seeds.values())
        away = [gap(run, seeds[COMPARED_SEED], CURVES) for run in machines.values()]
        gaps = {tag: float(max(np.expm1(each[tag].max()) for each in away)) for tag in CURVES} if away else {}
        return cls(seeds, kinds["fault"], machines, origin["config"], calibrated(runs, CURVES),
                   false_alarms(runs, CURVES), gaps)


@dataclass(frozen=True)
class Twin:
    """A run beside the recorded one of its seed: by tag the largest relative gap, and the first step above the limit
    (None: never)."""

    seed: int
    gaps: dict[str, float]
    first: dict[str, int | None]

    @property
    def same(self) -> bool:
        return all(step is None for step in self.first.values())


@dataclass(frozen=True)
class Check:
    """What was found. ``reasons``: in words, the surest first; ``missing``: curves that the run does not have."""

    departures: dict[str, Departure]
    twin: Twin | None
    missing: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        """Tags of the curves that leave their band, the earliest first."""
        left = {tag: each.first for tag, each in self.departures.items() if each.first is not None}
        return sorted(left, key=lambda tag: left[tag])

    @property
    def verdict(self) -> str:
        """In a line whether the run is reproduced, and if not, what it leaves."""
        if self.outside:
            return f"not reproduced: {', '.join(self.outside)} outside"
        if self.twin is None:
            return "inside the bands; only a run with one of the recorded seeds is held to more"
        if not self.twin.same:
            return f"not reproduced: inside the bands, but not the recorded run of seed {self.twin.seed}"
        return "reproduced"

    @property
    def reproduced(self) -> bool:
        """Whether the run stays inside, and beside the recorded one of its seed."""
        return not self.outside and (self.twin is None or self.twin.same)


def read_run(path: Path) -> tuple[dict[str, Curve], dict[str, Any]]:
    """Curves of a run, and its options where ``config.yaml`` lies beside its log (of `anytext fit`).

    Raises:
        MissingFileError, LogError: there is no log, or it has none of the curves, or not every step of them.
    """
    log = read_log(path)
    if not any(tag in log for tag in CURVES):
        raise LogError(f"the log in {path} has none of the curves {', '.join(CURVES)}: give one of `anytext fit`")
    for tag in CURVES:
        steps = log[tag].steps if tag in log else np.zeros(0)
        if not tag.startswith("v/") and not np.array_equal(steps, np.arange(len(steps))):
            raise LogError(f"the log in {path} has {tag} at steps {steps[:3].tolist()}...: the bands are of "
                           "every step from 0 on; train with --config curves.yaml (trainer.log_every_n_steps: 1)")
    folder = find_log(path)
    file = next((place / "config.yaml" for place in (folder, folder.parent) if (place / "config.yaml").is_file()), None)
    return log, kept_config(file) if file else {}


def check(recorded: Recorded, log: Curves, config: Mapping[str, Any]) -> Check:
    """Hold a run to the record; ``config``: its options as of ``kept_config``, may be empty.

    Raises:
        LogError: it has no step in common with the record.
    """
    found = departures(recorded.band, log)
    if not found:
        raise LogError("the log has no step in common with the recorded curves: train with --config curves.yaml")
    twin = twin_of(recorded, log, config.get("seed_everything"))
    missing = [tag for tag in CURVES if tag not in found]
    plain = Check(found, twin, missing)
    return plain if plain.reproduced else Check(found, twin, missing, reasons(recorded, log, config))


def twin_of(recorded: Recorded, log: Curves, seed: int | None) -> Twin | None:
    """The run beside the recorded one of its seed; None where that seed was not recorded."""
    if seed not in recorded.seeds or not recorded.gaps:
        return None
    away = gap(log, recorded.seeds[seed], CURVES)
    steps = {tag: log[tag].steps[np.isin(log[tag].steps, recorded.seeds[seed][tag].steps)] for tag in away}
    limit = {tag: max(LEAST_GAP, TWIN_FACTOR * recorded.gaps[tag]) for tag in away}
    relative = {tag: np.expm1(each) for tag, each in away.items() if len(each)}
    first = {tag: next((int(s) for s, g in zip(steps[tag], each, strict=True) if g > limit[tag]), None)
             for tag, each in relative.items()}
    return Twin(seed, {tag: float(each.max()) for tag, each in relative.items()}, first)


def reasons(recorded: Recorded, log: Curves, config: Mapping[str, Any]) -> list[str]:
    """What is different about a run: settings that it logged, options, and recorded faults with the same curves."""
    any_seed = next(iter(recorded.seeds.values()))
    told = [f"{tag} is {log[tag].values[0]:g} at step {log[tag].steps[0]}, recorded {any_seed[tag].values[0]:g}"
            for tag in SETTINGS
            if tag in log and not np.isclose(log[tag].values[0], any_seed[tag].values[0], rtol=1e-4)]
    other = {name: value for name, value in config.items()
             if name != "seed_everything" and name in recorded.config and value != recorded.config[name]}
    other |= {name: value for name, value in config.items() if name.startswith("data.scenes") and
              name not in recorded.config}
    told += [f"{name} is {value!r}, recorded {recorded.config.get(name)!r}"
             for name, value in list(other.items())[:SHOWN]]
    if alike := like_faults(recorded, log, config.get("seed_everything")):
        name = min(alike, key=lambda fault: alike[fault])
        like = "like" if config.get("seed_everything") == COMPARED_SEED else "within the bands' width of"
        told.append(f"its curves are {like} those of a recorded fault: {FAULTS[name].told}")
    return told or ["no recorded fault has such curves, and no setting that the log tells differs: look at data, model "
                    "and code"]


def like_faults(recorded: Recorded, log: Curves, seed: int | None) -> dict[str, float]:
    """Recorded faults that have such curves, with their distance.

    Of the seed of the faults: those that the run is four times nearer to than to the sound run. Of another seed, or an
    unknown one: those that leave the bands themselves, at a distance at which a band ends.
    """
    limit = recorded.band.factor
    if seed == COMPARED_SEED:
        limit = likeness(recorded.band, log, recorded.seeds[seed]) / 4
    found = {name: likeness(recorded.band, log, run) for name, run in recorded.faults.items()
             if seed == COMPARED_SEED or any(each.outside.any() for each in departures(recorded.band, run).values())}
    return {name: distance for name, distance in found.items() if distance <= limit}


def likeness(band: Band, run: Curves, other: Curves) -> float:
    """Largest distance of two runs' curves, in deviations of the difference of two seeds."""
    worst = 0.0
    for tag, spread in band.spread.items():
        if tag not in run:
            continue
        count = min(len(run[tag].values), len(other[tag].values), len(spread))
        away = smoothed(tag, run[tag].values[:count]) - smoothed(tag, other[tag].values[:count])
        worst = max(worst, float(np.abs(away / (np.sqrt(2) * spread[:count])).max(initial=0)))
    return worst


def rows_of(found: Check, band: Band) -> list[tuple[str, ...]]:
    """The table, a row a curve, with its head."""
    rows = [("curve", "", "steps", "first outside", "there, times the middle", "furthest, times the middle",
             "band there")]
    for tag, each in found.departures.items():
        first = np.flatnonzero(each.outside)[:1]
        low, high = (edge / np.exp(band.middle[tag]) for edge in band.edges(tag))
        at = int(np.flatnonzero(band.steps[tag] == each.steps[each.furthest])[0])
        rows.append((tag, "outside" if len(first) else "inside", str(len(each.steps)),
                     f"step {each.first}" if len(first) else "", f"{each.ratio[first[0]]:.3g}" if len(first) else "",
                     f"{each.ratio[each.furthest]:.3g}, step {each.steps[each.furthest]}",
                     f"{low[at]:.2g} to {high[at]:.2g}"))
    return rows + [(tag, "not there", "0", "", "", "", "") for tag in found.missing]


def words_of(found: Check, recorded: Recorded) -> list[str]:
    """The verdict in sentences."""
    said = []
    if found.twin is not None:
        tag = max(found.twin.gaps, key=lambda name: found.twin.gaps[name] / max(LEAST_GAP, recorded.gaps[name]))
        late = {name: step for name, step in found.twin.first.items() if step is not None}
        said.append(f"beside the recorded run of seed {found.twin.seed}: " + (
            f"the same, {tag} differs by at most {found.twin.gaps[tag]:.2g} of its value; other instruction sets and "
            f"threads differed by {recorded.gaps[tag]:.2g}" if not late else
            ", ".join(f"{name} differs from step {step} on (by up to {found.twin.gaps[name]:.2g} of its value; other "
                      f"instruction sets and threads: {recorded.gaps[name]:.2g})"
                      for name, step in sorted(late.items(), key=lambda item: item[1])[:3])))
    count = len(recorded.seeds)
    said.append(f"a sound run with a fresh seed leaves the bands about once in {count + 1} times ({recorded.alarms} of "
                f"{count} recorded seeds leave those of the others)")
    said += [f"possible reason: {reason}" for reason in found.reasons]
    return said
