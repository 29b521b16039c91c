"""Losses as values: what a step computes and when, what an objective sums, how a term is described."""
from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from anytext_lib.data import TextLines
from anytext_lib.losses import (
    AnyText2Objective,
    Instruments,
    LossWeightSchedule,
    NonFiniteError,
    Objective,
    Pictures,
    Step,
    Term,
    TermError,
    VariancePreserving,
    WeightingError,
    abar,
    make_term,
    min_snr,
)
from anytext_lib.losses.terms import ctc, ocr, simple
from tests.unit.test_objective import inputs
from tests.unit.toy import ABAR, ToyReader, decode


class CountingReader(ToyReader):
    """Counts its passes, and those with a gradient to come back."""

    def __init__(self):
        super().__init__()
        self.passes, self.graded = 0, 0

    def __call__(self, crops):
        self.passes, self.graded = self.passes + 1, self.graded + crops.requires_grad
        return super().__call__(crops)


def noisy(reader=None, decoder=decode, **changes):
    """The step of ``inputs()``, its output wanting a gradient."""
    given = inputs() | changes
    output = given["model_output"].clone().requires_grad_()
    return Step(given["latents"], given["noise"], given["timesteps"], output,
                Pictures(given["images"], given["lines"], given["invalid_mask"]),
                Instruments(VariancePreserving(ABAR), decoder, reader or ToyReader()))


def brightness(step):
    """A loss that nobody has heard of, (B,)."""
    return step.x0.mean(dim=(1, 2, 3)).square()


def test_everything_is_computed_at_most_once_however_many_terms_look():
    decoded, reader = [], CountingReader()
    step = noisy(reader, lambda z: decoded.append(len(z)) or decode(z))
    Objective([Term("simple", simple), Term("ocr", ocr, 0.3, abar), Term("again", ocr, 0.1, min_snr()),
               Term("ctc", ctc, 0.2)])(step)
    assert decoded == [2] and reader.passes == 2, "the estimate and the truth"
    assert step.target is step.target and step.seen is step.seen


def test_the_facade_is_this_sum():
    step, curve = noisy(), min_snr(3)
    values = Objective([Term("simple", simple), Term("ocr", ocr, 0.3, curve), Term("ctc", ctc, 0.2, curve)])(step)
    facade = AnyText2Objective(ToyReader(), ABAR, decode, loss_alpha=0.3, loss_beta=0.2, weighting=curve)(**inputs())
    assert torch.equal(values.loss, facade.loss) and torch.equal(values.terms["ocr"].lines, facade.lines.ocr)
    torch.testing.assert_close(values.samples, sum(value.samples for value in values.terms.values()))
    assert values.log().keys() == {"sim", "ocr", "ocr_raw", "ctc", "ctc_raw", "loss"}


def test_a_new_loss_is_a_function():
    step = noisy()
    values = Objective([Term("simple", simple), Term("brightness", brightness, -0.5)])(step)
    values.loss.backward()
    torch.testing.assert_close(values.samples, (simple(step) - 0.5 * brightness(step)))
    assert torch.equal(values.terms["brightness"].raw, brightness(step)) and step.output.grad.abs().sum() > 0


@pytest.mark.parametrize("first", ["watched", "trained"])
def test_a_watched_term_has_no_gradient_and_takes_none_from_others(first):
    reader = CountingReader()
    terms = [Term("watched", ocr, 0.0, abar), Term("trained", ocr, 0.3, abar)]
    step = noisy(reader)
    values = Objective(terms if first == "watched" else terms[::-1])(step)
    values.loss.backward()
    alone = noisy()
    Objective([terms[1]])(alone).loss.backward()
    assert torch.equal(step.output.grad, alone.output.grad) and reader.graded == 1 and reader.passes == 2
    assert (values.terms["watched"].samples == 0).all()
    assert torch.equal(values.terms["watched"].lines, values.terms["trained"].lines)
    assert "watched" not in Objective(terms)(noisy(), watch=False).terms


def test_what_was_looked_at_without_gradient_is_computed_again_with_it():
    step = noisy()
    with torch.no_grad():
        plain = Objective([Term("ocr", ocr)])(step).loss
    graded = Objective([Term("ocr", ocr)])(step).loss
    graded.backward()
    assert not plain.requires_grad and torch.equal(plain, graded) and step.output.grad.abs().sum() > 0


def test_weights_follow_the_optimizer_step():
    objective = Objective([Term("simple", simple), Term("ocr", ocr, LossWeightSchedule(0.4, start=2, ramp=2))])
    at = [objective(noisy(), step).terms["ocr"].weight for step in (0, 2, 3, None)]
    assert at == pytest.approx([0, 0.2, 0.4, 0.4])
    assert objective.weight("ocr", 0) == 0 and objective.weight("ctc") == 0


def test_without_a_weight_the_loss_is_zero_and_still_goes_backward():
    step = noisy()
    loss = Objective([Term("ocr", ocr, 0.0)])(step).loss
    loss.backward()
    assert loss == 0 and (step.output.grad == 0).all()


def test_samples_without_lines_count_as_zero():
    values = Objective([Term("ocr", ocr), Term("ctc", ctc)])(noisy())
    assert values.terms["ocr"].samples[1] == 0 and values.terms["ocr"].samples[0] > 0
    none = Objective([Term("ocr", ocr)])(noisy(lines=TextLines.empty()))
    assert none.loss == 0 and len(none.terms["ocr"].lines) == 0 and "ocr_raw" not in none.log()


def test_a_term_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteError, match="odd term: loss of sample 0 "):
        Objective([Term("odd", lambda step: simple(step) / 0)])(noisy())
    with pytest.raises(NonFiniteError, match="odd term: loss of a line of sample 2 "):
        reader = ToyReader()
        reader.head = reader.head * float("nan")
        lines = inputs()["lines"].select([2])
        Objective([replace(make_term("ctc"), name="odd")])(noisy(reader, lines=lines))


def test_terms_are_described_by_name_or_by_path():
    found = make_term({"name": "ocr", "weight": 0.003, "weighting": {"name": "min_snr", "gamma": 1}}, abar)
    assert found.weight == 0.003 and found.per_line and found.weighting(torch.tensor([0.5])) == 1
    assert make_term("ocr", abar).weighting is abar and make_term("simple", abar).weighting is None
    layered = make_term({"name": "ocr", "layers": ["neck"]}, abar)
    assert layered.per_line and isinstance(layered.function, partial)
    ramped = make_term({"name": "ctc", "weight": {"value": 0.1, "start": 3}})
    assert ramped.weight == LossWeightSchedule(0.1, 3)
    other = make_term({"name": "tests.unit.test_terms.brightness", "weight": 2})
    assert other.name == "brightness" and other.weight == 2 and not other.per_line
    assert make_term(found) is found and make_term("anytext_lib.udifftext.attention_term.local").watch is not None


@pytest.mark.parametrize(("choice", "message"), [
    ("orc", "no term 'orc': choose one of simple, region, ocr, ctc, or give the path"),
    ({"weight": 1}, "no term 'None'"),
    ("anytext_lib.nowhere.at_all", "no term 'anytext_lib.nowhere.at_all': No module named"),
    ("anytext_lib.losses.terms.nothing", "has no attribute 'nothing'"),
    ({"name": "ocr", "wieght": 1}, "term ocr has no parameter 'wieght': it has weight, weighting, layers"),
    ({"name": "ocr", "weight": "much"}, "weight of term ocr is a number, or value, start and ramp, got 'much'"),
    ({"name": "ocr", "weight": {"value": -1}}, "must not be negative"),
    ({"name": "ocr", "weight": float("nan")}, "is a finite number"),
])
def test_a_wrong_description_is_an_error_that_says_so(choice, message):
    with pytest.raises(TermError, match=message):
        make_term(choice)


def test_two_terms_of_one_name_and_an_unknown_weighting():
    with pytest.raises(TermError, match="same name: ocr, ocr"):
        Objective([Term("ocr", ocr), Term("ocr", ocr)])
    with pytest.raises(WeightingError, match="no step weighting 'sn'"):
        make_term({"name": "ocr", "weighting": "sn"})
