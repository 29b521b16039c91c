"""The metrics equal those of the packages that the papers used: numbers of the same pictures and readings agree."""
import json
import math
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anytext_lib.data import to_tensor
from anytext_lib.evaluation import FIDInception, edit_distance_score, frechet_distance, protocol
from anytext_lib.evaluation.image_metrics import resized
from anytext_lib.evaluation.networks import LPIPS, AlexNetFeatures, published_heads
from tests.golden.cases import golden_files, load
from tests.golden.closeness import assert_close


def deterministic_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random tensors that depend on their names and shapes only."""
    tensors = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
        elif len(shape) > 1:
            tensors[name] = torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            tensors[name] = 1 + 0.2 * torch.rand(shape, generator=generator)
        else:
            tensors[name] = 0.1 * torch.randn(shape, generator=generator)
    return tensors


def fill(network: torch.nn.Module) -> torch.nn.Module:
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(deterministic_weights(shapes))
    return network


def pictures(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """(count, height, width, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 7, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    images = 0.8 * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False) + 0.2 * fine
    return images.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("path", golden_files("metrics", "text_*.json"))
@pytest.mark.parametrize("name, column", [("anytext", "ppocr_keys_v1"), ("anytext-english", "en_dict"),
                                          ("strict", "strict")])
def test_text_scores_equal_upstream(path, name, column):
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        score = protocol(name).score(row["read"], row["wanted"])
        assert score.correct == bool(row[column]["sen_acc"]), row
        assert score.ned == pytest.approx(row[column]["edit_dist"], abs=1e-12), row


@pytest.mark.parametrize("path", golden_files("metrics", "text_*.json"))
def test_word_match_equals_udifftext(path):
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        score = protocol("udifftext").score(row["read"], row["wanted"])
        assert score.correct == bool(row["udifftext"]), row
        assert score.ned == edit_distance_score(row["read"].lower(), row["wanted"].lower())


@pytest.mark.parametrize("path", golden_files("metrics", "fid_*.npz"))
def test_inception_equals_pytorch_fid(path):
    arrays, _ = load(path)
    images = [arrays["small"], pictures(1, 320, 305, int(arrays["large_seed"]))[0]]
    network = fill(FIDInception()).eval()
    with torch.no_grad():
        found = network(torch.stack([resized(image, 299) for image in images])).numpy()
    assert_close(found, arrays["features"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("path", golden_files("metrics", "fid_*.npz"))
def test_distance_equals_pytorch_fid(path):
    arrays, meta = load(path)
    for case in meta["cases"]:
        real, fake = arrays[f"{case}_real"], arrays[f"{case}_fake"]
        assert_close(frechet_distance(real, fake), arrays[f"{case}_fid"], rtol=1e-4, atol=1e-4, what=case)


@pytest.mark.parametrize("path", golden_files("metrics", "lpips_*.npz"))
def test_lpips_equals_the_package(path):
    arrays, _ = load(path)
    heads = published_heads()
    np.testing.assert_array_equal(torch.cat(heads).numpy(), arrays["heads"])
    first, second = (to_tensor(list(arrays[name])) for name in ("first", "second"))
    found = LPIPS(fill(AlexNetFeatures()), heads)(first, second)
    assert_close(found.numpy(), arrays["lpips"], rtol=1e-4, atol=1e-6)
