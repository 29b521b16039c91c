"""FID, CLIPScore and LPIPS on folders, with small networks that the tests make themselves."""
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from anytext_lib.evaluation import (
    LPIPS,
    CLIPScorer,
    FIDInception,
    MetricWeightsError,
    clip_score,
    evaluate_clip,
    evaluate_fid,
    evaluate_lpips,
    fid_by_size,
    frechet_distance,
)
from anytext_lib.evaluation.journal import ComparedPictureError, JournalError
from anytext_lib.evaluation.networks import AlexNetFeatures, KnownWeights, load_into, load_tensors, published_heads
from tests.unit.evaluation_toys import make_folder


class MeanColour(nn.Module):
    """Three features: the mean of each channel; counts pictures."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return images.mean(dim=(2, 3))


def silent(message: str) -> None:
    pass


def make_pictures(folder, count, seed, low=0, size=(40, 40)):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        canvas = np.ones((*size, 3)) * rng.integers(low, low + 100, 3)
        Image.fromarray(canvas.astype(np.uint8)).save(folder / f"p{i:02d}.png")
    return folder


# --- FID

def test_fid_of_folders(tmp_path):
    real, fake = make_pictures(tmp_path / "real", 12, 0), make_pictures(tmp_path / "fake", 9, 1, low=50)
    network, told = MeanColour(), []
    result = evaluate_fid(real, fake, tmp_path / "out", network=network, sizes=(4,), batch=4, report=told.append)
    colours = [np.array([np.array(Image.open(p))[0, 0] / 255 for p in sorted(f.iterdir())]) for f in (real, fake)]
    assert result["fid"] == pytest.approx(frechet_distance(*colours), rel=1e-4) and result["fid"] > 0.05
    assert len(result["fid_by_size"]["4"]) == 3 and result["pictures"]["fake"] == {"folder": "fake", "count": 9}
    assert result["recogniser"] is None and result["unknown"] == ["sampler", "checkpoint", "seed"]
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == result
    assert network.seen == 21
    again = evaluate_fid(real, fake, tmp_path / "out", network=network, sizes=(4,), batch=4, report=silent)
    assert again == result and network.seen == 21  # everything was kept
    (real / "p00.png").unlink()
    fewer = evaluate_fid(real, fake, tmp_path / "out", network=network, report=silent)
    assert fewer["pictures"]["real"]["count"] == 11 and network.seen == 21


def test_fid_warns_of_too_few_pictures_and_refuses_one(tmp_path):
    real, fake = make_pictures(tmp_path / "real", 2, 0), make_pictures(tmp_path / "fake", 2, 1)
    told = []
    evaluate_fid(real, fake, tmp_path / "out", network=MeanColour(), report=told.append)
    assert "fewer pictures than the 3 features" in told[-1]
    (fake / "p00.png").unlink()
    with pytest.raises(ValueError, match="at least two rows"):
        evaluate_fid(real, fake, tmp_path / "out", network=MeanColour(), report=silent)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture"):
        evaluate_fid(real, tmp_path / "none", tmp_path / "out", network=MeanColour(), report=silent)
    with pytest.raises(FileNotFoundError, match="no folder"):
        evaluate_fid(real, tmp_path / "nowhere", tmp_path / "out", network=MeanColour(), report=silent)


def test_fid_of_gaussians_is_the_formula():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20000, 2)) * [1, 2]
    b = rng.normal(size=(20000, 2)) * [2, 1] + [3, 0]
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 1, rel=0.03)  # |mean|^2 + sum of (s - s')^2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("counts, width", [((60, 50), 8), ((12, 9), 20)])
def test_fid_equals_torchmetrics(counts, width):
    from torchmetrics.image.fid import FrechetInceptionDistance

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(width, width))
    real, fake = (torch.from_numpy(rng.normal(size=(n, width)) @ mix + k) for k, n in enumerate(counts))
    network = nn.Identity()
    network.num_features = width
    metric = FrechetInceptionDistance(feature=network, normalize=True)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert frechet_distance(real.numpy(), fake.numpy()) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_fid_falls_with_the_number_of_pictures():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2000, 16)), rng.normal(size=(2000, 16))
    found = fid_by_size(real, fake, [40, 2000])
    assert min(found[40]) > 5 * max(found[2000])  # of one distribution: all of it is bias
    with pytest.raises(ValueError, match="between 2 and the 2000"):
        fid_by_size(real, fake, [3000])


def test_inception_takes_any_size_and_its_own_weights_only(tmp_path):
    network = FIDInception()
    assert network(torch.rand(1, 3, 20, 30)).shape == (1, 2048)
    tensors = network.state_dict()
    assert len(tensors) == 94 * 6 and sum(t.numel() for n, t in tensors.items() if "running" not in n) == 21_785_662
    with pytest.raises(MetricWeightsError, match="here does not hold FIDInception: 470 tensors"):
        load_into(network, {}, "here")


# --- weights

@pytest.mark.parametrize("load, file", [(FIDInception.from_file, "pt_inception-2015-12-05-6726825d.pth"),
                                        (LPIPS.from_file, "alexnet-owt-7be5be79.pth")])
def test_missing_weights_say_how_to_get_them(load, file, tmp_path, monkeypatch):
    monkeypatch.delenv("ANYTEXT_WEIGHTS", raising=False)
    with pytest.raises(MetricWeightsError, match=rf"(?s)needs {file}.*curl -LO https://\S+/{file}.*--weights"):
        load()
    with pytest.raises(MetricWeightsError, match="there is no file"):
        load(tmp_path / "nowhere.pth")
    monkeypatch.setenv("ANYTEXT_WEIGHTS", str(tmp_path))
    (tmp_path / file).write_bytes(b"cut off")
    with pytest.raises(MetricWeightsError, match="is damaged: its SHA-256 begins with .* Fetch it again: curl -LO"):
        load()


def test_files_that_are_no_weights(tmp_path):
    for name in ("a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(MetricWeightsError, match=f"{name} cannot be read as weights"):
            load_tensors(tmp_path / name)
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "b.pth")
    with pytest.raises(MetricWeightsError, match="b.pth does not hold AlexNetFeatures: 10 tensors"):
        LPIPS.from_file(tmp_path / "b.pth")
    assert KnownWeights("x", "y-12345678.pth", "z").find(tmp_path / "b.pth") == tmp_path / "b.pth"  # not that file


# --- LPIPS

def test_lpips_equals_torchmetrics(monkeypatch):
    from torchmetrics.functional.image import lpips as theirs

    torch.manual_seed(0)
    backbone = AlexNetFeatures()
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained: backbone.features)
    a, b = torch.rand(2, 2, 3, 64, 70) * 2 - 1
    expected = theirs._LPIPS(net="alex")(a, b).flatten()
    torch.testing.assert_close(LPIPS(backbone, published_heads())(a, b), expected, rtol=1e-4, atol=1e-6)


def test_lpips_of_folders(tmp_path):
    torch.manual_seed(0)
    network = LPIPS(AlexNetFeatures(), published_heads())
    real, fake = make_pictures(tmp_path / "real", 4, 0), make_pictures(tmp_path / "fake", 3, 0)
    Image.new("RGB", (40, 40), (250, 0, 0)).save(fake / "p02.png")
    result = evaluate_lpips(real, fake, tmp_path / "out", network=network, batch=2, report=silent)
    rows = (tmp_path / "out" / "pictures.csv").read_text(encoding="utf-8").split()
    assert rows[:3] == ["picture,lpips", "p00.png,0.0", "p01.png,0.0"] and result["lpips"] > 0
    assert result["pictures"]["pairs"] == 3
    Image.new("RGB", (48, 40)).save(fake / "p02.png")
    with pytest.raises(ComparedPictureError, match=r"p02\.png has 48 x 40 pixels and .*40 x 40"):
        evaluate_lpips(real, fake, tmp_path / "out", network=network, report=silent)
    (real / "p01.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures .* no partner .*p01\.png"):
        evaluate_lpips(real, fake, tmp_path / "out", network=network, report=silent)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        network(torch.zeros(1, 3, 20, 40), torch.zeros(1, 3, 20, 40))


# --- CLIPScore

@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP with small random weights, in transformers' files."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from anytext_lib.course.paths import project_root

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = AutoTokenizer.from_pretrained(project_root() / "data_samples" / "mini" / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(
        text_config={**small, "vocab_size": len(tokenizer), "max_position_embeddings": 77,
                     "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id},
        vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_clip_equals_torchmetrics(clip_folder):
    from torchmetrics.functional.multimodal import clip_score as theirs
    from transformers import CLIPProcessor

    scorer = CLIPScorer.from_folder(clip_folder)
    pixels = [np.random.default_rng(i).integers(0, 255, (40, 50 + i, 3), np.uint8) for i in range(3)]
    captions = ["a sign", "two words on a wall", "x " * 300]
    found = scorer.cosines(pixels, captions)

    class Tensors(nn.Module):
        """The model, with embeddings instead of transformers' outputs."""

        config = scorer.model.config

        def get_image_features(self, pixels):
            return getattr(found := scorer.model.get_image_features(pixels), "pooler_output", found)

        def get_text_features(self, ids, mask):
            return getattr(found := scorer.model.get_text_features(ids, mask), "pooler_output", found)

    both = (Tensors(), CLIPProcessor(scorer.image_processor, scorer.tokenizer))
    for array, caption, cosine in zip(pixels[:2], captions, found, strict=False):
        image = torch.from_numpy(array).permute(2, 0, 1)
        assert float(theirs(image, caption, lambda: both)) == pytest.approx(max(100 * float(cosine), 0), abs=1e-3)
    assert clip_score(0.3) == pytest.approx(0.75) and clip_score(-0.1) == 0


def test_clip_of_a_folder(clip_folder, tmp_path):
    path = make_folder(tmp_path, [["a"], ["b"], ["c"]], per_item=2)
    result = evaluate_clip(path, None, tmp_path / "out", clip_folder, batch=4, report=silent)
    assert result["pictures"] == {"folder": "pictures", "read": 6, "missing": 0, "without_caption": 0}
    assert 0 <= result["clip_score"] <= 2.5 and len(result["network"]["weights_sha256"]) == 64
    silenced = make_folder(tmp_path / "silent", [["a"]], captions=False)
    with pytest.raises(ValueError, match="no entry .* has a caption"):
        evaluate_clip(silenced, None, tmp_path / "out", clip_folder, report=silent)
    with pytest.raises(JournalError, match="annotations"):
        evaluate_clip(make_folder(tmp_path / "more", [["a"]]), None, tmp_path / "out", clip_folder, report=silent)


def test_missing_clip_says_how_to_get_it(tmp_path):
    for folder, reason in ((None, "none was named"), (tmp_path, "no such folder")):
        with pytest.raises(MetricWeightsError, match=rf"(?s){reason}.*hf download openai/clip-vit-base-patch32"):
            CLIPScorer.from_folder(folder)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MetricWeightsError, match="not a complete CLIP"):
        CLIPScorer.from_folder(tmp_path)


def test_torchvision_is_not_imported():
    assert "torchvision" not in sys.modules
