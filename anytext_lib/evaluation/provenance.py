"""Where the pictures and the readings come from: what a result file carries besides its numbers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from anytext_lib.errors import MissingFileError
from anytext_lib.ocr.judge import PPOCRv4Judge, TesseractJudge
from anytext_lib.ocr.onnx_weights import package_file, recognizer_path

LOSS_RECOGNISER = "ppocrv3"
SETTINGS_KEY = "anytext"  # PNG text chunk of `anytext generate`
MOST_VALUES = 8
PACKAGES = ("anytext-loss-course", "torch", "onnxruntime", "rapidfuzz", "scipy", "torchmetrics", "transformers")


def sha256(path: str | os.PathLike) -> str:
    """Of a file; of a folder, over the names and hashes of its files in order of name."""
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise MissingFileError(f"there is no file or folder with files {path}")
    listed = "".join(f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def checkpoint_identity(checkpoint: str | os.PathLike | None) -> dict | None:
    """Name and hash of a checkpoint: a file, a model's folder, or "sha256:..." where the file is elsewhere.

    A model's folder has the hash that `anytext generate` writes into pictures.
    """
    if checkpoint is None:
        return None
    text = str(checkpoint)
    if text.startswith("sha256:"):
        return {"name": None, "sha256": text.removeprefix("sha256:").lower()}
    if (Path(text) / "anytext2.json").is_file():
        from anytext_lib.generation.metadata import model_record

        return {"name": Path(text).resolve().name, "sha256": model_record(text)["sha256"]}
    return {"name": Path(text).resolve().name, "sha256": sha256(text)}


def recogniser_identity(reader: Any, name: str) -> dict:
    """Who read: its name, whether it is independent of the losses, its program, and the hash of its weights."""
    program, weights = _origin(name)
    return {"name": name, "independent": name != LOSS_RECOGNISER, "program": program,
            "weights_sha256": sha256(weights) if weights else None,
            **({"languages": list(reader.languages)} if hasattr(reader, "languages") else {})}


def _origin(name: str) -> tuple[str | None, Path | None]:
    """Program or package with its version, and file of weights, of a recogniser that this library knows."""
    if name == PPOCRv4Judge.name:
        weights = package_file("rapidocr", PPOCRv4Judge.file, "rapidocr==3.8.*")
        return f"rapidocr {metadata.version('rapidocr')}", weights
    if name == LOSS_RECOGNISER:
        return f"rapidocr-onnxruntime {metadata.version('rapidocr-onnxruntime')}", recognizer_path()
    if name == TesseractJudge.name:
        done = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, timeout=60)
        return (done.stdout or done.stderr).strip().partition("\n")[0], None
    return None, None


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def picture_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """Sampler, checkpoint and seed that `anytext generate` wrote into a PNG; None for any other picture."""
    from PIL import Image

    if Path(path).suffix.lower() != ".png":
        return None
    try:
        with Image.open(path) as picture:
            picture.load()
            record = json.loads(picture.info[SETTINGS_KEY])
        model = record.get("model")
        return {"sampler": {"scheduler": record["scheduler"]["class"], **record["settings"]},
                "checkpoint": model and {"name": Path(model["folder"]).name, "sha256": model["sha256"]},
                "seed": record["seeds"][record["place"]]}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):  # written by another program
        return None


def common_value(values: Iterable[Any]) -> Any:
    """The one value that all have; a sorted list of at most eight, with the number of all, if they differ."""
    kept: dict[str, Any] = {json.dumps(value, sort_keys=True): value for value in values if value is not None}
    if len(kept) < 2:
        return next(iter(kept.values()), None)
    return {"different": len(kept), "values": [kept[key] for key in sorted(kept)][:MOST_VALUES]}


def generation(given: Mapping[str, Any], settings: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Sampler, checkpoint and seed: as given, else as the pictures say, else None; ``unknown`` lists the latter."""
    found = {name: given.get(name) if given.get(name) is not None
             else common_value((row or {}).get(name) for row in settings) for name in ("sampler", "checkpoint", "seed")}
    return {**found, "unknown": [name for name, value in found.items() if value is None]}
