from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anytext_lib.data import BadLineError, BadLineWarning, TextLines
from anytext_lib.losses import AnyText2Objective, NonFiniteError, min_snr, prediction_target, snr, uniform
from tests.unit.toy import ABAR, ToyReader, decode

BOXES = torch.tensor([[[4, 4], [44, 4], [44, 20], [4, 20]], [[10, 30], [60, 34], [59, 50], [9, 46]],
                      [[20, 10], [30, 10], [30, 52], [20, 52]]]).float()


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    latents, noise, output = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(3))
    images = torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1
    lines = TextLines([0, 0, 2], BOXES, ["ab", "HELLO", "text"], ["Latin", "Chinese", "Latin"])
    invalid_mask = (torch.rand(3, 1, 64, 64, generator=generator) > 0.8).float()
    return {"model_output": output, "latents": latents, "noise": noise, "timesteps": torch.tensor([10, 300, 700]),
            "images": images, "lines": lines, "invalid_mask": invalid_mask}


def objective(**options):
    return AnyText2Objective(ToyReader(), ABAR, decode, **{"loss_alpha": 0.3, "loss_beta": 0.2, **options})


@given(st.integers(0, 100), st.floats(0.01, 50))
@settings(max_examples=15)
def test_alpha_and_beta_scale_their_terms_linearly(seed, factor):
    batch = inputs(seed)
    once, more = objective()(**batch), objective(loss_alpha=0.3 * factor, loss_beta=0.2 * factor)(**batch)
    torch.testing.assert_close(more.ocr, once.ocr * factor)
    torch.testing.assert_close(more.ctc, once.ctc * factor)
    torch.testing.assert_close(more.simple, once.simple)
    torch.testing.assert_close(more.loss, more.simple + more.ocr + more.ctc)


@given(st.floats(0, 10))
@settings(max_examples=15)
def test_latin_weight_scales_latin_lines_alone(weight):
    batch = inputs()
    terms = objective(latin_weight=weight, with_step_weight=False)(**batch)
    raw = terms.lines.ocr
    by_hand = torch.stack([(weight * raw[0] + raw[1]) / 2, raw[0] * 0, weight * raw[2]])
    torch.testing.assert_close(terms.samples.ocr, 0.3 * by_hand)


@given(st.permutations([0, 1, 2]))
def test_permuting_lines_permutes_their_values_and_changes_nothing_else(order):
    batch = inputs()
    plain = objective()(**batch)
    moved = objective()(**{**batch, "lines": batch["lines"].select(order)})
    torch.testing.assert_close(moved.lines.ocr, plain.lines.ocr[order])
    torch.testing.assert_close(moved.lines.ctc, plain.lines.ctc[order])
    torch.testing.assert_close(moved.samples.loss, plain.samples.loss)


@given(st.permutations([0, 1, 2]))
def test_permuting_samples_permutes_their_values(order):
    batch = inputs()
    plain = objective()(**batch)
    place = torch.tensor([order.index(i) for i in range(3)])
    lines = batch["lines"]
    there = {name: value[order] for name, value in batch.items() if name != "lines"}
    there["lines"] = TextLines(place[lines.image_index], lines.quads, lines.texts, lines.languages)
    torch.testing.assert_close(objective()(**there).samples.loss, plain.samples.loss[order])


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_model_has_no_ocr_loss(kind):
    batch = inputs()
    batch["images"] = decode(batch["latents"]).clamp(-1, 1)
    batch["model_output"] = prediction_target(batch["latents"], batch["noise"], ABAR[batch["timesteps"]], kind)
    terms = objective(prediction_type=kind)(**batch)
    assert terms.simple.item() == 0 and terms.ocr.item() < 1e-8 and terms.ctc.item() > 0


def test_masking_everything_leaves_only_the_reading_terms():
    batch = inputs()
    terms = objective()(**{**batch, "invalid_mask": torch.ones(3, 1, 64, 64)})
    assert terms.simple == 0
    torch.testing.assert_close(terms.ocr, objective()(**batch).ocr)


def test_the_gradient_goes_to_the_model_output_and_not_to_the_truth():
    batch = inputs()
    for name in ("model_output", "images"):
        batch[name].requires_grad_(True)
    objective()(**batch).loss.backward()
    assert batch["images"].grad is None and batch["model_output"].grad.flatten(1).norm(dim=1).min() > 0


def test_cached_reference_features_give_the_same_terms():
    batch, whole = inputs(), objective()
    reference = whole.reference_features(batch["images"], batch["lines"])
    torch.testing.assert_close(whole(**batch, reference=reference).loss, whole(**batch).loss)


def test_samples_without_lines_are_not_decoded():
    seen = []

    def counting(z):
        seen.append(len(z))
        return decode(z)

    batch = inputs()
    AnyText2Objective(ToyReader(), ABAR, counting, loss_alpha=1.0)(**batch)
    AnyText2Objective(ToyReader(), ABAR, counting, loss_alpha=1.0)(**{**batch, "lines": TextLines.empty()})
    AnyText2Objective(ToyReader(), ABAR, counting, loss_alpha=0.0)(**batch)
    assert seen == [2]


def test_terms_that_are_switched_off_are_zero_and_still_logged():
    terms = objective(loss_alpha=0.0, loss_beta=0.0)(**inputs())
    log = terms.log("v")
    assert list(log) == ["v/sim", "v/ocr", "v/ctc", "v/loss"] and log["v/ocr"] == log["v/ctc"] == 0
    assert log["v/loss"] == log["v/sim"] and not log["v/loss"].requires_grad


def test_with_step_weight_false_is_the_uniform_weighting():
    batch = inputs()
    a, b = objective(with_step_weight=False)(**batch), objective(weighting=uniform)(**batch)
    torch.testing.assert_close(a.loss, b.loss)
    torch.testing.assert_close(objective()(**batch).samples.step_weight, ABAR[batch["timesteps"]])


def test_texts_that_cannot_fit_are_counted():
    batch = inputs()
    lines = batch["lines"]
    batch["lines"] = TextLines(lines.image_index, lines.quads, ["ab", "a" * 21, "text"], lines.languages)
    terms = objective()(**batch)
    assert terms.too_long == 1 and terms.lines.too_long == [1] and torch.isfinite(terms.loss)


def test_bad_lines_raise_or_are_left_out_and_counted():
    batch = inputs()
    lines = batch["lines"]
    quads = lines.quads.clone()
    quads[1] = quads[1] + 500
    batch["lines"] = TextLines(lines.image_index, quads, lines.texts, lines.languages)
    with pytest.raises(BadLineError, match="line 1"):
        objective()(**batch)
    with pytest.warns(BadLineWarning, match="1 of 3"):
        terms = objective(on_bad_line="skip")(**batch)
    assert terms.skipped_lines == 1 and terms.lines.rows == [0, 2]
    reference = objective().reference_features(batch["images"], lines)
    with pytest.warns(BadLineWarning):
        cached = objective(on_bad_line="skip")(**batch, reference=reference)
    torch.testing.assert_close(cached.loss, terms.loss)


@pytest.mark.parametrize("name", ["model_output", "latents", "noise", "images", "invalid_mask"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_an_error_that_names_the_sample(name, value):
    batch = inputs()
    batch[name][2, 0, 3, 5] = value
    with pytest.raises(NonFiniteError, match=f"{name} of sample 2"):
        objective()(**batch)


def test_a_decoder_that_overflows_is_named_with_the_sample():
    def overflow(z):
        image = decode(z).clone()
        image[-1] = float("nan")
        return image

    with pytest.raises(NonFiniteError, match="decoded x0 of sample 2"):
        AnyText2Objective(ToyReader(), ABAR, overflow)(**inputs())


def test_bad_options_and_shapes_are_named():
    with pytest.raises(ValueError, match="loss_alpha must not be negative"):
        objective(loss_alpha=-1.0)
    with pytest.raises(ValueError, match="loss_beta must not be negative"):
        objective(loss_beta=float("nan"))
    with pytest.raises(ValueError, match="prediction_type is one of"):
        objective(prediction_type="eps")
    with pytest.raises(ValueError, match="noise has shape"):
        objective()(**{**inputs(), "noise": torch.zeros(3, 4, 4, 4)})
    with pytest.raises(ValueError, match="timesteps has shape"):
        objective()(**{**inputs(), "timesteps": torch.tensor([1])})
    with pytest.raises(ValueError, match=r"decode\(x0\) has shape"):
        AnyText2Objective(ToyReader(), ABAR, lambda z: z)(**inputs())


def test_double_precision_gradient_by_finite_differences():
    batch = inputs()
    batch |= {name: batch[name].double() for name in ("model_output", "latents", "noise", "images", "invalid_mask")}
    batch["latents"], batch["noise"] = batch["latents"] * 0.1, batch["noise"] * 0.1  # away from the clamp
    output = (batch.pop("model_output") * 0.1).requires_grad_(True)
    whole = AnyText2Objective(ToyReader(), ABAR.double(), decode, loss_alpha=0.3, loss_beta=0.2)
    assert torch.autograd.gradcheck(lambda x: whole(x, **batch).loss, output, fast_mode=True)


ENDS = torch.cat([torch.ones(1), ABAR[1:-1], torch.zeros(1)])  # no noise at t = 0, no signal at t = 999


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("end", [0, 999])
def test_the_ends_of_a_schedule_are_finite_or_named(kind, end):
    batch = inputs() | {"timesteps": torch.tensor([500, 300, end])}

    def evaluate(**options):
        return AnyText2Objective(ToyReader(), ENDS, decode, kind, **{"loss_alpha": 0.3, "loss_beta": 0.2, **options})(
            **batch)

    if kind == "epsilon" and end == 999:
        with pytest.raises(NonFiniteError, match="amplification .*of sample 2 .*zero terminal SNR.*predict v"):
            evaluate()
        assert torch.isfinite(evaluate(loss_alpha=0.0, loss_beta=0.0).loss), "nothing is read: nothing is missing"
        return
    for weighting in (uniform, min_snr()):
        assert torch.isfinite(evaluate(weighting=weighting).loss)
    if end == 999:
        assert evaluate(weighting=snr).samples.step_weight[2] == 0
        return
    with pytest.raises(NonFiniteError, match="step weight .*of sample 2 .*at abar = 1: choose .*min_snr"):
        evaluate(weighting=snr)
