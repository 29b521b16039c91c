from __future__ import annotations

import pytest
import torch

from anytext_lib.data import BadLineError, BadLineWarning, TextLines
from anytext_lib.ocr import crop_lines


def quad(left, top, width, height):
    return torch.tensor([[left, top], [left + width, top], [left + width, top + height], [left, top + height]]).float()


def lines(*quads, image=0):
    return TextLines([image] * len(quads), torch.stack(quads), ["text"] * len(quads), ["Latin"] * len(quads))


def picture(size=64, batch=1, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_no_lines_give_no_crops():
    assert crop_lines(picture(), TextLines.empty()).shape == (0, 3, 48, 320)


def test_a_crop_is_padded_with_grey_on_the_right():
    crop = crop_lines(picture(), lines(quad(4, 4, 40, 20)), height=48, width=320)
    assert crop.shape == (1, 3, 48, 320)
    assert (crop[..., 96:] == 0).all() and crop[..., :96].abs().mean() > 0.1


def test_outside_the_image_is_black():
    crop = crop_lines(torch.ones(1, 3, 64, 64), lines(quad(40, 10, 48, 24)), height=24, width=48)
    assert (crop[..., -20:] == -1).all() and (crop[..., :20] == 1).all()


def test_a_line_is_cut_from_its_own_image():
    images = torch.stack([torch.full((3, 64, 64), 0.5), torch.full((3, 64, 64), -0.5)])
    both = TextLines([1, 0], torch.stack([quad(8, 8, 32, 16)] * 2), ["a", "b"], ["Latin"] * 2)
    crops = crop_lines(images, both, height=16, width=32)
    assert torch.allclose(crops.mean(dim=(1, 2, 3)), torch.tensor([-0.5, 0.5]))


def test_half_precision_images_are_sampled_in_float32():
    image = picture(256)
    there = lines(quad(100.0, 100.0, 96, 48))
    exact = crop_lines(image.to(torch.bfloat16).float(), there)
    assert torch.equal(crop_lines(image.to(torch.bfloat16), there), exact)


@pytest.mark.parametrize("box", [quad(3, 5, 40, 20), quad(5, 3, 12, 40)], ids=["wide", "tall"])
def test_gradient_by_finite_differences(box):
    turned = box @ torch.tensor([[0.98, 0.17], [-0.17, 0.98]]).T + torch.tensor([8.0, 0.0])
    image = picture(48).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: crop_lines(x, lines(turned), height=6, width=12), image, fast_mode=True)


@pytest.mark.parametrize(("bad", "words"), [
    (quad(10, 10, 30, 0), "too thin"),
    (quad(10, 10, 0.5, 0.5), "too thin"),
    (quad(-50, 10, 40, 20), "outside its image"),
    (quad(10, 70, 40, 20), "outside its image"),
    (quad(10, float("nan"), 40, 20), "not finite"),
])
def test_bad_lines_raise_or_are_skipped_with_a_count(bad, words):
    both = lines(quad(4, 4, 40, 20), bad)
    with pytest.raises(BadLineError, match=words):
        crop_lines(picture(), both)
    with pytest.warns(BadLineWarning, match=f"skipped 1 of 2 lines.*{words}"):
        crops = crop_lines(picture(), both, on_bad_line="skip")
    assert torch.equal(crops, crop_lines(picture(), lines(quad(4, 4, 40, 20))))


def test_a_line_of_a_missing_image_is_bad():
    with pytest.raises(BadLineError, match="the batch has 1 images"):
        crop_lines(picture(), lines(quad(4, 4, 40, 20), image=3))


def test_all_lines_skipped_leaves_none():
    with pytest.warns(BadLineWarning, match="skipped 1 of 1"):
        assert len(crop_lines(picture(), lines(quad(-90, 4, 40, 20)), on_bad_line="skip")) == 0


def test_images_must_be_a_batch():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        crop_lines(picture()[0], lines(quad(4, 4, 40, 20)))
