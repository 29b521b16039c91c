"""Reading by lot: chosen samples cost what the others save, and the expectation is that of reading all."""

import itertools

import pytest
import torch

from anytext_lib import cli
from anytext_lib.losses import Objective, Pictures, Step, Term, abar, min_snr
from anytext_lib.losses.step import Chosen
from anytext_lib.losses.terms import ctc, ocr, simple
from anytext_lib.randomness import draw_chances
from tests.unit.test_objective import inputs, objective

PARTS = ("latents", "noise", "timesteps")


def value(chosen, weighting=abar):
    """Loss, gradient and number of lines read of a step of three samples, whose second has no line."""
    batch = inputs()
    output = batch["model_output"].requires_grad_()
    step = Step(*(batch[name] for name in PARTS), output, Pictures(batch["images"], batch["lines"]),
                objective().instruments, chosen=chosen)
    terms = [Term("simple", simple), Term("ocr", ocr, 0.3, weighting), Term("ctc", ctc, 0.2, weighting)]
    found = Objective(terms)(step)
    return found.loss.detach(), torch.autograd.grad(found.loss, output)[0], len(step.rows)


@pytest.mark.parametrize("weighting", [abar, min_snr(5.0)])
def test_the_expectation_is_that_of_reading_all(weighting):
    chances = torch.tensor([0.9, 0.5, 0.2])
    loss, gradient = 0, 0
    for chosen in itertools.product((True, False), repeat=3):
        samples = torch.tensor(chosen)
        share = torch.where(samples, chances, 1 - chances).prod()
        found = value(Chosen(samples, chances), weighting)
        loss, gradient = loss + share * found[0], gradient + share * found[1]
    wanted, pull, lines = value(None, weighting)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(gradient, pull)
    assert lines == 3


def test_only_chosen_samples_are_decoded_and_read():
    batch, shown = inputs(), []
    there = objective().instruments

    def decode(latents):
        shown.append(len(latents))
        return there.decode(latents)

    step = Step(*(batch[name] for name in PARTS), batch["model_output"], Pictures(batch["images"], batch["lines"]),
                type(there)(there.process, decode, there.recognizer), chosen=Chosen(torch.tensor([False, False, True]),
                                                                                   torch.full((3,), 0.5)))
    found = Objective([Term("ocr", ocr)])(step)
    assert shown == [1] and step.rows == [2] and step.readable == [0, 1, 2]
    assert found.terms["ocr"].samples[0] == 0 and found.terms["ocr"].samples[2] == 2 * found.terms["ocr"].lines[0]


def test_nothing_chosen_costs_nothing():
    loss, gradient, lines = value(Chosen(torch.zeros(3, dtype=torch.bool), torch.tensor([0.9, 0.0, 0.2])))
    assert lines == 0 and loss.isfinite() and gradient.isfinite().all()


def test_the_lot_follows_the_weights():
    weights = torch.tensor([0.0, 0.3, 1.0, 7.0])
    drawn = torch.stack([Chosen.draw(weights, draw_chances(0, step, range(4))).samples for step in range(2000)])
    share = drawn.float().mean(0)
    assert share[0] == 0 and share[2] == 1 and share[3] == 1
    assert abs(share[1] - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    assert (draw_chances(0, 5, [1, 3]) == draw_chances(0, 5, range(4))[[1, 3]]).all(), "wherever the sample is computed"
    assert (Chosen.draw(weights, torch.zeros(4)).factor() == torch.tensor([0, 1 / 0.3, 1, 1])).all()


def test_fit_reads_by_lot(tmp_path, monkeypatch):
    chosen = []
    draw = Chosen.draw.__func__
    monkeypatch.setattr(Chosen, "draw", classmethod(lambda cls, *given: chosen.append(draw(cls, *given)) or chosen[-1]))
    command = ["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), "--loss_alpha", "1", "--trainer.max_steps", "2",
               "--val", "null"]
    assert cli.main([*command, "--name", "lot", "--read_chance", "true"]) in (0, None)
    assert len(chosen) == 2 and all(0 < chance < 1 for one in chosen for chance in one.chances.tolist())
    assert cli.main([*command, "--name", "all"]) in (0, None) and len(chosen) == 2
