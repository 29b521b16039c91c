"""Decoding only where text stands: the windows, equality with whole pictures, cost, the doors, and the record."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from anytext_lib import cli
from anytext_lib.data import TextLines
from anytext_lib.diffusion import scaled_linear_abar
from anytext_lib.errors import OptionError
from anytext_lib.experiments import patches
from anytext_lib.experiments.paired import paired_difference
from anytext_lib.experiments.plan import ExperimentPlan
from anytext_lib.files import data_folder
from anytext_lib.losses import AnyText2Objective
from anytext_lib.models import AnyText2Model
from anytext_lib.models.patch_decoder import PatchDecoder, UpPath, exact_margin, upsampling_kernel
from anytext_lib.ocr import crop_lines
from anytext_lib.ocr.crops import footprint
from anytext_lib.ocr.windows import background_tiles, statistics_shares, text_windows
from anytext_lib.scenes import render_scene, scene_batch
from tests.unit.fake_gpu import GPU, FakeGpu
from tests.unit.in_process import in_this_process
from tests.unit.toy import ABAR, ToyReader

SIZE = (128, 192)


def line(x, y, width, height, degrees=0.0):
    """Corners of a box around (x, y), turned."""
    corners = torch.tensor([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    turn = torch.deg2rad(torch.tensor(float(degrees)))
    matrix = torch.stack([torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])])
    return corners @ matrix.T + torch.tensor([float(x), float(y)])


def lines_at(*places, size=SIZE):
    """Lines of boxes (picture, x, y, width, height, degrees)."""
    quads = torch.stack([line(*place[1:]) for place in places]) if places else torch.zeros(0, 4, 2)
    return TextLines([place[0] for place in places], quads, ["text"] * len(places), ["Latin"] * len(places))


PLACES = [(0, 60, 40, 70, 20, 15), (0, 150, 100, 60, 30, 0), (1, 12, 64, 22, 90, 0), (1, 170, 20, 80, 24, -30)]


def coder(**options):
    """A small auto-encoder with the parts of Stable Diffusion's, random weights and alive norms."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**{"block_out_channels": [8, 8, 16, 16], "down_block_types": ["DownEncoderBlock2D"] * 4,
                           "up_block_types": ["UpDecoderBlock2D"] * 4, "layers_per_block": 2, "norm_num_groups": 4,
                           "scaling_factor": 0.5, **options}).requires_grad_(False).eval()
    for module in vae.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    return vae


@pytest.fixture(scope="module")
def vae():
    return coder()


@pytest.fixture(scope="module", params=["mini/after/vae", "mini2/vae"])
def trained(request):
    found = AutoencoderKL.from_pretrained(data_folder() / request.param, low_cpu_mem_usage=False)
    return found.requires_grad_(False).eval()


@contextmanager
def constant_statistics(vae):
    """Group norms of the decoder's way up whose means and deviations pass no gradient on."""
    norms = [norm for block in vae.decoder.up_blocks for resnet in block.resnets
             for norm in (resnet.norm1, resnet.norm2)] + [vae.decoder.conv_norm_out]

    def forward(norm, x):
        cells = x.reshape(len(x), norm.num_groups, -1)
        variance, mean = torch.var_mean(cells.detach(), dim=2, correction=0, keepdim=True)
        return (((cells - mean) * (variance + norm.eps).rsqrt()).reshape(x.shape) * norm.weight[:, None, None]
                + norm.bias[:, None, None])

    for norm in norms:
        norm.forward = forward.__get__(norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def read(decode, latents, lines):
    """Crops, and the gradient in the latents of something that looks at nothing else."""
    z = latents.clone().requires_grad_()
    crops = crop_lines(decode(z), lines)
    weights = torch.randn(crops.shape, generator=torch.Generator().manual_seed(3))
    return crops.detach(), torch.autograd.grad((crops * weights).sum(), z)[0]


def whole(vae):
    return lambda z: vae.decode(z / vae.config.scaling_factor).sample


def patched(decoder, lines):
    return lambda z: decoder(z, lines)


def cosine(a, b):
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


# windows

BOXES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 192), st.integers(0, 128), st.integers(4, 150),
                           st.integers(4, 60), st.integers(-90, 90)), min_size=1, max_size=5)


@given(BOXES)
@settings(max_examples=25, deadline=None)
def test_windows_hold_the_lines_and_share_no_pixel(places):
    lines = lines_at(*places)
    windows = text_windows(lines, SIZE)
    for index, quad in zip(lines.image_index.tolist(), lines.quads, strict=True):
        top, bottom, left, right = footprint(quad, SIZE)
        assert sum(w.picture == index and w.rows.start <= top and bottom <= w.rows.stop and w.columns.start <= left
                   and right <= w.columns.stop for w in windows) == 1
    assert not any(a.overlaps(b) for i, a in enumerate(windows) for b in windows[:i])
    assert all(side % 8 == 0 for w in windows for side in w.shape)
    assert all(0 <= w.rows.start and w.rows.stop <= 128 and 0 <= w.columns.start and w.columns.stop <= 192
               for w in windows)
    for share in (0.1, 0.5, 1):
        tiles = background_tiles(windows, SIZE, 32, share)
        assert share == 1 or not any(tile.overlaps(window) for tile in tiles for window in windows)
        shares = statistics_shares(windows, tiles, SIZE)
        for picture in {w.picture for w in windows}:
            own = [w.picture == picture for w in [*windows, *tiles]]
            assert float(shares[own].sum()) == pytest.approx(1, abs=1e-5)


@given(BOXES)
@settings(max_examples=20, deadline=None)
def test_crops_look_at_nothing_but_the_windows(places):
    lines = lines_at(*places)
    kept = [i for i, quad in enumerate(lines.quads) if (quad.amin(0) < torch.tensor([191.0, 127.0])).all()
            and (quad.amax(0) > 1).all()]
    lines = lines.select(torch.tensor(kept, dtype=torch.long))
    if not len(lines):
        return
    pictures = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    masked = torch.full_like(pictures, float("nan"))
    for w in text_windows(lines, SIZE):
        rows, columns = slice(w.rows.start, w.rows.stop), slice(w.columns.start, w.columns.stop)
        masked[w.picture, :, rows, columns] = pictures[w.picture, :, rows, columns]
    masked = masked.nan_to_num(1e6)
    assert torch.equal(crop_lines(masked, lines, on_bad_line="raise"), crop_lines(pictures, lines))


def test_near_lines_share_a_window_and_far_ones_do_not():
    near = lines_at((0, 60, 30, 80, 16, 0), (0, 60, 50, 80, 16, 0))
    far = lines_at((0, 40, 20, 40, 16, 0), (0, 150, 110, 40, 16, 0), (1, 40, 20, 40, 16, 0))
    assert len(text_windows(near, SIZE)) == 1 and len(text_windows(far, SIZE)) == 3
    assert len({window.shape for window in text_windows(far, SIZE)}) == 1, "one batch"


def test_tiles_are_spread():
    windows = text_windows(lines_at((0, 256, 256, 60, 20, 0)), (512, 512))
    tiles = background_tiles(windows, (512, 512), 64, 0.125)
    assert len(tiles) == 8
    assert len({t.rows.start for t in tiles}) >= 5 and len({t.columns.start for t in tiles}) >= 5


# equality

def test_upsampling_and_convolution_are_one_transposed_convolution():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 6, 7)
    wanted = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    found = F.conv_transpose2d(x, upsampling_kernel(conv.weight), conv.bias, stride=2, padding=1)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_with_the_whole_background_and_margin_crops_and_gradient_are_the_whole_pictures(vae):
    """Gradient: of a decoder whose statistics are constants; with their gradient it differs by a little."""
    lines = lines_at(*PLACES)
    latents = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    assert exact_margin(vae) == 13
    crops, gradient = read(patched(PatchDecoder(vae, 13, 1.0), lines), latents, lines)
    with constant_statistics(vae):
        wanted, pull = read(whole(vae), latents, lines)
    assert torch.allclose(crops, wanted, atol=1e-5 * float(wanted.abs().max()))
    assert torch.allclose(gradient, pull, atol=1e-4 * float(pull.abs().max()))
    assert not torch.allclose(gradient, read(whole(vae), latents, lines)[1], atol=1e-4 * float(pull.abs().max()))


def test_one_cell_less_is_no_longer_exact():
    """The documented margin is the least: a pixel at the rim of level 0 reaches the text through every convolution."""
    vae = coder(block_out_channels=[8, 8], down_block_types=["DownEncoderBlock2D"] * 2, layers_per_block=1,
                up_block_types=["UpDecoderBlock2D"] * 2, mid_block_add_attention=False)
    lines = lines_at((0, 100, 60, 40, 16, 0))
    latents = torch.randn(1, 4, 64, 96, generator=torch.Generator().manual_seed(1))
    wanted = read(whole(vae), latents, lines)[0]
    errors = [float((read(patched(PatchDecoder(vae, margin, 1.0), lines), latents, lines)[0] - wanted).abs().max())
              for margin in (0, 2, 4, exact_margin(vae))]
    assert errors[0] > errors[1] > errors[2] >= errors[3] and errors[3] < 1e-5 < errors[1]


def test_without_lines_nothing_is_decoded(vae):
    found = PatchDecoder(vae)(torch.randn(1, 4, 16, 24), lines_at())
    assert found.shape == (1, 3, *SIZE) and not found.any()


def test_shipped_auto_encoders_lose_little(trained):
    """At 256 pixels and three lines: margin 2 with the whole background, and with an eighth of it."""
    images, lines, _ = scene_batch([render_scene(3, 256, n_lines=3, invalid=0.0)])
    exact, near, default = patches.compare(trained, images, lines, [(8, 1.0), (2, 1.0), (2, 0.125)])
    assert exact["exact"] and exact["crop_max"] < 2e-4 and exact["cosine"] > 0.999
    assert near["crop_rms"] < 1e-3 and near["cosine"] > 0.998 and abs(near["loss_error"]) < 0.01
    assert default["crop_rms"] < 0.02 and default["cosine"] > 0.97 and abs(default["loss_error"]) < 0.05


def test_half_precision_stays_near(vae):
    lines = lines_at(*PLACES)
    latents = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    decode = PatchDecoder(vae, 4, 0.25)
    wanted = decode(latents, lines)
    with torch.autocast("cpu", torch.bfloat16):
        found = decode(latents, lines)
    assert float((found - wanted).norm() / wanted.norm()) < 0.05


# cost

def test_checkpointing_keeps_less_and_changes_nothing(vae):
    lines = lines_at(*PLACES)
    latents = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))

    def gradient():
        kept = {}
        z = latents.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
                lambda t: kept.setdefault(t.data_ptr(), t.nbytes) and t, lambda t: t):
            picture = PatchDecoder(vae)(z, lines)
        return torch.autograd.grad(picture.square().sum(), z)[0], sum(kept.values())

    plain, held = gradient()
    vae.enable_gradient_checkpointing()
    try:
        again, less = gradient()
    finally:
        vae.disable_gradient_checkpointing()
    assert torch.allclose(again, plain, rtol=1e-4, atol=1e-6 * float(plain.abs().max())) and less < 0.5 * held


def test_patches_cost_less(vae):
    lines = lines_at((0, 256, 256, 160, 32, 0))

    def flops(decode):
        z = torch.zeros(1, 4, 64, 64, device="meta", requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            decode(z).sum().backward()
        return counter.get_total_flops()

    there = coder(mid_block_add_attention=False).to("meta")
    assert flops(patched(PatchDecoder(there), lines)) < 0.3 * flops(whole(there))


# doors

@pytest.mark.parametrize("margin, background, message", [(-1, 0.1, "margin"), (1.5, 0.1, "margin"), (2, 0, "share"),
                                                         (2, 1.5, "share")])
def test_numbers_without_sense_are_refused(vae, margin, background, message):
    with pytest.raises(OptionError, match=message):
        PatchDecoder(vae, margin, background)


def test_other_decoders_are_refused():
    with pytest.raises(OptionError, match="decode whole pictures"):
        PatchDecoder(AutoencoderKL(up_block_types=("AttnUpDecoderBlock2D",), norm_num_groups=8,
                                   block_out_channels=(16,)))


def test_an_objective_takes_it_as_its_decode(vae):
    lines = lines_at((0, 60, 40, 70, 20, 15), (2, 150, 100, 60, 30, 0))
    generator = torch.Generator().manual_seed(0)
    latents, noise, output = (torch.randn(3, 4, 16, 24, generator=generator) for _ in range(3))
    images, timesteps = torch.rand(3, 3, *SIZE, generator=generator) * 2 - 1, torch.tensor([10, 300, 100])

    def terms(decode):
        output.grad = None
        found = AnyText2Objective(ToyReader(), ABAR, decode, loss_alpha=1.0, loss_beta=0.1)(
            output.requires_grad_(), latents, noise, timesteps, images, lines)
        found.loss.backward()
        return found, output.grad

    found, gradient = terms(PatchDecoder(vae, 13, 1.0))
    wanted, pull = terms(whole(vae))
    assert float(found.ocr.detach()) == pytest.approx(float(wanted.ocr.detach()), rel=1e-4)
    assert float(found.ctc.detach()) == pytest.approx(float(wanted.ctc.detach()), rel=1e-4)
    assert cosine(gradient, pull) > 0.999


def test_the_host_waits_no_more_than_for_whole_pictures():
    there = coder(block_out_channels=[8, 8], down_block_types=["DownEncoderBlock2D"] * 2, layers_per_block=1,
                  up_block_types=["UpDecoderBlock2D"] * 2).to(GPU)
    lines = lines_at(*PLACES)
    for _ in range(2):
        with FakeGpu() as gpu:
            z = torch.zeros(2, 4, 64, 96, device=GPU, requires_grad=True)
            PatchDecoder(there)(z, lines).sum().backward()
    assert gpu.waits == []


def test_fit_decodes_patches(tmp_path, monkeypatch, capsys):
    """The command trains with the OCR loss on decoded patches; its loss is near that of whole pictures."""
    used = []
    original = UpPath.__call__
    monkeypatch.setattr(UpPath, "__call__", lambda self, x: used.append(len(self.groups)) or original(self, x))

    def fit(name, *options):
        status = cli.main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), "--name", name, "--loss_alpha", "1",
                           "--trainer.max_steps", "1", "--val", "null", *options])
        return status

    assert fit("patches", "--decode_patches", "4", "--decode_background", "1", "--decode_checkpointing", "true") in (
        0, None) and used
    used.clear()
    assert fit("whole") in (0, None) and not used
    assert fit("wrong", "--decode_patches", "-1") == 2
    assert "margin of decoded patches" in capsys.readouterr().err


# record

def recorded():
    return json.loads((data_folder() / "experiments" / "patches" / "patches.json").read_text(encoding="utf-8"))


def test_recorded_gain_is_that_of_whole_pictures():
    rows = recorded()["run"]
    gain = {arm: paired_difference(rows, "ppocrv4_ned", arm, "none") for arm in ("whole", "patches", "chance")}
    assert gain["patches"].n >= 3 and all(found.low > 0.05 for found in gain.values())
    between = paired_difference(rows, "ppocrv4_ned", "patches", "whole")
    assert between.low < 0 < between.high and abs(between.mean) < 0.1 * gain["whole"].mean


def test_recorded_errors_fall_with_the_margin_and_vanish():
    rows = recorded()["accuracy"]
    scenes = {(row["coder"], row["lines"], row["seed"]) for row in rows}
    assert len(scenes) >= 4
    for scene in scenes:
        own = {(r["margin"], r["background"]): r for r in rows if (r["coder"], r["lines"], r["seed"]) == scene}
        errors = [own[margin, 1.0]["crop_rms"] for margin in (0, 1, 2, 4, 8)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-5 and own[8, 1.0]["exact"]
        assert own[8, 1.0]["cosine"] > 0.9999 and own[2, 1.0]["cosine"] > 0.9995
        assert own[2, 0.125]["cosine"] > 0.998 and abs(own[2, 0.125]["loss_error"]) < 0.002


def test_readme_tells_the_counted_costs():
    rows = {(r["part"], r["margin"], r["background"], r["lines"], r["size"]): r for r in recorded()["counted"]}
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for margin, background, named in ((2, 0.125, "margin 2, background 1/8"), (1, 0.0625, "margin 1, background 1/16"),
                                      (2, 1.0, "margin 2, whole background")):
        cells = [f"patches, {named}"]
        for share in ("share_flops", "share_memory"):
            usual = [round(100 * rows["patches", margin, background, count, "usual"][share]) for count in (1, 3, 5)]
            cells += [f"+{', '.join(map(str, usual))}%",
                      f"+{round(100 * rows['patches', margin, background, 3, 'small'][share])}%"]
        assert "| " + " | ".join(cells) + " |" in text
    chance = float(scaled_linear_abar().mean())  # of being read, at a uniform timestep
    usual = [round(100 * chance * rows["patches", 2, 0.125, count, "usual"]["share_flops"]) for count in (1, 3, 5)]
    small = round(100 * chance * rows["patches", 2, 0.125, 3, "small"]["share_flops"])
    assert f"by lot | +{', '.join(map(str, usual))}% | +{small}% |" in text
    whole = rows["whole", 0, 0.0, 0, ""]
    assert f"+{whole['share_flops']:.0%} | +{whole['share_flops']:.0%} | +{whole['share_memory']:.0%} |" in text


def test_readme_tells_the_measured_costs():
    cost = {row["lines"]: row for row in recorded()["cost"]}
    text = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    assert f"the whole {cost[0]['seconds']:.0f} s and {cost[0]['gib']:.1f} GiB" in text
    seconds, gib = ([cost[lines][key] for lines in (1, 3, 5)] for key in ("seconds", "gib"))
    assert "{:.1f}, {:.1f} and {:.1f} s, {:.1f}, {:.1f} and {:.1f} GiB".format(*seconds, *gib) in text


@pytest.mark.slow
def test_the_experiment_runs(tmp_path, monkeypatch):
    """One seed of every arm, one step, on a tiny random model; one line, two ways."""
    AnyText2Model.from_config("tiny", tokenizer="bytes").save_pretrained(tmp_path / "tiny")
    sizes = replace(patches.SIZES, seeds=1, steps=1, batch=2, scenes=2, words=2, probes=1, sampling_steps=2, pictures=1,
                    timed=0, starts=(("random", str(tmp_path / "tiny")),))
    monkeypatch.setitem(patches.PROFILES, "test", sizes)
    monkeypatch.setattr(patches, "LINES", (1,))
    monkeypatch.setattr(patches, "CODERS", {"mini": "mini/after/vae"})
    monkeypatch.setattr(patches, "WAYS", [(2, 0.125)])
    monkeypatch.setattr(patches, "SIZES_OF_LINES", {"small": (160, 32)})
    monkeypatch.setattr(patches, "COUNTED", [(2, 0.125)])
    monkeypatch.setattr(ExperimentPlan, "run_all", in_this_process)
    assert patches.main("test", tmp_path / "out", None, "cpu", 1) == 0
    found = json.loads((tmp_path / "out" / "patches.json").read_text())
    assert [row["arm"] for row in found["run"]] == ["chance", "none", "patches", "whole"]
    assert found["accuracy"][0]["cosine"] > 0.9 and found["provenance"]["experiment"] == "patches"
    part = {row["part"]: row for row in found["counted"]}
    assert part["whole"]["share_flops"] > 2 and part["patches"]["share_flops"] < 0.5
