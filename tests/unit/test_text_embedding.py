"""Embeddings of lines: their parts, what each depends on, their start, and an empty batch."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.models.text_embedding import PARTS, TextEmbedding, glyph_crops, has_ink, line_crop, style_crops
from tests.unit.model_batch import make_batch

NO_STYLE = {"width": 6, "style": False, "position_channels": (2, 4)}


class Reader:
    """Stands for the frozen recogniser: the mean of each crop in every feature."""

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.flatten(1).mean(dim=1)[:, None, None].expand(-1, 40, 64)


def arguments(batch=None) -> dict:
    batch = batch or make_batch()
    return {"lines": batch.lines, "glyph_features": torch.ones(len(batch.lines), 40, 64),
            "positions": batch.positions, "font_hints": batch.font_hints, "colors": batch.colors}


def test_projections_start_as_constants():
    network = TextEmbedding(width=6, style_trainable=False, position_channels=(2, 4))
    parts = network.parts(**arguments(), reader=Reader())
    assert tuple(parts) == PARTS and all(value.shape == (3, 6) for value in parts.values())
    assert all((parts[name] == 0).all() for name in ("glyph", "style", "color"))
    network(**arguments(), reader=Reader()).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("left_out", PARTS)
def test_each_part_can_be_left_out(left_out):
    network = TextEmbedding(**{"width": 6, "position_channels": (2, 4), "style_trainable": False, left_out: False})
    needed = {"glyph": "glyph_features", "position": "positions", "style": "font_hints", "color": "colors"}
    given = arguments() | {needed[left_out]: None}
    assert left_out not in network.parts(**given, reader=Reader())
    for part, name in needed.items():
        if part != left_out:
            with pytest.raises(ValueError, match=f"{part} part .* needs {name}"):
                network(**(given | {name: None}), reader=Reader())


def test_no_part_at_all():
    with pytest.raises(ValueError, match="at least one part"):
        TextEmbedding(**dict.fromkeys(PARTS, False))


def test_a_frozen_style_recogniser_is_asked_for():
    network = TextEmbedding(width=6, style_trainable=False, position_channels=(2, 4))
    assert network.needs_reader and not hasattr(network, "style_recognizer")
    with pytest.raises(ValueError, match="pass reader"):
        network(**arguments())


def test_missing_colours_and_hints_can_be_skipped():
    network = TextEmbedding(width=6, style_trainable=False, position_channels=(2, 4), skip_missing=True)
    torch.nn.init.ones_(network.color_proj[1].bias), torch.nn.init.ones_(network.style_proj[1].bias)
    given = arguments()
    given["colors"] = torch.tensor([[500.0] * 3, [255, 255, 255], [0, 0, 0]])
    given["font_hints"] = given["font_hints"] * torch.tensor([1.0, 0.0])[:, None, None, None]
    parts = network.parts(**given, reader=Reader())
    assert parts["color"].any(dim=1).tolist() == [False, True, True]
    assert parts["style"].any(dim=1).tolist() == [True, True, False]


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_style_recogniser_in_training_mode(batch_statistics):
    network = TextEmbedding(width=6, position_channels=(2, 4), style_batch_statistics=batch_statistics).train()
    assert network.style_recognizer.training == batch_statistics and network.style_proj.training
    assert not network.eval().style_recognizer.training


def test_no_lines_give_no_embeddings_but_gradients():
    """Machines that train together wait for the gradient of every weight, also where one has no text."""
    network = TextEmbedding(width=6, position_channels=(2, 4))
    out = network(**arguments(make_batch(boxes=())))
    assert out.shape == (0, 6)
    out.sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == ["style_recognizer.head.fc.weight", "style_recognizer.head.fc.bias"]


def test_pictures_of_lines():
    wide = line_crop(torch.ones(80, 512))
    assert wide.shape == (3, 48, 320) and (wide[:, :, :308] == 1).all() and (wide[:, :, 308:] == 0).all()
    tall = torch.zeros(1, 100, 50)
    tall[:, 0] = 1  # its top ...
    turned = line_crop(tall)
    assert turned[0, 24, 0] == 1 and (turned[:, :, 96:] == 0).all()  # ... comes to the left
    with pytest.raises(ValueError, match=r"\(2, 8, 8\)"):
        line_crop(torch.zeros(2, 8, 8))
    assert glyph_crops(torch.zeros(0, 1, 80, 512)).shape == (0, 3, 48, 320)


def test_styles_seen_elsewhere():
    batch = make_batch()
    crops = style_crops(batch.font_hints, batch.lines)
    mimic = style_crops(batch.font_hints, batch.lines, [None, torch.ones(48, 320), None])
    assert torch.equal(mimic[0], crops[0]) and (mimic[1] == 1).all()
    assert has_ink(crops).all() and not has_ink(style_crops(0 * batch.font_hints, batch.lines)).any()
    with pytest.raises(ValueError, match="1 style images for 3 lines"):
        style_crops(batch.font_hints, batch.lines, [None])
    assert style_crops(batch.font_hints, TextLines.empty(), []).shape == (0, 3, 48, 320)
