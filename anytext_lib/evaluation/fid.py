"""FID: how far the features of generated pictures lie from those of real ones.

    FID = |mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2))

of the means and covariances of 2048 Inception features (Heusel et al. 2017).  It falls with the number of pictures, so
numbers of different counts cannot be compared; below about 2048 pictures the covariances do not even have full rank.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.evaluation.items import SUFFIXES, Picture
from anytext_lib.evaluation.journal import Journal
from anytext_lib.evaluation.measure import measure
from anytext_lib.files import print_report


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
    cross = torch.linalg.svdvals(root_r @ root_g.T).sum()
    distance = (mean_r - mean_g).square().sum() + root_r.square().sum() + root_g.square().sum() - 2 * cross
    return max(float(distance), 0.0)


def _root(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,), and R with R^T R the covariance, of features (N, D)."""
    mean = rows.mean(dim=0)
    return mean, torch.linalg.qr(rows - mean, mode="r").R / (len(rows) - 1) ** 0.5


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
