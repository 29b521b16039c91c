"""A plan of an experiment as a file: arms with their hypotheses, ladders, sizes and the rule of decision, in YAML.

What is in the file is decided before anything runs; `anytext_lib/configs/experiments` has them, with the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from anytext_lib.errors import CourseError
from anytext_lib.experiments.plan import Sizes

PLANS = Path(__file__).resolve().parents[1] / "configs" / "experiments"


@dataclass(frozen=True)
class PlannedArm:
    """One arm of a plan.

    Attributes:
        name: in tables. ``label``: in figures. ``hypothesis``: what is expected, said beforehand.
        terms: descriptions for ``losses.make_term``, without weights where a ladder of strengths chooses them; the
            diffusion loss is added unless they name it; "detected" is the term of the DB detector.
        ladder: what is tuned: "rates", "strengths" or "none". ``baseline``: the arm it is compared with and takes its
            learning rate from; itself None. ``score``: the reader whose NED on validation words chooses a rung.
        steps: the arm whose time it gets, if not the same number of steps. ``kind``: "terms" or "reward".
        path: "diffusion", or "straight" for the rectified flow. ``tokens``: acts only on a network that listens to
            its tokens. ``watched``: read by a judge of another lineage as well. ``published``: what papers report.
    """

    name: str
    label: str
    hypothesis: str
    terms: tuple[Mapping[str, Any], ...] = ()
    ladder: str = "strengths"
    baseline: str | None = "none"
    score: str = "ppocrv4"
    steps: str | None = None
    kind: str = "terms"
    path: str = "diffusion"
    tokens: bool = False
    watched: bool = False
    published: str = ""


@dataclass(frozen=True)
class Ladder:
    """``rates`` and ``strengths`` of the rungs, ``seeds`` of the tuning runs; after the first seed all but the best
    ``kept`` are dropped, and those that score more than ``dropped`` below the best."""

    rates: tuple[float, ...]
    strengths: tuple[float, ...]
    seeds: tuple[int, ...]
    kept: int
    dropped: float


@dataclass(frozen=True)
class DecisionRule:
    """``margin``: gains below it are none. ``family``: level of the adjusted p. ``same``: cosine above which an arm
    cannot differ. ``listens``: least change of the output when scenes swap their tokens."""

    margin: float
    family: float
    same: float
    listens: float


@dataclass(frozen=True)
class Study:
    """A whole plan: ``starts`` are the checkpoints by name, ``text`` is the file itself."""

    name: str
    sizes: Sizes
    quick: Sizes
    starts: Mapping[str, str]
    ladder: Ladder
    rule: DecisionRule
    arms: Mapping[str, PlannedArm]
    text: str = field(repr=False)

    def rungs(self, arm: PlannedArm) -> tuple[float, ...]:
        """The values that are tried for an arm."""
        return getattr(self.ladder, arm.ladder) if arm.ladder != "none" else ()

    def start_of(self, seed: int) -> str:
        """The checkpoint that a seed begins at."""
        return list(self.starts)[seed % len(self.starts)]


def read_study(name: str, path: Path | None = None) -> Study:
    """Read a plan by its name, or from ``path``.

    Raises:
        CourseError: no such file, or one that contradicts itself; the message says where.
    """
    path = path or PLANS / f"{name}.yaml"
    if not path.is_file():
        raise CourseError(f"there is no plan {path}: a plan is a YAML file, see those in {PLANS}.")
    text = path.read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    try:
        starts, ladder = dict(given["starts"]), _made(Ladder, given["ladder"])
        sizes = replace(_made(Sizes, given["sizes"]), starts=tuple(starts.items()))
        arms = {key: _arm(key, value) for key, value in given["arms"].items()}
        study = Study(name, sizes, replace(sizes, **_frozen(given["quick"])), starts, ladder,
                      _made(DecisionRule, given["decision"]), arms, text)
    except (KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is no plan of an experiment: {error}") from error
    for arm in arms.values():
        _check(path, study, arm)
    return study


def _arm(name: str, given: Mapping[str, Any]) -> PlannedArm:
    alone = {} if given.get("terms") or given.get("steps") or given.get("kind") else {"baseline": None}
    if name == "none" and "baseline" in given:
        raise TypeError("arm none has no baseline")
    return _made(PlannedArm, {"name": name, **alone, **given})


def _check(path: Path, study: Study, arm: PlannedArm) -> None:
    """Raise CourseError for an arm that cannot be run as it is described."""
    wrong = None
    if arm.ladder not in ("rates", "strengths", "none"):
        wrong = f"its ladder is rates, strengths or none, not {arm.ladder!r}"
    elif arm.kind not in ("terms", "reward") or arm.path not in ("diffusion", "straight"):
        wrong = "its kind is terms or reward, and its path diffusion or straight"
    elif not arm.hypothesis:
        wrong = "it has no hypothesis"
    for other in (arm.baseline, arm.steps):
        if other is not None and other not in study.arms:
            wrong = f"it names an arm {other!r} that is not there"
    if arm.baseline and arm.baseline in study.arms and study.arms[arm.baseline].baseline is not None:
        wrong = f"its baseline {arm.baseline!r} has a baseline itself"
    if wrong:
        raise CourseError(f"{path}: arm {arm.name}: {wrong}.")


def _made(cls: type, given: Mapping[str, Any]) -> Any:
    unknown = sorted(set(given) - {known.name for known in fields(cls)})
    if unknown:
        raise TypeError(f"{cls.__name__} has no {unknown[0]!r}")
    return cls(**_frozen(given))


def _frozen(given: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, so that plans can be compared and hashed."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
