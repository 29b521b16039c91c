"""What is counted on maps of attention."""

import math

import torch

from anytext_lib.udifftext.attention import local_attention_loss
from anytext_lib.udifftext.word_losses import mean_over_characters, own_share, peak_hits, touched_positions


def blob(x, width=12):
    maps = torch.full((1, 2, 6, width), 0.01)
    maps[0, 0, 3, x] = 0.9
    maps[0, 1, 3, 8] = 0.5
    return maps


def segments(width=12):
    regions = torch.zeros(1, 2, 24, 4 * width)
    regions[0, 0, :, : 2 * width] = 1
    regions[0, 1, :, 2 * width :] = 1
    return regions


def test_hits_are_where_the_loss_is_negative():
    for x, right in ((2, True), (9, False)):
        hits = peak_hits(blob(x), segments())
        one = local_attention_loss([blob(x)], segments(), torch.tensor([[1.0, 0.0]]), min_size=4)
        assert hits.tolist() == [[right, True]] and (one < 0).item() == right


def test_shares_and_means():
    share = own_share(blob(2), segments())
    first_alone = torch.tensor([[1.0, 0.0]])
    assert share[0, 0] > 0.7 and math.isclose(mean_over_characters(share, first_alone), share[0, 0].item())
    assert own_share(torch.ones(1, 2, 6, 12), segments()).tolist() == [[0.5, 0.5]]
    assert math.isnan(mean_over_characters(share, torch.zeros(1, 2)))


def test_few_positions_are_touched():
    maps = blob(2).requires_grad_()
    loss = local_attention_loss([maps], segments(), torch.tensor([[1.0, 0.0]]), min_size=4).sum()
    touched, untouched = touched_positions(loss, [maps, torch.zeros(1, requires_grad=True)])
    assert touched[0, 1].sum() == 0 and 0 < touched[0, 0].sum() <= 18 and not untouched.any()
