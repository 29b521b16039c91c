"""DBLoss: its terms, mining, presets, batches that teach nothing, precision and errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.db import PRESETS, DBLoss, LabelMaps, binarize, make_label_maps, stack_label_maps
from anytext_lib.db.loss import balanced_loss, dice_loss, hard_negatives, masked_l1_loss

SIZE = (32, 48)
WORD = [[6, 6], [42, 6], [42, 24], [6, 24]]


def labels(*words: int, masked: bool = False) -> LabelMaps:
    """One image for each argument, with a word or (0) without; ``masked`` hides everything."""
    batch = stack_label_maps([make_label_maps([WORD] * n, SIZE) for n in words])
    zero = torch.zeros_like(batch.shrink_mask)
    return batch._replace(shrink_mask=zero, threshold_mask=zero) if masked else batch


def prediction(batch: int, seed: int = 0, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (batch, 3, H, W) and the logits of P, random."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, *SIZE, generator=draw, dtype=torch.float64) * 2
    p, t = logits.sigmoid(), torch.rand(batch, *SIZE, generator=draw, dtype=torch.float64)
    return torch.stack([p, t, binarize(p, t)], dim=1).to(dtype), logits.to(dtype)


def gradient(loss: DBLoss, batch: LabelMaps, seed: int = 0) -> torch.Tensor:
    maps, logits = prediction(len(batch.shrink_map), seed)
    maps.requires_grad_(), logits.requires_grad_()
    parts = torch.autograd.grad(loss(maps, batch, logits).loss, (maps, logits), allow_unused=True)
    return torch.cat([part.flatten() for part in parts if part is not None])


# the terms

@given(st.integers(0, 10**6))
def test_dice_lies_between_0_and_1(seed):
    draw = torch.Generator().manual_seed(seed)
    x, y, m = (torch.rand(2, 5, 5, generator=draw).double() for _ in range(3))
    y, m = (y > 0.6).double(), (m > 0.3).double()
    assert 0 <= dice_loss(x, y, m) <= 1
    assert dice_loss(y, y, m) < 1e-5 or not (y * m).any()
    assert dice_loss(x, y, m) == pytest.approx(dice_loss(x + (1 - m) * 7, y, m).item())  # masked pixels do not count


def test_masked_l1():
    x, y, m = torch.tensor([[[0.1, 0.9]]]), torch.tensor([[[0.3, 0.3]]]), torch.tensor([[[1.0, 0.0]]])
    assert masked_l1_loss(x, y, m).item() == pytest.approx(0.2, rel=1e-5)
    assert masked_l1_loss(x, y, 0 * m) == 0


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_hard_negatives_are_the_hardest(seed, count):
    draw = torch.Generator().manual_seed(seed)
    loss, negative = torch.rand(1, 4, 4, generator=draw), (torch.rand(1, 4, 4, generator=draw) > 0.2).float()
    count = min(count, int(negative.sum()))
    chosen = hard_negatives(loss, negative, count).bool()
    assert chosen.sum() == count and (negative.bool() | ~chosen).all()
    rest = negative.bool() & ~chosen
    assert count == 0 or not rest.any() or loss[chosen].min() >= loss[rest].max()


def test_mining_takes_three_negatives_a_positive():
    loss = torch.tensor([[[5.0, 1.0, 2.0, 3.0, 4.0, 0.5]]], requires_grad=True)
    target, mask = torch.tensor([[[1.0, 0, 0, 0, 0, 0]]]), torch.ones(1, 1, 6)
    value = balanced_loss(loss, target, mask, ratio=3)
    assert value.item() == pytest.approx((5 + 4 + 3 + 2) / 4, rel=1e-6)
    value.backward()
    assert loss.grad.flatten().tolist() == pytest.approx([0.25, 0, 0.25, 0.25, 0.25, 0], rel=1e-5)
    mask[0, 0, 4] = 0  # the hardest may not be seen
    assert balanced_loss(loss, target, mask, ratio=3).item() == pytest.approx((5 + 3 + 2 + 1) / 4, rel=1e-6)


@given(st.integers(0, 10**6), st.floats(0, 10))
def test_dice_with_ohem_does_no_mining(seed, ratio):
    """A number cannot be mined: loss and gradient are those of plain Dice times n / (n + eps)."""
    batch = labels(1, 1)
    maps, _ = prediction(2, seed)
    both = [DBLoss(balance_loss=flag, ohem_ratio=ratio) for flag in (True, False)]
    mined, plain = (loss.shrink_term(maps[:, 0], batch) for loss in both)
    positives = batch.shrink_map.sum().item()
    n = positives + int(min((1 - batch.shrink_map).sum().item(), positives * ratio))
    assert mined.item() == pytest.approx(plain.item() * n / (n + 1e-6), rel=1e-12)
    one, two = (gradient(loss, batch, seed) for loss in both)
    torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-12)


def test_the_ratio_matters_for_cross_entropy():
    batch = labels(1)
    values = [DBLoss.from_preset("original", ohem_ratio=r)(*prediction(1)[:1], batch).shrink.item() for r in (1, 3, 9)]
    assert values[0] > values[1] > values[2]  # fewer, harder negatives


# presets

def test_presets_agree_with_their_definitions():
    """Each library's loss, written out anew."""
    batch = labels(1, 1)
    maps, logits = prediction(2)
    y, m = batch.shrink_map.double(), batch.shrink_mask.double()
    l1 = ((maps[:, 1] - batch.threshold_map).abs() * batch.threshold_mask).sum() / batch.threshold_mask.sum()
    dice = 1 - 2 * (maps[:, 2] * y * m).sum() / ((maps[:, 2] * m).sum() + (y * m).sum())
    bce = F.binary_cross_entropy(maps[:, 0], y, reduction="none")
    count = int(y.sum())
    hardest = bce[(y == 0) & (m == 1)].sort(descending=True).values[: 3 * count]
    mined = (bce[y == 1].sum() + hardest.sum()) / (count + len(hardest))
    of_target = torch.where(y == 1, maps[:, 0], 1 - maps[:, 0])
    focal = (m * 0.5 * (1 - of_target) ** 2 * bce).sum() / m.sum()
    smooth_l1 = F.smooth_l1_loss(maps[:, 1] * batch.threshold_mask, batch.threshold_map * batch.threshold_mask.double(),
                                 beta=0, reduction="sum") / batch.threshold_mask.sum()
    plain_dice = 1 - 2 * (maps[:, 0] * y * m).sum() / ((maps[:, 0] * m).sum() + (y * m).sum())
    quarter = torch.where(y == 1, 0.25, 0.75)
    of_b = torch.where(y == 1, maps[:, 2], 1 - maps[:, 2]).clamp(1e-6, 1 - 1e-6)
    focal_p, focal_b = ((m * quarter * (1 - own) ** 2 * -own.log()).sum() / m.sum() for own in (of_target, of_b))
    wanted = {"dicefocal": 5 * (plain_dice + focal_p) + 10 * l1 + dice + focal_b,
              "paddleocr": 5 * plain_dice + 10 * l1 + dice, "original": 5 * mined + 10 * l1 + dice,
              "mmocr": 5 * mined + 10 * smooth_l1 + dice, "doctr": 10 * focal + l1 + dice}
    assert wanted.keys() == PRESETS.keys()
    for name, value in wanted.items():
        assert DBLoss.from_preset(name)(maps, batch, logits).loss.item() == pytest.approx(value.item(), rel=1e-6), name


def test_terms_add_up_and_carry_upstream_names():
    maps, logits = prediction(1)
    terms = DBLoss(alpha=2, beta=3)(maps, labels(1))
    assert terms.loss.item() == pytest.approx((terms.shrink + terms.threshold + terms.binary).item())
    assert list(terms.log()) == ["loss", "loss_shrink_maps", "loss_threshold_maps", "loss_binary_maps"]
    once = DBLoss(alpha=1, beta=1)(maps, labels(1))
    assert terms.shrink.item() == pytest.approx(2 * once.shrink.item())
    assert terms.threshold.item() == pytest.approx(3 * once.threshold.item())


def test_logits_keep_the_gradient_of_saturated_pixels():
    """From probabilities a pixel at logit -200 has no gradient left; from logits it is pulled with full strength."""
    batch = labels(1)
    pulls = {}
    for preset in ("original", "mmocr"):
        logits = torch.full((1, *SIZE), -200.0, requires_grad=True)
        p = logits.sigmoid()
        DBLoss.from_preset(preset)(torch.stack([p, p.detach(), p.detach()], dim=1), batch, logits).loss.backward()
        pulls[preset] = logits.grad[0, 15, 24].item()
    assert pulls["original"] == 0 and pulls["mmocr"] < -1e-3


# batches that teach nothing

@pytest.mark.parametrize("masked", [False, True], ids=["no text", "all masked"])
@pytest.mark.parametrize("options, value", [
    ({}, 1.0), ({"main_loss_type": "BCELoss"}, 1.0), ({"balance_loss": False}, 6.0),
])
def test_documented_values_and_no_gradient(options, value, masked):
    batch = labels(1, 1, masked=True) if masked else labels(0, 0)
    for seed in (0, 1):
        assert DBLoss(**options)(prediction(2, seed)[0], batch).loss.item() == pytest.approx(value, abs=1e-6)
    assert not gradient(DBLoss(**options), batch).any()


@pytest.mark.parametrize("preset", ["paddleocr", "original", "mmocr"])
def test_fallback_negatives_punish_false_positives_without_text(preset):
    batch = labels(0, 0)
    loss = DBLoss.from_preset(preset, fallback_negatives=10)
    maps, logits = prediction(2)
    expected = (-torch.log1p(-maps[:, 0])).flatten().topk(10).values.mean()
    assert loss(maps, batch, logits).shrink.item() == pytest.approx(5 * expected.item(), rel=1e-6)
    assert (gradient(loss, batch) > 0).sum() == 10  # the ten most certain false positives are pushed down
    assert not gradient(loss, labels(1, 1, masked=True)).any()  # masked pixels never are
    with_text = labels(1, 0)
    assert loss(maps, with_text, logits).loss == DBLoss.from_preset(preset)(maps, with_text, logits).loss


@pytest.mark.parametrize("preset", ["doctr", "dicefocal"])
def test_focal_loss_punishes_without_help(preset):
    assert gradient(DBLoss.from_preset(preset), labels(0)).any()


def test_the_weights_of_dice_and_focal_loss():
    maps, _ = prediction(1)
    both, dice, focal, twice = (DBLoss.from_preset("dicefocal", **options)(maps, labels(1)) for options in (
        {}, {"focal_weight": 0}, {"dice_weight": 0}, {"dice_weight": 0, "focal_weight": 2}))
    assert (dice.shrink + focal.shrink).item() == pytest.approx(both.shrink.item(), rel=1e-6)
    assert (dice.binary + focal.binary).item() == pytest.approx(both.binary.item(), rel=1e-6)
    assert twice.shrink.item() == pytest.approx(2 * focal.shrink.item(), rel=1e-6)
    plain = DBLoss(balance_loss=False)(maps, labels(1))
    assert dice.loss.item() == pytest.approx(plain.loss.item(), rel=1e-6)


# precision and errors

@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(preset, dtype):
    maps, logits = prediction(2, dtype=dtype)
    maps.requires_grad_()
    batch = labels(1, 1)
    terms = DBLoss.from_preset(preset)(maps, batch, logits)
    assert terms.loss.dtype == torch.float32
    exact = DBLoss.from_preset(preset)(maps.detach().double(), batch, logits.double()).loss.item()
    assert terms.loss.item() == pytest.approx(exact, rel=1e-4)
    if not DBLoss.from_preset(preset).with_logits:
        terms.loss.backward()
        assert torch.isfinite(maps.grad).all()


def test_inside_autocast():
    maps, _ = prediction(1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = DBLoss.from_preset("original")(maps, labels(1)).loss
    assert inside == DBLoss.from_preset("original")(maps, labels(1)).loss


def test_the_demo_of_the_popular_listing_is_refused():
    """It passes normal numbers for maps and labels alike; P, T and B must be probabilities."""
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\].*sigmoid"):
        DBLoss()(torch.randn(8, 3, *SIZE), labels(*[1] * 8))


def test_bad_requests_are_explained():
    maps, _ = prediction(1)
    with pytest.raises(ValueError, match="got values from nan"):
        DBLoss()(maps * float("nan"), labels(1))
    with pytest.raises(ValueError, match="shrink_map has shape"):
        DBLoss()(maps, labels(1, 1))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        DBLoss()(maps[:, 0], labels(1))
    with pytest.raises(ValueError, match="logits"):
        DBLoss.from_preset("mmocr")(maps, labels(1))
    with pytest.raises(ValueError, match="no preset 'paddle'; there are paddleocr"):
        DBLoss.from_preset("paddle")
    with pytest.raises(ValueError, match="no main_loss_type 'Dice'; there are DiceLoss"):
        DBLoss(main_loss_type="Dice")
    with pytest.raises(ValueError, match="nothing can be mined"):
        DBLoss(main_loss_type="DiceFocalLoss")
    with pytest.raises(ValueError, match="with_logits goes with"):
        DBLoss(with_logits=True)
    with pytest.raises(ValueError, match="alpha"):
        DBLoss(alpha=-1)
