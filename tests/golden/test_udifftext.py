"""UDiffText's losses, noise levels and refinement against upstream's numbers (goldens/udifftext)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anytext_lib.udifftext import (
    Characters,
    Denoiser,
    Refinement,
    Target,
    UDiffTextObjective,
    add_sigma_noise,
    attention_focus_loss,
    denoised,
    denoising_loss,
    gaussian_kernel,
    head_mean,
    local_attention_loss,
    refine_latents,
    same_word,
    sampling_timesteps,
    sequence_loss,
    sigma_levels,
)
from tests.golden import closeness
from tests.golden.cases import golden_files

TOLERANCE = 1e-6


def load(path):
    """Arrays as tensors, floating ones in float64; and the meta data, if any."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta"))) if "meta" in arrays else None
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
    return {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}, meta


def assert_close(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    closeness.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def abar() -> torch.Tensor:
    """Stable Diffusion's schedule in float64, as upstream computes it; 1 - abar loses digits in float32."""
    return torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)


def each(pattern: str):
    return pytest.mark.parametrize("path", golden_files("udifftext", pattern))


@each("udiff_gauss_*.npz")
def test_kernels(path):
    case, _ = load(path)
    for name in (name for name in case if not name.endswith("_args")):
        size, sigma, count = case[f"{name}_args"].tolist()
        kernel = gaussian_kernel(int(size), sigma)
        assert_close(kernel.expand(int(count), 1, -1, -1), case[name])


@each("udiff_attn_*.npz")
def test_losses_on_attention_and_their_gradients(path):
    case, meta = load(path)
    for c, about in enumerate(meta):
        def of(name, c=c):
            return case[f"c{c}/{name}"]

        settings = {name: about[name] for name in ("kernel_size", "sigma")} | {"min_size": about["min_attn_size"]}
        probabilities = [of(f"attn{j}").requires_grad_(True) for j in range(len(about["layers"]))]
        maps = [head_mean(p, layer["heads"], (layer["size"],) * 2)
                for p, layer in zip(probabilities, about["layers"], strict=True) if layer["name"].endswith("t_attn")]
        local = local_attention_loss(maps, of("seg"), of("seg_mask"), **settings)
        focus = attention_focus_loss(maps, of("mask"), of("seg_mask"), **settings)
        for loss, key, gradient in ((local, "local_f64", "grad_local"), (focus, "min_f64", "grad_min")):
            assert_close(loss.detach(), of(key))
            found = torch.autograd.grad((of("w") * loss).sum(), probabilities, allow_unused=True, retain_graph=True)
            for j, value in enumerate(found):
                assert_close(torch.zeros_like(probabilities[j]) if value is None else value, of(f"{gradient}{j}"))


@each("udiff_full_*.npz")
def test_the_whole_objective(path):
    case, _ = load(path)
    x = add_sigma_noise(case["x0"], case["noise"], case["sigma"])
    assert_close(x, case["x_noised"])
    estimate = denoised(x, case["eps_pred"], case["sigma"])
    assert_close(estimate, case["D"], 1e-5)  # stored in float32, up to 14.6 times the size of eps
    assert_close(case["sigma"] ** -2, case["weight"])
    assert_close(denoising_loss(estimate, case["x0"], case["sigma"]), case["diff_per_sample"])
    names = sorted(name for name in case if name.startswith("attn"))
    rows = len(case["x0"])
    maps = [head_mean(case[name], len(case[name]) // rows, (int(case[name].shape[1] ** 0.5),) * 2) for name in names]
    terms = UDiffTextObjective(local_weight=float(case["lam"]))(
        estimate, case["x0"], case["sigma"], maps, case["seg"], case["seg_mask"])
    assert_close(terms.diffusion.mean(), case["diff_loss"])
    assert_close(terms.local.mean(), case["local_loss"])
    assert_close(terms.loss, case["full_loss"])


@each("udiff_str_*.npz")
def test_sequence_loss_and_reading(path):
    case, meta = load(path)
    characters = Characters(meta["charset"])
    assert len(characters) == meta["n_classes"]
    for c, about in enumerate(meta["cases"]):
        logits = case[f"c{c}/logits"].requires_grad_(True)
        loss = sequence_loss(logits, about["labels"], clamp=1.0, characters=characters)
        assert_close(loss.detach(), case[f"c{c}/loss"])
        assert_close(torch.autograd.grad((case[f"c{c}/w"] * loss).sum(), logits)[0], case[f"c{c}/grad"])
        read = characters.read(logits)
        assert read == about["decoded"]
        assert [same_word(*pair) for pair in zip(read, about["labels"], strict=True)] == about["seqacc_lower"]


@each("udiff_sigmas*.npz")
def test_noise_levels(path, abar):
    case, _ = load(path)
    levels = sigma_levels(abar)
    assert_close(levels, case["sigmas1000"].sort().values)
    for name in (name for name in case if name.startswith("sigmas_n")):
        steps = int(name.removeprefix("sigmas_n"))
        assert_close(torch.tensor([*levels[sampling_timesteps(steps)].tolist(), 0.0]), case[name])


def toy_network(case: dict[str, torch.Tensor], heads: int):
    """The stored toy: two layers of attention, on the latents and on the latents twice as large; its eps is 0."""
    def attend(x: torch.Tensor, context: torch.Tensor, i: int) -> torch.Tensor:
        q = (x.flatten(2).transpose(1, 2) @ case[f"w_Wq{i}"]).unflatten(-1, (heads, -1)).transpose(1, 2)
        k = (context @ case[f"w_Wk{i}"]).unflatten(-1, (heads, -1)).transpose(1, 2)
        probabilities = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return head_mean(probabilities.flatten(0, 1), heads, tuple(x.shape[-2:]))

    def network(x, timesteps, context):
        return torch.zeros_like(x), [attend(x, context, 0), attend(F.interpolate(x, scale_factor=2), context, 1)]

    return network


def toy_denoiser(case: dict[str, torch.Tensor], rows: int, abar: torch.Tensor) -> tuple[Denoiser, Target]:
    context, mask, valid = (case[name].double().expand(rows, *case[name].shape[1:])
                            for name in ("ctx", "mask", "seg_mask"))
    target, found = Target(mask, valid), []
    for heads in (1, 2, 4, 8):  # the number is not stored: it is the one that gives the first loss
        network = toy_network(case, heads)
        maps = network(case["r_x_in"][:1].expand(rows, -1, -1, -1), None, context)[1]
        if torch.allclose(target.loss(maps), case["r_loss_first"][0], rtol=1e-5):
            found.append(network)
    assert len(found) == 1
    return Denoiser(found[0], abar, context, guidance=float(case["cfg_scale"])), target


@each("udiff_refine_*.npz")
def test_refinement_of_latents(path, abar):
    """One gradient step, in upstream's way; where upstream repeats it, rounding decides the outcome."""
    case, _ = load(path)
    steps = int(case["steps"])
    once = (case["r_n"] == 1).nonzero().flatten().tolist()
    assert once
    for i in once:
        denoiser, target = toy_denoiser(case, 1, abar)
        t = sampling_timesteps(steps)[i]
        rule = Refinement(target, scale_input=False)
        assert rule.step_size(i, steps) == pytest.approx(float(case["r_alpha"][i]), rel=1e-6)
        assert float(denoiser.levels[t]) == pytest.approx(float(case["r_sigma"][i]), rel=1e-6)
        assert bool(case["r_iter"][i]) == (i in rule.thresholds)
        found = rule(denoiser, case["r_x_in"][i : i + 1], t, i, steps)
        assert_close(found.x[0], case["r_x_out"][i])
        assert_close(found.first, case["r_loss_first"][i : i + 1])
        assert_close(found.last, case["r_loss_last"][i : i + 1])


@each("udiff_refine_*.npz")
def test_refinement_of_a_batch_equals_that_of_each_sample(path, abar):
    case, _ = load(path)
    x = case["r_x_in"][:4]
    denoiser, target = toy_denoiser(case, len(x), abar)
    together = refine_latents(denoiser, x, 500, target, 5.0, threshold=-0.13, most=4)
    alone, aim = toy_denoiser(case, 1, abar)
    for i in range(len(x)):
        one = refine_latents(alone, x[i : i + 1], 500, aim, 5.0, threshold=-0.13, most=4)
        assert_close(together.x[i], one.x[0])
        assert int(together.updates[i]) == int(one.updates[0])


@each("udiff_refine_*.npz")
def test_first_step_of_the_noise_search(path, abar):
    """Candidates are scaled to the first level and shown with c_in; the label's half of the pass is looked at."""
    case, _ = load(path)
    candidates = case["cand"]
    denoiser, target = toy_denoiser(case, len(candidates), abar)
    t = sampling_timesteps(2)[0]
    x = candidates * (1 + float(denoiser.levels[t]) ** 2) ** 0.5
    assert_close(target.loss(denoiser(x, t)[1]), case["cand_losses"][:, 0])
    assert int(case["chosen"]) == int(case["cand_losses"][:, -1].argmin())  # the last step decides, lowest is best
