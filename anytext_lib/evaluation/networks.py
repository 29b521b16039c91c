"""The networks that measure pictures, without torchvision: Inception (FID), AlexNet with heads (LPIPS) and CLIP.

Their weights are local files, checked, and never downloaded in silence.

Inception v3 is the network of 2015 in TensorFlow, as pytorch-fid ports it: average pooling does not count its padding,
and the last block takes the maximum where other Inceptions average.  Names of parameters are those of pytorch-fid's
file.  Source: pytorch-fid ``inception.py``; Szegedy et al. 2016, "Rethinking the Inception Architecture".

    LPIPS(a, b) = sum over 5 layers l of mean over pixels of  w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2

compares two pictures by the features f_l of AlexNet (Zhang et al. 2018).  The heads w_l come with torchmetrics; the
metric of torchmetrics itself insists on torchvision.

    CLIPScore = w * max(cos(E_image, E_caption), 0),   w = 2.5 in the paper and in AnyText2's tables

asks whether a picture shows what its caption says (Hessel et al. 2021).  torchmetrics has w = 100; its metric takes no
local folder, gives no number for a single picture and expects tensors where transformers 5 returns outputs, so the
embeddings are computed here; a test shows that both agree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.files import file_hash

FOLDER = "ANYTEXT_WEIGHTS"  # environment variable: where such files lie
_HASH_DIGITS = 8


class MetricWeightsError(AnyTextError, RuntimeError):
    """Weights are missing or damaged; the message says which, where they belong and how to get them."""


@dataclass(frozen=True)
class KnownWeights:
    """A file that others publish.

    Attributes:
        what: the metric that needs it. ``file``: its name, which ends in the first eight digits of its SHA-256.
        url: where it is.
    """

    what: str
    file: str
    url: str

    def find(self, path: str | os.PathLike | None = None) -> Path:
        """The file: ``path``, else in the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: it is not there, or its hash is not the one in its name.
        """
        folder = os.environ.get(FOLDER)
        place = Path(path) if path is not None else Path(folder) / self.file if folder else None
        if place is None or not place.is_file():
            looked = f"there is no file {place}" if place is not None else f"the variable {FOLDER} names no folder"
            raise MetricWeightsError(f"{self.what} needs {self.file}, and {looked}. Fetch it once:\n"
                                     f"    curl -LO {self.url}\n"
                                     f"and name it by --weights, or put it into a folder and let {FOLDER} name that")
        if place.name == self.file:
            self._check(place)
        return place

    def _check(self, place: Path) -> None:
        wanted = place.stem.rsplit("-", 1)[-1]
        found = file_hash(place)
        if found[:_HASH_DIGITS] != wanted:
            raise MetricWeightsError(f"{place} is damaged: its SHA-256 begins with {found[:_HASH_DIGITS]}, not "
                                     f"{wanted}. Fetch it again: curl -LO {self.url}")


def load_tensors(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Tensors of a .pth (read without executing code) or .safetensors file; MetricWeightsError if it is neither."""
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MetricWeightsError(f"{path} cannot be read as weights ({type(error).__name__}: "
                                 f"{str(error).splitlines()[0]}): fetch it again") from error


def load_into(network: torch.nn.Module, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Fill a network; MetricWeightsError names tensors that are missing, left over, of another shape, or not finite."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()
              if not name.endswith("num_batches_tracked")}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    odd = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if odd:
        raise MetricWeightsError(f"{where} does not hold {type(network).__name__}: {len(odd)} tensors are missing, "
                                 f"left over or of another shape, as {', '.join(odd[:3])}")
    if bad := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        raise MetricWeightsError(f"{where}: the tensor {bad[0]} holds NaN or infinite numbers ({len(bad)} such "
                                 "tensors): the file is damaged, fetch it again")
    network.load_state_dict(tensors, strict=False)


# Inception

SIDE, FEATURES = 299, 2048
INCEPTION_WEIGHTS = KnownWeights("FID", "pt_inception-2015-12-05-6726825d.pth", "https://github.com/mseitzer/pytorch-fid/"
                       "releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth")


class Conv(nn.Module):
    """Convolution, batch norm, ReLU.  Stride 2 has no padding; stride 1 keeps the size unless ``padded`` is False."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True):
        super().__init__()
        h, w = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (h // 2, w // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, (h, w), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average(x: torch.Tensor) -> torch.Tensor:
    """Mean over 3 x 3, of the pixels inside the map only."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x: torch.Tensor) -> torch.Tensor:
    """Maximum over 3 x 3."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: torch.Tensor) -> torch.Tensor:
    """Maximum over 3 x 3 at every second pixel."""
    return F.max_pool2d(x, 3, stride=2)


class Mixed(nn.Module):
    """Branches side by side, whose outputs are concatenated.

    Args:
        inputs: channels.
        branches: each a row of steps (name, outputs, kernel[, stride]); a last step that is a list of steps is
            computed side by side as well.
        pool: of the last branch. ``pooled``: channels of the convolution ``branch_pool`` behind it, 0 for none.
    """

    def __init__(self, inputs: int, branches: Sequence[Sequence], pool, pooled: int):
        super().__init__()
        self.pool, self.rows = pool, []
        for branch in branches:
            channels, names = inputs, []
            for step in branch:
                steps = step if isinstance(step, list) else [step]
                for name, outputs, *shape in steps:
                    self.add_module(name, Conv(channels, outputs, *shape))
                names.append([name for name, *_ in steps])
                channels = steps[0][1]
            self.rows.append(names)
        self.branch_pool = Conv(inputs, pooled, 1) if pooled else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for names in self.rows:
            y = x
            for step in names[:-1]:
                y = self.get_submodule(step[0])(y)
            found += [self.get_submodule(name)(y) for name in names[-1]]
        return torch.cat([*found, self.branch_pool(self.pool(x))], dim=1)


def _a(inputs: int, pooled: int) -> Mixed:
    return Mixed(inputs, [
        [("branch1x1", 64, 1)], [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]], average, pooled)


def _b(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3", 384, 3, 2)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)]], halve, 0)


def _c(inputs: int, c: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    return Mixed(inputs, [
        [("branch1x1", 192, 1)], [("branch7x7_1", c, 1), ("branch7x7_2", c, row), ("branch7x7_3", 192, column)],
        [("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, column), ("branch7x7dbl_3", c, row),
         ("branch7x7dbl_4", c, column), ("branch7x7dbl_5", 192, row)]], average, 192)


def _d(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
        [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
         ("branch7x7x3_4", 192, 3, 2)]], halve, 0)


def _e(inputs: int, pool) -> Mixed:
    def split(name: str) -> list:
        return [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]

    return Mixed(inputs, [
        [("branch1x1", 320, 1)], [("branch3x3_1", 384, 1), split("branch3x3_2")],
        [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), split("branch3x3dbl_3")]], pool, 192)


class FIDInception(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1], RGB, of any size, to features (B, 2048)."""

    num_features = FEATURES

    def __init__(self):
        super().__init__()
        for name, layer in (
            ("Conv2d_1a_3x3", Conv(3, 32, 3, 2)), ("Conv2d_2a_3x3", Conv(32, 32, 3, padded=False)),
            ("Conv2d_2b_3x3", Conv(32, 64, 3)), ("maxpool1", nn.MaxPool2d(3, 2)), ("Conv2d_3b_1x1", Conv(64, 80, 1)),
            ("Conv2d_4a_3x3", Conv(80, 192, 3, padded=False)), ("maxpool2", nn.MaxPool2d(3, 2)),
            ("Mixed_5b", _a(192, 32)), ("Mixed_5c", _a(256, 64)), ("Mixed_5d", _a(288, 64)), ("Mixed_6a", _b(288)),
            ("Mixed_6b", _c(768, 128)), ("Mixed_6c", _c(768, 160)), ("Mixed_6d", _c(768, 160)),
            ("Mixed_6e", _c(768, 192)), ("Mixed_7a", _d(768)), ("Mixed_7b", _e(1280, average)),
            ("Mixed_7c", _e(2048, maximum)),
        ):
            self.add_module(name, layer)
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | os.PathLike | None = None) -> FIDInception:
        """With pytorch-fid's weights, from ``path`` or the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: they are not there, damaged, or of another network.
        """
        place = INCEPTION_WEIGHTS.find(path)
        network = cls()
        tensors = {name: tensor for name, tensor in load_tensors(place).items() if not name.startswith("fc.")}
        load_into(network, tensors, str(place))
        return network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = 2 * F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1
        return super().forward(x).mean(dim=(2, 3))


# LPIPS

ALEXNET_WEIGHTS = KnownWeights("LPIPS", "alexnet-owt-7be5be79.pth",
                       "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth")
LPIPS_CHANNELS = (64, 192, 384, 256, 256)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 32  # pixels: below, the last layers have nothing to look at


class AlexNetFeatures(nn.Module):
    """The five stages of torchvision's AlexNet, each ending in its ReLU."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(),
            nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Distances (B,) of images (B, 3, H, W) in [-1, 1], RGB.

    Args:
        backbone: from images to a list of maps (B, C_l, h_l, w_l). ``heads``: a weight (C_l,) for each.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, backbone: nn.Module, heads: list[torch.Tensor]):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ParameterList(heads)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | os.PathLike | None = None) -> LPIPS:
        """With torchvision's AlexNet weights, from ``path`` or the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: they are not there, damaged, or of another network.
        """
        place = ALEXNET_WEIGHTS.find(path)
        backbone = AlexNetFeatures()
        tensors = load_tensors(place)
        load_into(backbone, {name: t for name, t in tensors.items() if not name.startswith("classifier.")}, str(place))
        return cls(backbone, published_heads())

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        if first.shape != second.shape or first.ndim != 4 or min(first.shape[2:]) < SMALLEST:
            raise OptionError(f"LPIPS compares images (B, 3, H, W) of one size, at least {SMALLEST} pixels high "
                                  f"and wide; got {tuple(first.shape)} and {tuple(second.shape)}")
        maps = [self.backbone((x - self.shift) / self.scale) for x in (first, second)]
        return sum(((_unit(a) - _unit(b)) ** 2).mul(w[:, None, None]).sum(dim=1).mean(dim=(1, 2))
                   for a, b, w in zip(*maps, self.heads, strict=True))


def published_heads() -> list[torch.Tensor]:
    """The weights (C_l,) of LPIPS 0.1 for AlexNet, from torchmetrics' files."""
    import torchmetrics

    tensors = load_tensors(Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth")
    return [tensors[f"lin{i}.model.1.weight"].flatten() for i in range(len(LPIPS_CHANNELS))]


def _unit(maps: torch.Tensor) -> torch.Tensor:
    """Each pixel's vector at length one."""
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


# CLIPScore

CLIP_WEIGHT = 2.5
CLIP_REPOSITORY = "openai/clip-vit-base-patch32"  # ViT-B/32, as in the paper


class CLIPScorer:
    """Cosines of pictures and captions.

    Args:
        model: a ``transformers.CLIPModel``. ``tokenizer``, ``image_processor``: that belong to it.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any):
        self.model = model.requires_grad_(False).eval()
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.longest = model.config.text_config.max_position_embeddings

    @classmethod
    def from_folder(cls, folder: str | os.PathLike | None) -> CLIPScorer:
        """From a local folder of transformers' files; nothing is downloaded.

        Raises:
            MetricWeightsError: there is no such folder, or it is incomplete.
        """
        remedy = (f"Fetch it once:\n    hf download {CLIP_REPOSITORY} --local-dir clip-vit-base-patch32\n"
                  "and name the folder by --weights")
        if folder is None or not (Path(folder) / "config.json").is_file():
            looked = "none was named" if folder is None else f"{folder} is no such folder (it has no config.json)"
            raise MetricWeightsError(f"CLIPScore needs a folder with CLIP, and {looked}. {remedy}")
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True)
            if bad := [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]:
                raise ValueError(f"the tensor {bad[0]} holds NaN or infinite numbers")
            return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True),
                       CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise MetricWeightsError(f"{folder} is not a complete CLIP ({reason}). {remedy}") from error

    @torch.no_grad()
    def cosines(self, pixels: Sequence[np.ndarray], captions: Sequence[str]) -> torch.Tensor:
        """(N,) cosines of pictures (H, W, 3) uint8, RGB, with captions; longer captions are cut to CLIP's 77 tokens."""
        device = next(self.model.parameters()).device
        images = self.image_processor(images=list(pixels), return_tensors="pt", input_data_format="channels_last")
        tokens = self.tokenizer(list(captions), return_tensors="pt", padding=True, truncation=True,
                                max_length=self.longest)
        a = _embeddings(self.model.get_image_features(pixel_values=images["pixel_values"].to(device)))
        b = _embeddings(self.model.get_text_features(input_ids=tokens["input_ids"].to(device),
                                                 attention_mask=tokens["attention_mask"].to(device)))
        return torch.nn.functional.cosine_similarity(a.float(), b.float()).cpu()


def clip_score(cosine: float) -> float:
    """CLIPScore of one cosine."""
    return CLIP_WEIGHT * max(cosine, 0.0)


def _embeddings(found: Any) -> torch.Tensor:
    """Embeddings (N, D), whether transformers returns them or an output that holds them."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output
