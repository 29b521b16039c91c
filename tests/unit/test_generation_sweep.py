"""Costs of the parts, and readable lines by scheduler and steps."""
import torch

from anytext_lib.generation import AnyText2Pipeline, Line, Request, Settings
from anytext_lib.generation.sweep import accuracy_by_steps, lines_of, part_seconds
from tests.unit.generation_model import lively_model

BOX = [[6, 6], [80, 6], [80, 40], [6, 40]]


class Knowing:
    """A judge that reads 'Tea' everywhere."""

    def read(self, crops):
        assert crops.shape[1:] == (3, 48, 320) and crops.abs().max() <= 1
        return ["Tea"] * len(crops)


def test_accuracy_by_steps():
    pipe = AnyText2Pipeline(lively_model())
    before = pipe.scheduler
    asked = [Request("", [Line("Tea", BOX)], width=96, height=48), Request('"Milk"', width=96, height=48)]
    rows = accuracy_by_steps(pipe, asked, Knowing(), steps=(1, 2), settings=Settings(cfg_scale=1.0), images=2)
    assert [(row.scheduler, row.steps) for row in rows] == [
        (name, steps) for name in ("ddim", "dpmsolver++", "unipc") for steps in (1, 2)]
    assert all(row.accuracy == 0.5 and row.calls == row.steps and row.seconds > 0 for row in rows)
    assert rows[0].read == ["Tea"] * 4
    assert rows[0].wanted == ["Tea", "Tea", "Milk", "Milk"] and pipe.scheduler is before


def test_lines_of_records():
    record = {"request": {"width": 96, "height": 48, "lines": [{"text": "Tea", "region": BOX}]}}
    lines = lines_of([record, {"request": {"width": 96, "height": 48, "lines": []}}, record])
    assert lines.image_index.tolist() == [0, 2] and lines.texts == ["Tea"] * 2
    assert torch.equal(lines.quads[0], torch.tensor(BOX, dtype=torch.float32)) and len(lines_of([])) == 0


def test_part_seconds():
    pipe = AnyText2Pipeline(lively_model())
    with part_seconds(pipe) as spent:
        pipe.generate('"Tea"', ddim_steps=2, width=96, height=48)
    assert 0 < spent["writenet"] < spent["total"] and 0 < spent["unet"] < spent["total"]
    assert not pipe.model.writenet._forward_hooks
