"""The loop of the recipes is the one that everybody writes by hand."""
from types import SimpleNamespace

import pytest
import torch

from anytext_lib.recipes.loop import fit


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def by_hand(steps, schedule_of, clip, **adamw):
    """Weights after a loop without ``fit``, and its losses."""
    model, inputs, losses = network(), torch.arange(12.0).view(4, 3), []
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, **adamw)
    schedule = schedule_of(optimizer)
    for _ in range(steps):
        loss = model(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model.weight, losses


@pytest.mark.parametrize("rate", [None, lambda step: min(1, (step + 1) / 3)])
def test_the_loop_is_the_usual_one_bit_by_bit(rate):
    def schedule_of(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 6, pct_start=0.5) if rate is None else \
            torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    model, inputs = network(), torch.arange(12.0).view(4, 3)
    steps = list(fit(model.parameters(), lambda: SimpleNamespace(loss=model(inputs).square().mean()), 6, 0.1, rise=0.5,
                     clip=0.7, rate=rate, weight_decay=0.3))
    weight, losses = by_hand(6, schedule_of, 0.7, weight_decay=0.3)
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert [terms.loss.item() for _, terms in steps] == losses and torch.equal(model.weight, weight)
