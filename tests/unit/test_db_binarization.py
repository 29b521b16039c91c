"""Differentiable binarisation: half precision, slopes, and which loss amplifies the gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.db import binarize
from anytext_lib.db.loss import binarization_slope, cross_entropy, cross_entropy_pull, dice_loss, dice_pull

GAPS = torch.linspace(-0.3, 0.3, 13, dtype=torch.float64)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_finite_in_every_precision(p, t, dtype):
    p, t = torch.tensor([p], dtype=dtype, requires_grad=True), torch.tensor([t], dtype=dtype, requires_grad=True)
    b = binarize(p, t)
    b.sum().backward()
    assert b.dtype == dtype and 0 <= b.item() <= 1
    assert 0 <= p.grad.item() <= 12.51 and t.grad.item() == -p.grad.item()
    exact = torch.sigmoid(50 * (p.detach().double() - t.detach().double()))
    assert b.item() == pytest.approx(exact.item(), abs={torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(dtype, 1e-6))


def test_the_formula_written_out_overflows_in_half_precision():
    p, t = torch.zeros(1, dtype=torch.float16, requires_grad=True), torch.ones(1, dtype=torch.float16)
    written_out = 1 / (1 + torch.exp(-50 * (p - t)))
    written_out.backward()
    assert written_out.item() == 0 and p.grad.isnan().all()


def test_gradient_survives_where_half_precision_rounds_b_to_one():
    p = torch.tensor([0.7], dtype=torch.float16, requires_grad=True)
    b = binarize(p, torch.tensor([0.5], dtype=torch.float16))
    b.backward()
    assert b.item() == 1 and p.grad.item() == pytest.approx(50 * torch.sigmoid(torch.tensor(-10.0)).item(), rel=0.05)


def test_slopes():
    gaps = torch.tensor([0.0, 0.05, 0.1, 0.2], dtype=torch.float64)
    torch.testing.assert_close(binarization_slope(gaps), torch.tensor([12.5, 3.5052, 0.3323, 0.00227]).double(),
                               rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_pulls_are_the_gradients(target):
    y = torch.full_like(GAPS, target)
    y[0] = 1  # so that Dice has a positive pixel
    gap = GAPS.clone().requires_grad_()
    b = torch.sigmoid(50 * gap)
    (of_ce,) = torch.autograd.grad(cross_entropy(b, y).sum(), gap, retain_graph=True)
    torch.testing.assert_close(of_ce, cross_entropy_pull(GAPS, y), rtol=1e-6, atol=1e-6)
    (of_dice,) = torch.autograd.grad(dice_loss(b, y, torch.ones_like(y)), gap)
    inter, union = (b * y).sum().item(), (b.sum() + y.sum()).item()
    torch.testing.assert_close(of_dice, dice_pull(GAPS, y, inter, union), rtol=1e-4, atol=1e-8)


def test_only_cross_entropy_pulls_at_badly_wrong_pixels():
    """The amplification argument: a text pixel at P - T = -0.3 against one at the edge, 0."""
    wrong, edge = torch.tensor(-0.3).double(), torch.tensor(0.0).double()
    one = torch.tensor(1.0).double()
    assert cross_entropy_pull(wrong, one) / cross_entropy_pull(edge, one) == pytest.approx(2, abs=1e-3)
    dice = [dice_pull(gap, one, 50.0, 150.0).item() for gap in (wrong, edge)]
    assert abs(dice[0]) < 1e-4 * abs(dice[1])
