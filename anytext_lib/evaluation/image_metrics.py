"""Measures of whole pictures, folder by folder: `anytext evaluate fid`, `clip` and `lpips`.

Each writes ``result.json`` into its output folder and keeps what it has measured in a journal, from which a later run
goes on.  A network can be given instead of weights.  All raise FolderBusyError where another program writes into the
output folder, and OutputError where it cannot be written.

    FID = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))

is the distance of the means and covariances of 2048 Inception features of real and generated pictures (Heusel et al.
2017).  It falls with the number of pictures, so numbers of different counts cannot be compared; below about 2048
pictures the covariances do not even have full rank.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from anytext_lib.data.batch import to_tensor
from anytext_lib.device import versions
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.evaluation.journal import ComparedPictureError, Journal, Picture, measure, read_picture
from anytext_lib.evaluation.networks import (
    ALEXNET_WEIGHTS,
    CLIP_REPOSITORY,
    CLIP_WEIGHT,
    INCEPTION_WEIGHTS,
    LPIPS,
    SIDE,
    CLIPScorer,
    FIDInception,
    clip_score,
)
from anytext_lib.evaluation.read import SUFFIXES, find_pictures, picture_settings
from anytext_lib.evaluation.report import (
    PACKAGES,
    checkpoint_identity,
    generation,
    sha256,
    write_result,
    write_table,
    written_folder,
)
from anytext_lib.evaluation.score import LEVEL, about, bootstrap_interval
from anytext_lib.files import print_report

Report = Callable[[str], None]


class NoCaptionError(OptionError):
    """No entry has a caption that its pictures could be compared with."""


def evaluate_fid(real: str | os.PathLike, fake: str | os.PathLike, output: str | os.PathLike,
                 weights: str | os.PathLike | None = None, network: nn.Module | None = None,
                 sizes: Sequence[int] = (), given: Mapping[str, Any] | None = None, batch: int = 16,
                 device: str | torch.device = "cpu", restart: bool = False, report: Report = print_report,
                 resamples: int = 0, per_item: int = 1) -> dict:
    """FID of the pictures of two folders.

    Args:
        weights: file of Inception's weights, see ``FIDInception.from_file``. ``network``: use this one, from
            (B, 3, 299, 299) in [0, 1] to (B, D), instead.
        sizes: also FID of random subsets of so many generated pictures.
        resamples: of the interval, see ``fid_interval``; 0 leaves it out.
        per_item: generated pictures of an item, called NAME_0, NAME_1, ...; 1: each is an item of its own.
        given, batch, restart, report: as for ``evaluate_ocr``.

    Raises:
        MetricWeightsError: there are no weights. FileNotFoundError: a folder is missing or empty.
    """
    given = _given(given)
    sets = {"real": folder_pictures(real), "fake": folder_pictures(fake)}
    identity = _network(network, lambda: INCEPTION_WEIGHTS.find(weights), "Inception v3 (2015), as pytorch-fid")
    network = FIDInception.from_file(weights) if network is None else network
    with written_folder(output):
        found = {name: features(pictures, network, Path(output) / f"features-{name}.jsonl",
                                {"network": identity, "folder": pictures[0].path.parent.name}, batch, device, SIDE,
                                restart, report) for name, pictures in sets.items()}
        result = _fid_result(sets, found, sizes, identity, given, report)
        if resamples:
            names = [picture.path.stem for picture in sets["fake"]]
            owners = [name.rpartition("_")[0] for name in names] if per_item > 1 else names
            result["fid_interval"] = fid_interval(found["real"], found["fake"], owners, resamples, device=device)
            result["bootstrap"] = {"method": "normal", "over": "items", "level": LEVEL, "resamples": resamples}
        write_result(Path(output) / "result.json", result)
    return result


def _fid_result(sets: Mapping[str, Sequence[Picture]], found: Mapping[str, np.ndarray],
                sizes: Sequence[int], identity: dict, given: Mapping[str, Any], report: Report) -> dict:
    """Compute the distances of features (N, D)."""
    if min(len(rows) for rows in found.values()) < found["real"].shape[1]:
        report(f"fewer pictures than the {found['real'].shape[1]} features: this FID is far above that of many "
               "pictures, and to be compared only with one of the same count")
    return {
        "kind": "fid", "fid": frechet_distance(found["real"], found["fake"]),
        "fid_by_size": {str(n): values for n, values in fid_by_size(found["real"], found["fake"], sizes).items()},
        "pictures": {name: {"folder": rows[0].path.parent.name, "count": len(rows)} for name, rows in sets.items()},
        "network": identity, "resize": f"bilinear to {SIDE}, no antialiasing", "features": int(found["real"].shape[1]),
        **_nothing_read(), **_generation(given, sets["fake"]), "versions": versions(PACKAGES),
    }


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """FID of features (N, D) and (M, D), N and M at least 2.

    With centred features X = Q R (QR decomposition) is S = R^T R / (N - 1), and the trace of the square root of S_r S_g
    is the sum of the singular values of R_r R_g^T / sqrt((N - 1) (M - 1)).  This gives the number of torchmetrics and
    pytorch-fid, in a small part of the time that the eigenvalues of S_r S_g take, and without their rounding where the
    covariances are singular.

    Raises:
        OptionError: fewer than two pictures, or features that do not agree.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 2:
        raise OptionError(f"FID needs two sets of at least two rows of features each, got "
                              f"{real.shape} and {fake.shape}")
    (mean_r, root_r), (mean_g, root_g) = (_root(torch.from_numpy(np.array(rows, np.float64))) for rows in (real, fake))
    return _distance(mean_r, root_r, mean_g, root_g)


def _distance(mean_r: torch.Tensor, root_r: torch.Tensor, mean_g: torch.Tensor, root_g: torch.Tensor) -> float:
    """FID from means (D,) and roots R with R^T R the covariance."""
    cross = torch.linalg.svdvals(root_r @ root_g.T).sum()
    distance = (mean_r - mean_g).square().sum() + root_r.square().sum() + root_g.square().sum() - 2 * cross
    return max(float(distance), 0.0)


def _root(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,), and R with R^T R the covariance, of features (N, D)."""
    mean = rows.mean(dim=0)
    return mean, torch.linalg.qr(rows - mean, mode="r").R / (len(rows) - 1) ** 0.5


def fid_interval(real: np.ndarray, fake: np.ndarray, items: Sequence[Any], resamples: int = 50, level: float = LEVEL,
                 seed: int = 0, device: str | torch.device = "cpu") -> list[float]:
    """Bounds of the FID of features (N, D) and (M, D), by a bootstrap over the items of the generated pictures.

    A resample counts picture i w_i times; its mean and covariance are those of rows weighted by w_i.  It lacks pictures
    that others take the place of, and a covariance of fewer pictures lies farther from the real one: the mean of the
    bootstrap is too high.  So the interval is the FID of all pictures, plus and minus the normal quantile times the
    standard deviation of the bootstrap.

    Args:
        items: M, to which item each generated picture belongs. ``level``: of confidence, in (0, 1).
    """
    from scipy.stats import norm

    _, owners = np.unique(np.asarray(items), return_inverse=True)
    rng, count, found = np.random.default_rng(seed), int(owners.max()) + 1, []
    mean_r, root_r = _root(torch.from_numpy(np.array(real, np.float64)).to(device))
    rows = torch.from_numpy(np.array(fake, np.float64)).to(device)
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)[owners]
        weights = torch.from_numpy(drawn.astype(np.float64)).to(device)[:, None]
        mean = (weights * rows).sum(dim=0) / weights.sum()
        root = torch.linalg.qr(weights.sqrt() * (rows - mean), mode="r").R / (weights.sum() - 1).sqrt()
        found.append(_distance(mean_r, root_r, mean, root))
    value, spread = frechet_distance(real, fake), norm.ppf((1 + level) / 2) * float(np.std(found, ddof=1))
    return [max(0.0, value - spread), value + spread]


def fid_by_size(real: np.ndarray, fake: np.ndarray, sizes: Sequence[int], draws: int = 3,
                seed: int = 0) -> dict[int, list[float]]:
    """FID of ``draws`` random subsets of so many generated pictures, against all real ones: how it falls."""
    if not all(2 <= size <= len(fake) for size in sizes):
        raise OptionError(f"sizes lie between 2 and the {len(fake)} generated pictures, got {list(sizes)}")
    rng = np.random.default_rng(seed)
    return {size: [frechet_distance(real, fake[rng.choice(len(fake), size, replace=False)]) for _ in range(draws)]
            for size in sizes}


def folder_pictures(folder: str | os.PathLike) -> list[Picture]:
    """All pictures of a folder, by name.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingFileError(f"there is no folder {place}")
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise MissingFileError(f"there is no picture ({', '.join(SUFFIXES)}) in {place}")
    return [Picture(file, file.name, i) for i, file in enumerate(files)]


def features(pictures: Sequence[Picture], network: nn.Module, path: str | os.PathLike, settings: dict[str, Any],
             batch: int = 16, device: str | torch.device = "cpu", size: int = 299, restart: bool = False,
             report: Callable[[str], None] = print_report) -> np.ndarray:
    """Features (N, D) float32 of pictures, going on where an earlier run was stopped.

    Args:
        network: from (B, 3, size, size) in [0, 1] to (B, D). ``path``: of the journal.
        settings: what the features depend on. ``size``: each picture is resized to, bilinearly.
    """
    network = network.to(device).eval()

    @torch.no_grad()
    def work(part: Sequence[Picture], pixels: Sequence[np.ndarray]) -> list[dict]:
        found = network(torch.stack([resized(array, size) for array in pixels]).to(device)).float().cpu().numpy()
        return [{"features": base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")} for row in found]

    rows = measure(pictures, work, Journal(path, settings, restart), batch, "pictures described", report)
    return np.stack([np.frombuffer(base64.b64decode(row["features"]), "<f4") for row in rows])


def resized(pixels: np.ndarray, size: int) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, size, size) float32 in [0, 1]; bilinear without antialiasing, as pytorch-fid."""
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    return nn.functional.interpolate(image, (size, size), mode="bilinear", align_corners=False)[0]


def evaluate_clip(annotations: str | os.PathLike, images: str | os.PathLike | None, output: str | os.PathLike,
                  weights: str | os.PathLike | None = None, scorer: CLIPScorer | None = None,
                  per_item: int | None = None, skip_missing: bool = False, given: Mapping[str, Any] | None = None,
                  batch: int = 16, device: str | torch.device = "cpu", restart: bool = False,
                  report: Report = print_report) -> dict:
    """CLIPScore of pictures with the captions of their entries.

    Args:
        annotations, images, per_item, skip_missing: see ``find_pictures``; an entry without caption is left out.
        weights: folder with CLIP. ``scorer``: use this instead.
        given, batch, restart, report: as for ``evaluate_ocr``.

    Raises:
        MetricWeightsError: there are no weights. FileNotFoundError, AnyWordError: see ``find_pictures``.
        NoCaptionError: no entry has a caption.
    """
    given = _given(given)
    pictures, missing = find_pictures(annotations, images, per_item, skip_missing=skip_missing)
    captioned = [picture for picture in pictures if picture.caption.strip()]
    if not captioned:
        raise NoCaptionError(f"no entry of {annotations} has a caption, and CLIPScore compares pictures with captions")
    given_model = scorer.model if scorer is not None else None
    scorer = CLIPScorer.from_folder(weights) if scorer is None else scorer
    scorer.model.to(device)
    identity = _network(given_model, lambda: weights, f"CLIP, as {CLIP_REPOSITORY}")

    def work(part: Sequence[Picture], pixels: Sequence[np.ndarray]) -> list[dict]:
        return [{"cosine": float(cosine)} for cosine in scorer.cosines(pixels, [p.caption for p in part])]

    settings = {"annotations": sha256(annotations), "network": identity}
    with written_folder(output):
        journal = Journal(Path(output) / "cosines.jsonl", settings, restart)
        rows = measure(captioned, work, journal, batch, "pictures compared with their captions", report)
        scores = [clip_score(row["cosine"]) for row in rows]
        result = {
            "kind": "clip", **_mean("clip_score", scores, captioned), "weight": CLIP_WEIGHT,
            "annotations": {"name": Path(annotations).name, "sha256": settings["annotations"]},
            "pictures": {"folder": pictures[0].path.parent.name, "read": len(captioned), "missing": len(missing),
                         "without_caption": len(pictures) - len(captioned)},
            "network": identity, **_nothing_read(), **_generation(given, captioned), "versions": versions(PACKAGES),
        }
        _write(output, result, captioned, "clip_score", scores)
    return result


def evaluate_lpips(real: str | os.PathLike, fake: str | os.PathLike, output: str | os.PathLike,
                   weights: str | os.PathLike | None = None, network: nn.Module | None = None,
                   given: Mapping[str, Any] | None = None, batch: int = 16, device: str | torch.device = "cpu",
                   restart: bool = False, report: Report = print_report) -> dict:
    """LPIPS of each picture of ``fake`` and the one of ``real`` with the same name (the suffix may differ).

    Args:
        weights: file of AlexNet's weights, see ``LPIPS.from_file``. ``network``: use this instead.
        given, batch, restart, report: as for ``evaluate_ocr``.

    Raises:
        MetricWeightsError: there are no weights. FileNotFoundError: a folder or a picture's partner is missing.
        ComparedPictureError: a pair differs in size.
    """
    given = _given(given)
    pictures, originals = folder_pictures(fake), folder_pictures(real)
    partners = _partners(pictures, originals)
    identity = _network(network, lambda: ALEXNET_WEIGHTS.find(weights), "AlexNet with the heads of LPIPS 0.1")
    network = (LPIPS.from_file(weights) if network is None else network).to(device)

    @torch.no_grad()
    def work(part: Sequence[Picture], pixels: Sequence[np.ndarray]) -> list[dict]:
        pairs = [_pair(partners[p.path.stem], p, array) for p, array in zip(part, pixels, strict=True)]
        groups = [pairs] if len({a.shape for a, _ in pairs}) == 1 else [[pair] for pair in pairs]
        return [{"lpips": float(d)} for group in groups
                for d in network(*(torch.stack(side).to(device) for side in zip(*group, strict=True)))]

    with written_folder(output):
        journal = Journal(Path(output) / "distances.jsonl", {"network": identity, "real": Path(real).name}, restart)
        distances = [row["lpips"] for row in measure(pictures, work, journal, batch, "pairs compared", report)]
        result = {
            "kind": "lpips", **_mean("lpips", distances, pictures), "network": identity,
            "pictures": {"real": Path(real).name, "fake": Path(fake).name, "pairs": len(pictures)},
            **_nothing_read(), **_generation(given, pictures), "versions": versions(PACKAGES),
        }
        _write(output, result, pictures, "lpips", distances)
    return result


def _write(output: str | os.PathLike, result: dict, pictures: Sequence[Picture], name: str,
           values: Sequence[float]) -> None:
    """The value of each picture as a table, and, last, the result."""
    write_table(Path(output) / "pictures.csv", [{"picture": picture.name, name: round(value, 6)}
                                                for picture, value in zip(pictures, values, strict=True)])
    write_result(Path(output) / "result.json", result)


def _partners(pictures: Sequence[Picture], originals: Sequence[Picture]) -> dict[str, Path]:
    """For the stem of each picture's name the original of the same."""
    found = {original.path.stem: original.path for original in originals}
    alone = [picture.name for picture in pictures if picture.path.stem not in found]
    if alone:
        raise MissingFileError(f"{len(alone)} of {len(pictures)} pictures have no partner of the same name in "
                               f"{originals[0].path.parent}, {alone[0]} among them")
    return found


def _pair(real: Path, picture: Picture, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    other = read_picture(real)
    if other.shape != pixels.shape:
        raise ComparedPictureError(f"{picture.path} has {pixels.shape[1]} x {pixels.shape[0]} pixels and {real} "
                           f"{other.shape[1]} x {other.shape[0]}: LPIPS compares pictures of one size")
    return to_tensor(other)[0], to_tensor(pixels)[0]


def _mean(name: str, values: Sequence[float], pictures: Sequence[Picture]) -> dict[str, Any]:
    interval = bootstrap_interval(values, [picture.item for picture in pictures])
    return {name: float(np.mean(values)), f"{name}_interval": list(interval),
            "bootstrap": about()}


def _network(network: nn.Module | None, place: Callable[[], str | os.PathLike], name: str) -> dict[str, Any]:
    """Identify the measuring network: the published one with the hash of its weights, or the given one's name."""
    if network is not None:
        return {"name": type(network).__name__, "weights_sha256": None}
    return {"name": name, "weights_sha256": sha256(place())}


def _nothing_read() -> dict[str, None]:
    """These measures read no text."""
    return {"recogniser": None, "crops": None, "lines": None}


def _given(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(given or {}), "checkpoint": checkpoint_identity((given or {}).get("checkpoint"))}


def _generation(given: Mapping[str, Any], pictures: Sequence[Picture]) -> dict[str, Any]:
    return generation(given, [picture_settings(picture.path) for picture in pictures])
