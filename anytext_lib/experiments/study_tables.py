"""What a planned experiment found: one row for each arm, with intervals and verdicts, as tables, text and pictures."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, to_uint8
from anytext_lib.experiments.paired import (
    StudentInterval,
    crossed_interval,
    holm,
    sign_flip_p,
    student_interval,
)
from anytext_lib.experiments.plan import write_table
from anytext_lib.experiments.study import PlannedArm, Study
from anytext_lib.experiments.verdict import decide, in_words, whose_gain
from anytext_lib.files import atomic_path

JUDGE, READER, OTHER = "ppocrv4_ned", "trainer_ned", "tesseract_ned"
Parts = Mapping[str, Any]
Value = Callable[[Mapping[str, Any]], float | None]

SECONDARY: dict[str, Value] = {
    "Sen.Acc": lambda part: _mean(float(row["ppocrv4"] == row["wanted"]) for row in part["readings"]),
    "NED, training reader": lambda part: _mean(row[READER] for row in part["readings"]),
    "NED, Tesseract": lambda part: _mean(row.get(OTHER) for row in part["readings"]),
    "distance": lambda part: part["distance"][0],
    "colour error": lambda part: _mean(row["color"] for row in part["readings"] if row["color"] is not None),
    "diffusion loss": lambda part: part["sim"],
}
"""Of a measured run; None where it was not measured."""


def _mean(values) -> float | None:
    found = list(values)
    return None if not found or None in found else float(np.mean(found))


class Measured:
    """The measured runs of an experiment by arm and seed; only seeds whose runs are all there count."""

    def __init__(self, study: Study, parts: Parts, refused: Mapping[str, str]):
        self.study, self.refused = study, refused
        self.runs = {(part["arm"], part["seed"]): part for name, part in parts.items() if name.startswith("measure-")}
        self.made = {(part["arm"], part["seed"]): part for name, part in parts.items() if name.startswith("run-")}
        self.arms = [arm for arm in study.arms.values() if not refused.get(arm.name)]
        self.seeds = [seed for seed in sorted({seed for _, seed in self.runs})
                      if all((name, seed) in self.runs for name in ("start", *(arm.name for arm in self.arms)))]

    def of(self, arm: str, value: Value) -> list[float | None]:
        """A value of every seed."""
        return [value(self.runs[arm, seed]) for seed in self.seeds]

    def readings(self, arm: str, reader: str) -> np.ndarray:
        """(S, W) of seeds and words."""
        return np.array([[row[reader] for row in self.runs[arm, seed]["readings"]] for seed in self.seeds])

    def gain(self, arm: str, baseline: str, reader: str = JUDGE) -> tuple[StudentInterval, float]:
        """An arm's NED minus the baseline's, clustered by seed and word, and the sign-flip p over seeds."""
        found = self.readings(arm, reader) - self.readings(baseline, reader)
        words = [row["wanted"].lower() for row in self.runs[arm, self.seeds[0]]["readings"]]
        seeds = np.repeat(self.seeds, len(words))
        return crossed_interval(found.flatten(), seeds, words * len(self.seeds)), sign_flip_p(found.mean(axis=1))

    def change(self, arm: str, baseline: str, value: Value) -> StudentInterval | None:
        """A secondary measure, an arm's minus its baseline's, over seeds."""
        ours, theirs = self.of(arm, value), self.of(baseline, value)
        if None in ours or None in theirs:
            return None
        return student_interval(np.array(ours, float) - np.array(theirs, float))


def summary_rows(found: Measured, planned: int) -> list[dict[str, Any]]:
    """One row for each arm of the plan, the refused ones too."""
    compared = {arm.name: found.gain(arm.name, arm.baseline) for arm in found.arms if arm.baseline}
    adjusted = holm({name: p for name, (_, p) in compared.items()})
    complete = len(found.seeds) >= planned
    rows = [_row(found, "start", None, None, None, "")]
    for arm in found.study.arms.values():
        if message := found.refused.get(arm.name):
            rows.append({**_about(arm), "verdict": message})
            continue
        gain, p = compared.get(arm.name, (None, None))
        verdict = ""
        if gain is not None:
            verdict = (decide(gain, adjusted[arm.name], found.study.rule.margin, found.study.rule.family) if complete
                       else f"none before seed {planned} is in")
        rows.append({**_row(found, arm.name, arm.baseline, gain, p, verdict), **_about(arm),
                     "p_holm": adjusted.get(arm.name)})
    return rows


def _about(arm: PlannedArm) -> dict[str, Any]:
    return {"arm": arm.name, "label": arm.label, "hypothesis": arm.hypothesis, "baseline": arm.baseline or "",
            "published": arm.published}


def _row(found: Measured, arm: str, baseline: str | None, gain: StudentInterval | None, p: float | None,
         verdict: str) -> dict[str, Any]:
    runs = [found.made[arm, seed] for seed in found.seeds if (arm, seed) in found.made]
    row: dict[str, Any] = {"arm": arm, "label": arm, "hypothesis": "", "baseline": "", "published": "",
                           "seeds": len(found.seeds), "verdict": verdict, "p": p, "p_holm": None,
                           "ned": _mean(_mean(row[JUDGE] for row in found.runs[arm, seed]["readings"])
                                        for seed in found.seeds)}
    if runs:
        row |= {"rate": runs[0]["rate"], "strength": runs[0]["strength"], "steps": runs[0]["steps"],
                "weights": ", ".join(f"{weight:.3g}" for weight in runs[0]["weights"][1:]),
                "cosine": _mean(run["cosine"] for run in runs),
                "cpu_seconds": statistics.mean(run["cpu_seconds"] for run in runs)}
    if gain is not None:
        row |= {"gain": gain.mean, "low": gain.low, "high": gain.high}
    for name, value in SECONDARY.items():
        row[name] = _mean(found.of(arm, value))
        if baseline and (change := found.change(arm, baseline, value)) is not None:
            row |= {f"{name}, change": change.mean, f"{name}, low": change.low, f"{name}, high": change.high}
    if gain is not None and baseline:
        row["readers"] = whose_gain(gain, found.gain(arm, baseline, READER)[0])
    return row


def controls(found: Measured, truth: Mapping[str, Any]) -> dict[str, str]:
    """Whether the positive controls of the plan work, in words."""
    told = {"power, none over its checkpoints": in_words(*_gain_in_words(found, "none", "start"))}
    if any(arm.name == "reader_only" for arm in found.arms):
        own, judge = ((found.readings("reader_only", reader) - found.readings("none", reader)).mean(axis=1)
                      for reader in (READER, JUDGE))
        gap = student_interval(own - judge)
        told["fooling, the reader's gain less the judge's"] = (
            f"{gap}: " + ("it can be shown here" if gap.low > 0 else "it cannot be shown here"))
    (plain, _), (noisy, error) = truth["distance"], truth["speckled"]
    told["pictures, distance of true ones without and with noise"] = (
        f"{plain:.4f}, {noisy:.4f} +- {error:.4f}: " +
        ("it tells" if noisy - plain > 2 * error else "it cannot tell, and is not to be used"))
    curves = [run["rewards"] for run in found.made.values() if run["rewards"] and run["seed"] in found.seeds]
    if curves:
        fifth = max(1, len(curves[0]) // 5)
        rise = student_interval([_part(curve[-fifth:]) - _part(curve[:fifth]) for curve in curves])
        told["reward, last fifth less first"] = f"{rise}: " + ("it rose" if rise.low > 0 else "the policy did not move")
    return told


def _part(curve: Sequence[Mapping[str, float]]) -> float:
    return statistics.mean(point["reward"] for point in curve)


def _gain_in_words(found: Measured, arm: str, baseline: str) -> tuple[StudentInterval, bool, float]:
    gain, p = found.gain(arm, baseline)
    return gain, True, p


def summarise(study: Study, folder: Path, parts: Parts, provenance: Mapping[str, Any], refused: Mapping[str, str],
              planned: int) -> None:
    """Write summary, runs, readings and pictures as tables into ``folder``, and summary.md with pictures.png."""
    found = Measured(study, parts, refused)
    if not found.seeds:
        print("no seed has been measured in all arms yet: nothing to summarise")
        return
    rows, told = summary_rows(found, planned), controls(found, parts["truth"])
    keys = list(dict.fromkeys(key for row in rows for key in row))
    about = {**provenance, "controls": told, "plan": study.text}
    pairs = [(arm, seed) for seed in found.seeds for arm in ("start", *study.arms) if (arm, seed) in found.runs]
    tables = {
        "summary": [{key: row.get(key) for key in keys} for row in rows],
        "runs": [{"arm": arm, "seed": seed, **{name: value(found.runs[arm, seed]) for name, value in SECONDARY.items()},
                  "ned": _mean(row[JUDGE] for row in found.runs[arm, seed]["readings"]),
                  **{key: found.made[arm, seed][key] if (arm, seed) in found.made else None
                     for key in ("start", "rate", "strength", "steps", "cosine", "cpu_seconds")}}
                 for arm, seed in pairs],
        "readings": [{"arm": arm, "seed": seed, **{key: row.get(key) for key in
                      ("index", "wanted", "color", "ppocrv4", JUDGE, "trainer", READER, "tesseract", OTHER)}}
                     for arm, seed in pairs for row in found.runs[arm, seed]["readings"]],
        "pictures": [row for part in (parts["truth"], *(found.runs[pair] for pair in pairs))
                     for row in part.get("pictures", [])]}
    for name, table in tables.items():
        if table:
            write_table(folder / f"{name}.parquet", table, about)
    with atomic_path(folder / "summary.md") as new:
        new.write_text(as_text(study, rows, told, len(found.seeds), planned), encoding="utf-8")
    if tables["pictures"]:
        write_sheet(folder / "pictures.png", tables["pictures"])
    print((folder / "summary.md").read_text(encoding="utf-8"))


def as_text(study: Study, rows: Sequence[Mapping[str, Any]], told: Mapping[str, str], seeds: int, planned: int) -> str:
    """The summary as Markdown: one table over all arms, the controls, and what papers report."""
    def number(row, key: str, form: str) -> str:
        return "-" if row.get(key) is None else format(row[key], form)

    def change(row, key: str, form: str) -> str:
        shown = number(row, key, form)
        if row.get(f"{key}, change") is None:
            return shown
        mean, low, high = (format(row[f"{key}, {part}"], "+" + form) for part in ("change", "low", "high"))
        return f"{shown} ({mean} [{low}, {high}])"

    lines = [f"# {study.name}: {seeds} of {planned} seeds", "",
             "Changes are against the baseline, with 95% intervals: of the gain clustered by word and seed, of the "
             "rest over seeds. p is that of the sign-flip test, and beside it adjusted for all arms.", "",
             "| arm | strength | cosine | NED | gain | p | verdict | " + " | ".join(SECONDARY) + " | CPU s |",
             "|" + "---|" * (8 + len(SECONDARY))]
    for row in rows:
        if "ned" not in row:
            lines.append(f"| {row['label']} | | | | | | {row['verdict']} |" + " |" * (len(SECONDARY) + 1))
            continue
        gain = "-" if row.get("gain") is None else f"{row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        p = "-" if row.get("p") is None else f"{row['p']:.2g} ({row['p_holm']:.2g})"
        rate = f"rate {number(row, 'rate', 'g')}"
        strength = rate if row.get("strength") is None else number(row, "strength", "g")
        forms = [change(row, name, ".1f" if name == "colour error" else ".3f") for name in SECONDARY]
        lines.append(f"| {row['label']} | {strength} | {number(row, 'cosine', '.4f')} | {number(row, 'ned', '.3f')} | "
                     f"{gain} | {p} | {row['verdict']} | " + " | ".join(forms) +
                     f" | {number(row, 'cpu_seconds', '.0f')} |")
    lines += ["", "Who sees it:", ""] + [f"- {row['label']}: {row['readers']}" for row in rows if row.get("readers")]
    lines += ["", "Controls:", ""] + [f"- {name}: {text}" for name, text in told.items()]
    lines += ["", "Published, on other models and sets:", ""]
    lines += [f"- {row['label']}: {row['published']}" for row in rows if row["published"]]
    return "\n".join(lines) + "\n"


# pictures

def picture_rows(arm: str, pictures: Sequence[tuple[AnyTextBatch, torch.Tensor]], count: int) -> list[dict[str, Any]]:
    """The first pictures of a run, PNG in base64, with the wanted words."""
    from PIL import Image

    rows: list[dict[str, Any]] = []
    for batch, images in pictures:
        for i, image in enumerate(to_uint8(images.cpu())):
            if len(rows) < count:
                stored = io.BytesIO()
                Image.fromarray(image).save(stored, format="png", optimize=True)
                rows.append({"arm": arm, "index": len(rows), "wanted": batch.lines.texts[i],
                             "png": base64.b64encode(stored.getvalue()).decode("ascii")})
    return rows


def write_sheet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """All kept pictures on one sheet: a row for each arm, a column for each word."""
    from PIL import Image, ImageDraw

    arms = list(dict.fromkeys(row["arm"] for row in rows))
    read = {(row["arm"], row["index"]): Image.open(io.BytesIO(base64.b64decode(row["png"]))) for row in rows}
    wide, high = next(iter(read.values())).size
    words = {row["index"]: row["wanted"] for row in rows}
    label, head, gap = 110, 16, 4
    sheet = Image.new("RGB", (label + len(words) * (wide + gap), head + len(arms) * (high + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, word in words.items():
        pen.text((label + column * (wide + gap), 2), word, fill="black")
    for line, arm in enumerate(arms):
        top = head + line * (high + gap)
        pen.text((2, top + high // 2 - 6), arm, fill="black")
        for column in words:
            if (arm, column) in read:
                sheet.paste(read[arm, column], (label + column * (wide + gap), top))
    with atomic_path(path) as new:
        sheet.save(new, format="png", optimize=True)
