"""Pictures that are asked for as plain data: an entry of a YAML file, or a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from anytext_lib.generation.regions import turned_box
from anytext_lib.generation.request import Line, Request, RequestError, Settings, from_mapping

OWN = ("name", "images", "seed", "scheduler")
REQUEST = tuple(entry.name for entry in fields(Request))
SETTINGS = tuple(entry.name for entry in fields(Settings))


@dataclass(frozen=True)
class PictureJob:
    """One request, how it is sampled, and under which name it is written.

    Attributes:
        settings: those that are given; the pipeline's defaults fill in the others.
        images, seed: see ``AnyText2Pipeline.generate``. ``scheduler``: a name, or None for the pipeline's own.
    """

    request: Request
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "picture"
    images: int = 1
    seed: int | None = None
    scheduler: str | None = None


def read_jobs(path: str | os.PathLike, more: Mapping | None = None) -> list[PictureJob]:
    """Jobs of a YAML file: a list ``jobs``, and ``defaults`` that hold for all.

        defaults: {ddim_steps: 20, images: 2}
        jobs:
          - name: sign
            prompt: A sign that says "Tea".
            lines: [{text: Open, box: [10, 80, 60, 24], color: darkred}]
            seed: 3

    Entries of a job: those of ``Request``, of ``Settings``, name, images, seed, scheduler, and ``erase``, a list of
    regions that become blank lines. Files are looked for from the folder of the YAML file. ``more``: entries that hold
    where neither the job nor the defaults say anything.

    Raises:
        RequestError: names the job and the entry that is wrong.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(f"cannot read the jobs in {path}: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("jobs"), list) or not found["jobs"] \
            or set(found) - {"jobs", "defaults"}:
        raise RequestError(f"{path}: expected a list of 'jobs', and maybe 'defaults', and nothing else")
    defaults = _given(more or {}) | _given(found.get("defaults") or {})
    jobs = [make_job(values, f"{path}: job {i + 1}", Path(path).parent, f"{i + 1:03d}", defaults)
            for i, values in enumerate(found["jobs"])]
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(f"{path}: the names {repeated} stand for several jobs: give each its own")
    return jobs


def make_job(values: Any, where: str, folder: Path, name: str, defaults: Mapping | None = None) -> PictureJob:
    """A job from plain data; entries that are None count as not given.

    Args:
        where: the job, for the message of an error. ``folder``: from which files are looked for.
    """
    known = (*OWN, *REQUEST, *SETTINGS, "erase")
    if not isinstance(values, Mapping):
        raise RequestError(f"{where}: expected entries among {', '.join(known)}, got {values!r}")
    values = {**(defaults or {}), **_given(values)}
    if unknown := sorted(set(map(str, values)) - set(known)):
        raise RequestError(f"{where}: unknown entries {unknown}; known are {', '.join(known)}")
    for key in ("lines", "erase"):
        if not isinstance(values.get(key, []), Sequence) or isinstance(values.get(key), str):
            raise RequestError(f"{where}: {key} is a list, got {values[key]!r}")
    lines = [*values.get("lines", []), *({"text": "", _place(region): region} for region in values.get("erase", []))]
    request = {key: values[key] for key in REQUEST if key in values}
    request["lines"] = [make_line(line, f"{where}, line {i + 1}", folder) for i, line in enumerate(lines)]
    request |= {key: _file(values[key], folder) for key in ("image", "mask", "glyph_font") if key in values}
    if Path(str(values.get("name", name))).name != str(values.get("name", name)):
        raise RequestError(f"{where}: the name {values['name']!r} is no plain file name: leave out the folders, which "
                           "--out tells")
    own = {"name": name} | {key: values[key] for key in OWN if key in values}
    settings = {key: values[key] for key in SETTINGS if key in values}
    try:
        Settings(**settings)
        return PictureJob(from_mapping(Request, request, where), settings, **(own | {"name": str(own["name"])}))
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error


def make_line(value: Any, where: str, folder: Path) -> Line:
    """A line from its text, or from a mapping with the entries of ``Line``; ``box`` (x, y, width, height), and maybe
    ``angle`` in degrees clockwise around its middle, stand for its region, ``style_box`` for its style_region."""
    if isinstance(value, str):
        return Line(value)
    if not isinstance(value, Mapping):
        raise RequestError(f"{where}: a line is a text, or a mapping with text, region or box, font, style_image, "
                           f"style_region or style_box, color; got {value!r} (write numbers in quotes)")
    values = dict(value)
    if "angle" in values and "box" not in values:
        raise RequestError(f"{where}: angle turns a box: give box [x, y, width, height] with it")
    for box, region in (("box", "region"), ("style_box", "style_region")):
        if box in values:
            angle = values.pop("angle", 0) if box == "box" else 0
            values[region] = _box(values.pop(box), where, box, region in values, angle)
    line = from_mapping(Line, values, where)
    return replace(line, **{name: _file(getattr(line, name), folder)
                            for name in ("region", "font", "style_image", "style_region")})


def _place(region: Any) -> str:
    """Whether plain data are a ``box`` or another ``region``."""
    flat = isinstance(region, Sequence) and not isinstance(region, str) and len(region) == 4
    return "box" if flat and all(isinstance(value, int | float) for value in region) else "region"


def parse_region(text: str) -> Any:
    """``--erase``: the file of a mask, or a box or corners in brackets as YAML."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"--erase {text!r}: {error}") from error


def parse_line(text: str) -> Any:
    """``--line``: a text, or a mapping in braces as YAML: ``{text: Tea, box: [10, 10, 60, 24], color: red}``."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"--line {text!r}: {error}") from error


def _given(values: Any) -> dict:
    if not isinstance(values, Mapping):
        raise RequestError(f"expected entries and their values, got {values!r}")
    return {key: value for key, value in values.items() if value is not None}


def _box(box: Any, where: str, name: str, has_region: bool, angle: Any) -> list[list[float]]:
    if has_region or not isinstance(box, Sequence) or len(box) != 4 \
            or not all(isinstance(value, int | float) for value in box):
        raise RequestError(f"{where}: {name} is [x, y, width, height] in pixels, in place of region; got {box!r}")
    if not isinstance(angle, int | float):
        raise RequestError(f"{where}: angle is a number of degrees, got {angle!r}")
    x, y, width, height = box
    return turned_box(x, y, width, height, angle)


def _file(value: Any, folder: Path) -> Any:
    """A path from ``folder`` if there is such a file; everything else as it is."""
    return str(folder / value) if isinstance(value, str) and (folder / value).is_file() else value
