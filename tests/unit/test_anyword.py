"""The AnyWord form: read back what was written, and messages that name the entry and the field."""

import json

import numpy as np
import pytest

from anytext_lib.data import AnnotatedImage, Annotation, AnyWordError, read_anyword, write_anyword

LINE = {"polygon": [[1, 2], [30, 2], [30, 12], [1, 12]], "text": "Tea", "language": "Latin"}


def write(tmp_path, *entries, **top):
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data_root": "pictures", "data_list": list(entries)} | top), encoding="utf-8")
    return path


def entry(**changes):
    return {"img_name": "a.jpg", "annotations": [LINE | changes]}


def test_defaults_of_optional_fields(tmp_path):
    item, = read_anyword(write(tmp_path, entry()))
    assert item.path == tmp_path / "pictures" / "a.jpg"
    assert (item.caption, item.wm_score, item.skipped) == ("", None, 0)
    line, = item.annotations
    assert line.valid is True and line.color is None
    assert line.polygon.shape == (4, 2) and line.polygon.dtype == np.float64


def test_a_picture_needs_no_annotations(tmp_path):
    item, = read_anyword(write(tmp_path, {"img_name": "a.jpg", "wm_score": 0.5}))
    assert item.annotations == [] and item.wm_score == 0.5


def test_the_colour_500_stands_for_none(tmp_path):
    colours = [[500, 500, 500], [1, 2, 3]]
    items = read_anyword(write(tmp_path, *[entry(color=c) for c in colours]))
    assert [item.annotations[0].color for item in items] == [None, (1, 2, 3)]


def test_empty_polygons_are_left_out_and_counted(tmp_path):
    item, = read_anyword(write(tmp_path, {"img_name": "a.jpg", "annotations": [LINE | {"polygon": []}, LINE]}))
    assert len(item.annotations) == 1 and item.skipped == 1


def test_round_trip(tmp_path):
    line = Annotation(np.array([[0.25, 1], [9.5, 1], [9, 7.75]]), "绿茶 \"x\"", "Chinese", False, (1, 2, 3))
    item = AnnotatedImage(tmp_path / "img" / "b.jpg", "b.jpg", "A caption.", [line], 0.25)
    write_anyword(tmp_path / "x.json", [item], "img")
    again, = read_anyword(tmp_path / "x.json")
    assert (again.path, again.name, again.caption, again.wm_score) == (item.path, "b.jpg", "A caption.", 0.25)
    read, = again.annotations
    assert (read.text, read.language, read.valid, read.color) == (line.text, "Chinese", False, (1, 2, 3))
    np.testing.assert_array_equal(read.polygon, line.polygon)


@pytest.mark.parametrize("changes, message", [
    ({"polygon": [[1, 2], [3, 4]]}, "polygon has 2 points"),
    ({"polygon": [[1, 2], [3, 4], [5]]}, r"polygon\[2\] must be two finite numbers"),
    ({"polygon": [[1, 2], [3, 4], [5, float("nan")]]}, r"polygon\[2\] must be two finite numbers"),
    ({"polygon": "no"}, "polygon must be a list"),
    ({"text": 7}, "text must be a string, what the line says, got 7"),
    ({"language": None}, "language must be a string"),
    ({"valid": 1}, "valid must be true or false; .*, got 1"),
    ({"color": [1, 2]}, r"color must be \[r, g, b\]"),
    ({"color": [1, 2, 300]}, r"color must be \[r, g, b\]"),
])
def test_malformed_annotation_is_named(tmp_path, changes, message):
    path = write(tmp_path, {"img_name": "ok.jpg"}, entry(**changes))
    with pytest.raises(AnyWordError, match=rf"data\.json: data_list\[1\]\.annotations\[0\] \('a\.jpg'\): {message}"):
        read_anyword(path)


@pytest.mark.parametrize("content, message", [
    ("[]", "must be an object with data_root and data_list"),
    ('{"data_list": []}', "the field data_root is missing"),
    ('{"data_root": ".", "data_list": {}}', "data_list must be a list"),
    ('{"data_root": ".", "data_list": [3]}', r"data_list\[0\]: it must be an object"),
    ('{"data_root": ".", "data_list": [{"caption": "x"}]}', "img_name is missing"),
    ("{", "ends too soon"),
])
def test_malformed_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(AnyWordError, match=rf"bad\.json.*{message}"):
        read_anyword(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotation file"):
        read_anyword(tmp_path / "none.json")
