from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from anytext_lib.losses import (
    WEIGHTINGS,
    WeightingError,
    abar,
    add_noise,
    ctc_loss,
    diffusion_loss,
    fast_ctc_loss,
    frames_needed,
    hard_gate,
    language_weights,
    make_weighting,
    min_snr,
    ocr_loss,
    predict_x0,
    prediction_target,
    region_weighted_loss,
    snr,
    step_weights,
    too_long,
    uniform,
)
from tests.unit.toy import ABAR

both_forms = pytest.mark.parametrize("loss_of", [ctc_loss, fast_ctc_loss])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_prediction_gives_back_x0(kind):
    x0, noise = normal(5, 4, 8, 8).double(), normal(5, 4, 8, 8, seed=1).double()
    a = ABAR.double()[[0, 250, 500, 750, 999]]
    target = prediction_target(x0, noise, a, kind)
    torch.testing.assert_close(predict_x0(target, add_noise(x0, noise, a), a, kind), x0, rtol=1e-9, atol=1e-9)


def test_an_unknown_prediction_type_is_named():
    with pytest.raises(ValueError, match="'flow'"):
        prediction_target(normal(1, 4), normal(1, 4), ABAR[:1], "flow")
    with pytest.raises(ValueError, match="'flow'"):
        predict_x0(normal(1, 4), normal(1, 4), ABAR[:1], "flow")


@given(st.floats(0, 1))
def test_masking_a_share_shrinks_the_loss_by_that_share(share):
    columns = round(share * 8)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., : columns * 8] = 1
    loss = diffusion_loss(torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), mask)
    assert loss.item() == pytest.approx(1 - columns / 8)


@given(st.integers(0, 1000))
def test_masking_everything_gives_zero(seed):
    output = normal(2, 4, 8, 8, seed=seed).requires_grad_(True)
    loss = diffusion_loss(output, normal(2, 4, 8, 8, seed=seed + 1), torch.ones(2, 1, 64, 64))
    loss.sum().backward()
    assert (loss == 0).all() and (output.grad == 0).all()


def test_diffusion_loss_is_the_mean_square_without_a_mask():
    a, b = normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1)
    torch.testing.assert_close(diffusion_loss(a, b), ((a - b) ** 2).mean(dim=(1, 2, 3)))
    assert diffusion_loss(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_shapes_that_do_not_agree_are_named():
    with pytest.raises(ValueError, match="differ in shape"):
        diffusion_loss(normal(1, 4, 8, 8), normal(1, 4, 8, 4))
    with pytest.raises(ValueError, match=r"mask has shape \(2, 1, 64, 64\)"):
        diffusion_loss(normal(1, 4, 8, 8), normal(1, 4, 8, 8), torch.zeros(2, 1, 64, 64))
    with pytest.raises(ValueError, match="same order"):
        ocr_loss(normal(2, 40, 64), normal(1, 40, 64))


@given(st.floats(0, 20))
def test_region_weight_counts_the_region_that_often(weight):
    region = torch.zeros(1, 1, 64, 64)
    region[..., :16] = 1
    loss = region_weighted_loss(torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), region, weight)
    assert loss.item() == pytest.approx(0.75 + 0.25 * weight, rel=1e-5)


def test_region_weight_one_is_the_diffusion_loss():
    a, b, mask = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1), (normal(2, 1, 64, 64) > 0).float()
    torch.testing.assert_close(region_weighted_loss(a, b, mask, 1.0, mask), diffusion_loss(a, b, mask))
    with pytest.raises(ValueError, match="negative"):
        region_weighted_loss(a, b, mask, -1.0)


def test_the_reference_of_the_ocr_loss_gets_no_gradient():
    features, reference = normal(2, 40, 8).requires_grad_(True), normal(2, 40, 8, seed=1).requires_grad_(True)
    ocr_loss(features, reference).sum().backward()
    assert features.grad.abs().sum() > 0 and reference.grad is None
    assert (ocr_loss(features, features) == 0).all()


@both_forms
def test_ctc_of_one_path_by_hand(loss_of):
    """Two frames, one character: paths aa, a-, -a."""
    p = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    wanted = -torch.log(p[0, 1] * p[1, 1] + p[0, 1] * p[1, 0] + p[0, 0] * p[1, 1]) / 2
    torch.testing.assert_close(loss_of(p.log()[None], [[1]])[0], wanted)


@given(st.lists(st.integers(1, 4), max_size=12))
def test_a_text_is_too_long_exactly_when_no_alignment_fits(ids):
    flat = torch.zeros(8, 1, 5).log_softmax(-1)
    lengths = torch.tensor([8]), torch.tensor([len(ids)])
    plain = torch.nn.functional.ctc_loss(flat, torch.tensor([ids]).long(), *lengths, reduction="none")
    assert plain.isinf().item() == (frames_needed(ids) > 8) == (too_long([ids], frames=8) == [0])


@both_forms
def test_a_text_that_cannot_fit_costs_nothing_and_pulls_nothing(loss_of):
    logits = normal(2, 40, 5).requires_grad_(True)
    loss = loss_of(logits, [[1] * 21, [1, 2]])
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0 and (logits.grad[0] == 0).all() and torch.isfinite(logits.grad).all()


@both_forms
def test_ctc_and_its_gradient_are_those_of_all_classes_in_double_precision(loss_of):
    targets = [[3, 3, 7], [], [1] * 9, [4, 5, 6, 7, 49], [9, 8, 9, 8]]  # the third does not fit
    logits = (5 * normal(5, 12, 50).double()).requires_grad_(True)
    plain = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), torch.tensor([c for ids in targets for c in ids]),
        torch.full((5,), 12), torch.tensor([len(ids) for ids in targets]), reduction="none", zero_infinity=True) / 12
    weights = torch.arange(1, 6)
    wanted = torch.autograd.grad((weights * plain).sum(), logits)[0]
    loss = loss_of(logits, targets)
    torch.testing.assert_close(loss, plain, atol=1e-12, rtol=0)
    for _ in range(2):  # the graph can be kept
        got = torch.autograd.grad((weights * loss).sum(), logits, retain_graph=True)[0]
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda x: loss_of(x, [[1, 1], [2, 3]]), normal(2, 6, 5).double().requires_grad_())


@both_forms
def test_ctc_names_bad_targets(loss_of):
    with pytest.raises(ValueError, match="target 1 has a class id outside 1..4"):
        loss_of(normal(2, 40, 5), [[1], [0]])
    with pytest.raises(ValueError, match="do not agree"):
        loss_of(normal(2, 40, 5), [[1]])
    assert loss_of(normal(0, 40, 5), []).shape == (0,)


@given(st.lists(st.lists(st.integers(1, 6), max_size=14), min_size=1, max_size=4), st.integers(0, 99),
       st.sampled_from([0.1, 3.0, 30.0]))
@example([[]], 0, 1.0)
@example([[], []], 0, 1.0)
@example([[1] * 7, [1] * 6], 0, 1.0)  # 13 frames are one too many
@example([[2, 2, 2], [1, 2, 1, 2]], 0, 100.0)
def test_both_forms_of_ctc_agree(targets, seed, scale):
    """Random, empty and too long texts, repeated letters; gradients agree to the rounding of the logits."""
    logits = (scale * normal(len(targets), 12, 7, seed=seed)).requires_grad_(True)
    plain, fast = ctc_loss(logits, targets), fast_ctc_loss(logits, targets)
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-6)
    wanted, got = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (plain, fast))
    torch.testing.assert_close(got, wanted, rtol=0, atol=3e-7 * (10 + scale))
    assert all(plain[i] == fast[i] == 0 and (wanted[i] == 0).all() for i in too_long(targets, frames=12))


def test_half_precision_is_computed_in_float32():
    logits = normal(2, 12, 7).bfloat16()
    assert ctc_loss(logits, [[1], [2]]).dtype == fast_ctc_loss(logits, [[1], [2]]).dtype == torch.float32


def test_step_weights_at_the_known_timesteps():
    t = torch.tensor([0, 250, 354, 500, 999])
    known = torch.tensor([0.9991, 0.6738, 0.5, 0.2763, 0.0047])
    torch.testing.assert_close(step_weights(t, ABAR), known, atol=1e-3, rtol=0)
    assert (step_weights(t, ABAR, uniform) == 1).all()
    assert step_weights(t, ABAR, hard_gate(0.5))[:2].tolist() == [1, 1] and step_weights(t, ABAR, hard_gate())[3] == 0


@given(st.floats(0.001, 0.999), st.floats(0.1, 20))
def test_min_snr_is_the_snr_capped(a, gamma):
    value = torch.tensor([a], dtype=torch.float64)
    assert min_snr(gamma)(value).item() == pytest.approx(min(a / (1 - a), gamma) / gamma)
    assert snr(value).item() == pytest.approx(a / (1 - a)) and abar(value) is value


def test_language_weights():
    assert language_weights(["Latin", "Chinese", "Chinese_sim", "Korean"], 0.5).tolist() == [0.5, 1, 1, 1]
    assert language_weights([]).shape == (0,)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings_at_both_ends_of_a_schedule(name):
    """abar = 0 (zero terminal SNR) and abar = 1: finite, but for the ratio that has no limit."""
    ends = make_weighting(name)(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == {"abar": [0, 1], "uniform": [1, 1], "snr": [0, torch.inf], "min_snr": [0, 1],
                             "gate": [0, 1]}[name]


def test_weightings_by_name():
    a = torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(make_weighting({"name": "min_snr", "gamma": 1})(a), min_snr(1)(a))
    assert torch.equal(make_weighting({"name": "gate", "least": 0.8})(a), hard_gate(0.8)(a))
    for wrong, message in (("sn", "choose one of abar"), ({"gamma": 1}, "no step weighting None"),
                           ({"name": "abar", "gamma": 1}, "it has no parameters"),
                           ({"name": "gate", "least": 2}, "in \\[0, 1\\], got 2"),
                           ({"name": "min_snr", "gamma": "5"}, "is a number, got '5'")):
        with pytest.raises(WeightingError, match=message):
            make_weighting(wrong)
