"""The sample set: 48 rendered scenes in the AnyWord form, and a manifest with hashes of every file.

    python -m anytext_lib.scenes.sample_set --write     draws the scenes again and writes images, annotations, manifest
    python -m anytext_lib.scenes.sample_set --verify    checks the manifest, and that the scenes can be drawn again
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation, read_anyword, write_anyword
from anytext_lib.data.anyword_stream import AnyWordError
from anytext_lib.data.pictures import PictureError
from anytext_lib.errors import MissingFileError
from anytext_lib.files import data_folder
from anytext_lib.scenes.rendering import Scene, SceneLine, render_scene

COUNT, SIZE, QUALITY, FIRST_SEED = 48, 512, 93, 0
ANNOTATIONS, IMAGES, MANIFEST = "annotations.json", "images", "manifest.json"


class Problem(NamedTuple):
    """Something wrong with a file of data_samples: its path below the folder, and what to know about it."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def sample_scenes() -> list[Scene]:
    """Draw the scenes of the sample set anew (not yet compressed)."""
    return [render_scene(FIRST_SEED + i, SIZE) for i in range(COUNT)]


def build_samples(folder: str | os.PathLike | None = None) -> list[Scene]:
    """Draw the sample set into ``folder`` (images/, annotations.json) and renew manifest.json."""
    from PIL import Image

    root = data_folder(folder)
    (root / IMAGES).mkdir(exist_ok=True)
    scenes = sample_scenes()
    entries = []
    for i, scene in enumerate(scenes):
        name = f"scene_{i:02d}.jpg"
        Image.fromarray(scene.image).save(root / IMAGES / name, quality=QUALITY, subsampling=0)
        lines = [Annotation(line.polygon, line.text, line.language, line.valid, line.color) for line in scene.lines]
        entries.append(AnnotatedImage(root / IMAGES / name, name, scene.caption, lines))
    write_anyword(root / ANNOTATIONS, entries, IMAGES)
    write_manifest(root)
    return scenes


def load_samples(folder: str | os.PathLike | None = None) -> list[Scene]:
    """Read the sample set (or any small set in the same form).

    Args:
        folder: folder with annotations.json; by default see ``data_folder``.

    Raises:
        MissingFileError: the folder, the annotations or a picture is missing. AnyWordError: the annotations are
        malformed or a picture cannot be decoded.
    """
    root = data_folder(folder)
    if not (root / ANNOTATIONS).is_file():
        raise MissingFileError(f"no {ANNOTATIONS} in {root}: restore it from the repository, or run "
                                "`python -m anytext_lib.scenes.sample_set --write`")
    return [_load_scene(entry) for entry in read_anyword(root / ANNOTATIONS)]


def _load_scene(entry: AnnotatedImage) -> Scene:
    if not entry.path.is_file():
        raise MissingFileError(f"the picture {entry.path} is missing, but annotated: restore it")
    try:
        image = entry.read()
    except PictureError as error:
        raise AnyWordError(f"the picture {entry.path} cannot be read: {error}") from error
    lines = [SceneLine(a.text, a.language, a.polygon, None, a.color, a.valid) for a in entry.annotations]
    return Scene(image, lines, entry.caption, name=entry.name)


def write_manifest(folder: str | os.PathLike | None = None) -> dict:
    """Write manifest.json: SHA-256 and size in bytes of every file below the folder."""
    root = data_folder(folder)
    manifest = {"files": {name: _fingerprint(root / name) for name in _files(root)}}
    (root / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8", newline="\n")
    return manifest


def verify_manifest(folder: str | os.PathLike | None = None) -> list[Problem]:
    """Compare the files below the folder with manifest.json: missing, changed and unlisted ones; [] if all is well.

    Raises:
        MissingFileError: the folder or the manifest is missing.
    """
    root = data_folder(folder)
    if not (root / MANIFEST).is_file():
        raise MissingFileError(f"no {MANIFEST} in {root}: restore it from the repository")
    listed = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["files"]
    problems = []
    for name, expected in listed.items():
        if not (root / name).is_file():
            problems.append(Problem(name, "is missing: restore it from the repository"))
        elif (found := _fingerprint(root / name)) != expected:
            problems.append(Problem(name, f"has changed ({found['bytes']} bytes, {expected['bytes']} expected): "
                                          "restore it, or renew the manifest if the change is meant"))
    return problems + [Problem(name, "is not in the manifest: remove it, or renew the manifest")
                       for name in _files(root) if name not in listed]


def compare_with_renderer(folder: str | os.PathLike | None = None) -> list[Problem]:
    """Draw the scenes again and compare texts, polygons (0.02 pixels) and pictures (blurred: JPEG loses noise)."""
    stored, problems = load_samples(folder), []
    fresh = sample_scenes()
    if len(stored) != len(fresh):
        return [Problem(ANNOTATIONS, f"has {len(stored)} scenes, {len(fresh)} are drawn")]
    for old, new in zip(stored, fresh, strict=True):
        if [(a.text, a.valid) for a in old.lines] != [(a.text, a.valid) for a in new.lines]:
            problems.append(Problem(old.name, f"texts differ: {[a.text for a in old.lines]} in the file, "
                                              f"{[a.text for a in new.lines]} drawn"))
        elif any(np.abs(a.polygon - b.polygon).max() > 0.02 for a, b in zip(old.lines, new.lines, strict=True)):
            problems.append(Problem(old.name, "polygons differ by more than 0.02 pixels"))
        elif (error := _difference(old.image, new.image)) > 1:
            problems.append(Problem(old.name, f"the picture differs by {error:.1f} grey levels on average"))
    return problems


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    import cv2

    return float(np.abs(cv2.GaussianBlur(a.astype(np.float32) - b, (0, 0), 3)).mean())


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*")
                  if path.is_file() and path.name != MANIFEST and "__pycache__" not in path.parts
                  and not path.name.startswith("."))


def _fingerprint(path: Path) -> dict:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: --write or --verify; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m anytext_lib.scenes.sample_set",
                                     description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="draw the scenes and write them")
    what.add_argument("--verify", action="store_true", help="check hashes, and that the scenes are drawn the same")
    parser.add_argument("--folder", help="data_samples folder (default: the repository's)")
    options = parser.parse_args(arguments)
    if options.write:
        scenes = build_samples(options.folder)
        print(f"{len(scenes)} scenes, {sum(len(s.lines) for s in scenes)} lines in {data_folder(options.folder)}")
        return 0
    problems = verify_manifest(options.folder) + compare_with_renderer(options.folder)
    print("\n".join(map(str, problems)) or "all files and scenes are as they should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
