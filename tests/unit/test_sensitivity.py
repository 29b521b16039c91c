"""Ways to move a text accuracy without touching the writer."""
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anytext_lib.data.anyword import read_anyword
from anytext_lib.evaluation import find_pictures
from anytext_lib.evaluation.journal import read_picture
from anytext_lib.evaluation.read import picture_settings
from anytext_lib.evaluation.sensitivity import (
    grow_polygon,
    please,
    turned,
    with_margin,
    write_changed,
    write_generated,
)
from tests.unit.evaluation_toys import make_folder, polygon


def test_a_margin_is_counted_in_line_heights():
    box = np.array(polygon((10, 20, 110, 40)), float)
    np.testing.assert_allclose(grow_polygon(box, 0.5), polygon((0, 10, 120, 50)), atol=1e-4)
    np.testing.assert_allclose(grow_polygon(box, -0.25), polygon((15, 25, 105, 35)), atol=1e-4)
    np.testing.assert_allclose(grow_polygon(box, 0.0), box, atol=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, 90.0, 133.0])
def test_a_turned_line_grows_along_its_own_sides(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s], [s, c]])
    box = (np.array(polygon((-50, -10, 50, 10)), float) @ turn.T) + 100
    wanted = (np.array(polygon((-60, -20, 60, 20)), float) @ turn.T) + 100
    np.testing.assert_allclose(grow_polygon(box, 0.5), wanted, atol=1e-3)


def test_a_margin_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        grow_polygon(np.array(polygon((10, 20, 110, 40)), float), -0.5)


def test_pictures_keep_all_but_their_polygons(tmp_path):
    pictures, _ = find_pictures(make_folder(tmp_path, [["Hello", "World"], ["Sale"]]))
    grown = with_margin(pictures, 0.2)
    assert [p.name for p in grown] == [p.name for p in pictures]
    assert [line.text for line in grown[0].lines] == ["Hello", "World"]
    assert np.ptp(grown[0].lines[0].polygon[:, 1]) == pytest.approx(20 * 1.4, rel=1e-4)
    assert np.ptp(pictures[0].lines[0].polygon[:, 1]) == 20, "the given pictures must not change"


def test_polygons_turn_with_the_picture():
    image = np.full((60, 100, 3), 255, np.uint8)
    image[20:30, 15:55] = 0  # pixel centres 15..54, 20..29
    for degrees in (0, 90, 30, -12):
        hung, (moved,) = turned(image, [np.array(polygon((15, 20, 54, 29)), float)], degrees)
        rows, columns = np.nonzero(hung[..., 0] < 128)
        assert columns.min() == pytest.approx(moved[:, 0].min(), abs=1.2)
        assert columns.max() == pytest.approx(moved[:, 0].max(), abs=1.2)
        assert rows.min() == pytest.approx(moved[:, 1].min(), abs=1.2)
        assert rows.max() == pytest.approx(moved[:, 1].max(), abs=1.2)
    assert turned(image, [], 90)[0].shape == (100, 60, 3)
    hung, (moved,) = turned(image, [np.array([[99.0, 0], [0, 0], [0, 59]])], 90)
    np.testing.assert_allclose(moved[1], [59, 0], atol=1e-6)  # clockwise: the upper left corner comes to the right


def test_changed_pictures_are_a_benchmark_again(tmp_path):
    entries = read_anyword(make_folder(tmp_path, [["Hello", "World"], ["Sale"]]))
    entries = [replace(entry, path=entry.path.with_suffix(".png")) for entry in entries]  # the toys' names end in .jpg
    path = write_changed(entries, tmp_path / "dark", lambda pixels, polygons: (pixels // 2, [p + 1 for p in polygons]))
    pictures, missing = find_pictures(path)
    assert not missing and [p.name for p in pictures] == ["item_00.png", "item_01.png"]
    np.testing.assert_allclose(pictures[0].lines[0].polygon, np.array(polygon((9, 9, 89, 29)), float))
    assert read_picture(pictures[0].path).max() == 125


def test_generated_pictures_carry_their_record(tmp_path):
    region = polygon((8, 8, 88, 28))
    request = {"prompt": 'a sign "Hello"', "lines": [{"text": "Hello", "region": region}]}
    records = [{"request": request, "settings": {"ddim_steps": 3}, "scheduler": {"class": "DDIM"}, "seeds": [5, 6],
                "place": i} for i in (0, 1)]
    image = np.zeros((64, 192, 3), np.uint8)
    output = SimpleNamespace(images=[image, image], records=records, pictures=[0, 0])
    path = write_generated(output, SimpleNamespace(folder=None), tmp_path / "made")
    pictures, missing = find_pictures(path)
    assert [p.name for p in pictures] == ["item_0000_0.png", "item_0000_1.png"] and not missing
    assert pictures[0].lines[0].text == "Hello" and pictures[0].caption == 'a sign "Hello"'
    assert [picture_settings(p.path)["seed"] for p in pictures] == [5, 6]


class Means:
    """A reader whose features are means of 8 x 8 pixels."""

    def features(self, crops):
        return torch.nn.functional.avg_pool2d(crops, 8).flatten(2).transpose(1, 2)


def test_pixels_come_to_please_the_reader():
    generator = torch.Generator().manual_seed(0)
    start, wanted = (2 * torch.rand(2, 3, 48, 64, generator=generator) - 1 for _ in range(2))
    first, last = please(Means(), start, wanted, 30, keep=[0, 30])
    assert torch.equal(first, start) and last.abs().max() <= 1
    distance = [float((Means().features(x) - Means().features(wanted)).square().mean()) for x in (first, last)]
    assert distance[1] < 0.1 * distance[0]
    assert float((last - wanted).square().mean()) > 0.1, "it pleases the reader and is another picture"
    assert len(please(Means(), start, wanted, 1)) == 1


def test_unfit_steps_and_shapes_are_refused():
    crops = torch.zeros(1, 3, 48, 64)
    with pytest.raises(ValueError, match="steps to keep"):
        please(Means(), crops, crops, 3, keep=[4])
    with pytest.raises(ValueError, match="a start for each"):
        please(Means(), crops, torch.zeros(2, 3, 48, 64), 3)
