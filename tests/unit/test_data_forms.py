"""Annotation files as they come: check, reading, index and training say the same of each, and what to do."""

import copy
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from anytext_lib.data.anyword import read_anyword
from anytext_lib.data.anyword_stream import AnyWordError
from anytext_lib.data.dataset import AnyWordDataset
from anytext_lib.data.index import AnyWordIndex
from anytext_lib.data.pictures import read_picture
from anytext_lib.data.sample import SampleConfig
from anytext_lib.datatools.check import check_data, readable_entries
from anytext_lib.datatools.contact_sheet import TILE, contact_sheet
from anytext_lib.training.data import read_records

BASE = {"data_root": ".", "data_list": [{"img_name": "a.jpg", "caption": "a sign", "annotations": [
    {"polygon": [[5, 4], [60, 4], [60, 26], [5, 26]], "text": "HARBOUR", "language": "Latin"}]}]}
TEXT = json.dumps(BASE, indent=1)
HUGE = 10**400


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "im gs" / "图片").mkdir(parents=True)
    for name in ("a.jpg", "im gs/b c.jpg", "im gs/图片/\u00e9.jpg"):
        Image.new("RGB", (64, 32), (200, 210, 190)).save(tmp_path / name)
    return tmp_path


def entry(**changes):
    rows = copy.deepcopy(BASE)
    rows["data_list"][0].update(changes)
    return json.dumps(rows).encode()


def line(**changes):
    rows = copy.deepcopy(BASE)
    rows["data_list"][0]["annotations"][0].update(changes)
    return json.dumps(rows).encode()


def outcome(path):
    """The lines that training gets of the first picture, or why it gets none."""
    data = AnyWordDataset(read_records(path)[0], SampleConfig(image_size=(32, 64)))
    sample = data[0]
    assert not sample.skipped and not sample.dropped
    return sample.texts


@pytest.mark.parametrize(("content", "texts"), [
    (b"\xef\xbb\xbf" + TEXT.encode(), ["HARBOUR"]), (TEXT.replace("\n", "\r\n").encode(), ["HARBOUR"]),
    (json.dumps(dict(reversed(BASE.items()))).encode(), ["HARBOUR"]), (entry(img_name="im gs\\b c.jpg"), ["HARBOUR"]),
    (entry(img_name="im gs/图片/\u00e9.jpg"), ["HARBOUR"]), (entry(img_name="im gs/图片/e\u0301.jpg"), ["HARBOUR"]),
    (entry(caption=None, wm_score=None), ["HARBOUR"]), (entry(annotations=None), []), (line(valid=None), ["HARBOUR"]),
    (line(color=[10.5, 20, 30]), ["HARBOUR"]), (line(color=None), ["HARBOUR"]), (line(rotation=3), ["HARBOUR"]),
    (line(text="Cafe\u0301\u200b"), ["Caf\u00e9"]), (line(text="Tea\u00a0time"), ["Tea time"]),
])
def test_forms_that_are_read(folder, content, texts):
    path = folder / "annotations.json"
    path.write_bytes(content)
    report = check_data(path)
    assert report.ok, report.summary()
    assert [a.text for a in read_anyword(path)[0].annotations] == texts == outcome(path)


@pytest.mark.parametrize(("content", "message"), [
    (TEXT.encode("utf-16"), "save it as UTF-8"), (TEXT.replace("sign", "招牌").encode("gbk"), "save it as UTF-8"),
    (TEXT.replace('"Latin"\n', '"Latin",\n').encode(), "malformed JSON"), (b"", "the file is empty"),
    (json.dumps(BASE["data_list"]).encode(), "around the list"), (b'{"data_list": []}', "data_root is missing"),
    (b'{"img_name": "a.jpg"}\n{"img_name": "b.jpg"}', "one object a line"),
    (TEXT.replace("60,", "NaN,", 1).encode(), "finite"), (TEXT.replace("60,", "1e999,", 1).encode(), "finite"),
    (line(polygon=[[5, 4], [HUGE, 4], [60, 26]]), "finite"), (line(polygon=[[5, 4], [2**32, 4], [60, 26]]), "finite"),
    (line(polygon=[5, 4, 60, 4, 60, 26]), "two"), (line(polygon=[["5", "4"], ["60", "4"], ["60", "26"]]), "number"),
    (line(polygon=[[5, 4], [60, 26]]), "three"), (line(color=[float("nan"), 1, 2]), "from 0 to 255"),
    (line(color="#102030"), "color|255"), (line(color=[HUGE, 1, 2]), "color|255"),
    (entry(wm_score=float("nan")), "from 0 to 1"), (entry(wm_score="0.2"), "from 0 to 1"),
    (entry(wm_score=HUGE), "from 0 to 1"), (entry(wm_score=float("inf")), "from 0 to 1"),
    (line(valid=1), "true or false"), (line(text=None), "a string"), (line(text=2024), "a string"),
    (line(text="A\ud83d"), r"U\+D83D: remove"), (line(text="A\x00B"), r"U\+0000: remove"),
    (entry(caption="A\x07"), r"U\+0007: remove"),
    (TEXT.replace('"HARBOUR"', "[" * 9999 + "]" * 9999).encode(), "must be a string|nested"),
    (TEXT.replace('"HARBOUR"', "[" * 700 + "]" * 700).encode(), "must be a string|nested"),
    (TEXT.replace('"HARBOUR"', "1" * 5000).encode(), "digits"),
    (entry(img_name="https://example.org/a.jpg"), "is an address.*download"),
    (entry(img_name="/etc/a.jpg"), "absolute"), (entry(img_name="C:\\a.jpg"), "absolute"),
    (entry(img_name="im gs/../../a.jpg"), "leads out"),
    (entry(img_name="..\\a.jpg"), "leads out"), (entry(img_name="a\x00.jpg"), "printable"),
    (entry(img_name="a" * 300), "255 bytes"), (entry(img_name="\ud83d.jpg"), "printable"),
])
def test_forms_that_are_refused_alike(folder, content, message):
    path = folder / "annotations.json"
    path.write_bytes(content)
    problems = check_data(path).problems
    assert any(re.search(message, problem.what) for problem in problems), problems
    for read in (read_anyword, lambda p: AnyWordIndex.open(p, report=lambda m: None), outcome):
        with pytest.raises(AnyWordError, match=message):
            read(path)
    assert not list(folder.glob(".*"))


def test_an_empty_list_is_no_data(folder):
    path = folder / "annotations.json"
    path.write_text('{"data_root": ".", "data_list": []}')
    assert check_data(path).kinds == {"no_picture": 1}
    with pytest.raises(ValueError, match="no picture"):
        outcome(path)


@pytest.mark.parametrize("changes", [{"img_name": "A.JPG"}, {"img_name": "gone.jpg"}])
def test_a_picture_that_is_not_there(folder, changes):
    path = folder / "annotations.json"
    path.write_bytes(entry(**changes))
    assert check_data(path).kinds == {"missing_image": 1}
    with pytest.warns(UserWarning, match="no such file"), pytest.raises(AnyWordError, match="is data_root right"):
        outcome(path)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_does_not_lead_out_of_the_root(folder):
    (folder / "set").mkdir()
    os.symlink(folder / "a.jpg", folder / "set" / "out.jpg")
    os.symlink(folder / "set" / "loop.jpg", folder / "set" / "loop.jpg")
    os.symlink(folder / "set", folder / "alias")
    Image.new("RGB", (64, 32)).save(folder / "set" / "in.jpg")
    os.symlink("in.jpg", folder / "set" / "also.jpg")
    path = folder / "alias" / "annotations.json"  # the root itself may be a link
    for name, good in (("out.jpg", False), ("loop.jpg", False), ("in.jpg", True), ("also.jpg", True)):
        path.write_bytes(entry(img_name=name))
        assert check_data(path).ok == good, check_data(path).summary()
        if good:
            assert outcome(path)
            continue
        told = "outside of|cannot be found|no such|symbolic links"
        with pytest.warns(UserWarning, match=told), pytest.raises(AnyWordError):
            outcome(path)
        assert np.asarray(contact_sheet(readable_entries(path, 1)))[30, 30, 0] == 225  # the empty tile


def claims(width, height):
    """The head of a PNG of any size, and no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("content", [claims(30000, 30000), claims(13000, 13000), claims(8, 8), b"", b"<svg/>"])
def test_a_picture_that_cannot_be_read_is_counted_everywhere(folder, content):
    path = folder / "annotations.json"
    (folder / "a.jpg").write_bytes(content)
    rows = json.loads(entry())
    rows["data_list"].append(rows["data_list"][0] | {"img_name": "im gs/b c.jpg"})
    path.write_text(json.dumps(rows))
    for images in ("decode", "open") if content != claims(8, 8) else ("decode",):
        problem, = check_data(path, images=images).problems
        assert problem.kind == "corrupt_image" and "cannot be read" in problem.what
    assert contact_sheet(readable_entries(path, 2)).height < 2 * TILE
    with pytest.warns(UserWarning, match="a.jpg"):
        sample = AnyWordDataset(read_records(path)[0], SampleConfig(image_size=(32, 64)))[0]
    assert sample.name == "im gs/b c.jpg" and len(sample.skipped) == 1


def grey(values, mode=None):
    return Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)


SHADES = np.tile(np.linspace(20, 220, 64).astype(np.uint8), (32, 1))


@pytest.mark.parametrize(("name", "picture"), [
    ("x.png", grey(SHADES)), ("x.tif", grey(SHADES.astype(np.uint16) * 257)),
    ("y.png", grey(SHADES.astype(np.uint16) * 257)), ("b.png", grey((SHADES > 120).astype(np.uint8) * 255, "1")),
    ("z.tif", grey(SHADES.astype(np.float32) / 255)), ("i.tif", grey(SHADES.astype(np.int32) * 257)),
    ("p.png", grey(SHADES, "P")), ("la.png", grey(SHADES, "LA")),
    ("c.jpg", grey(SHADES, "RGB").convert("CMYK")), ("g.gif", grey(SHADES, "P")), ("w.webp", grey(SHADES, "RGBA")),
])
def test_training_sees_what_the_sheet_shows(folder, name, picture):
    picture.save(folder / name)
    path = folder / "annotations.json"
    path.write_bytes(entry(img_name=name, annotations=[]))
    assert check_data(path).ok
    sample = AnyWordDataset(read_records(path)[0], SampleConfig(image_size=(32, 64)))[0]
    np.testing.assert_array_equal(sample.image, read_picture(folder / name))
    shown = np.asarray(contact_sheet(readable_entries(path, 1)))[14 : 14 + TILE // 2, 14 : 14 + TILE].astype(float)
    small = shown.reshape(32, 6, 64, 6, 3).mean((1, 3))
    assert np.abs(small - sample.image).mean() < 6
    if name != "b.png":
        assert np.abs(sample.image[..., 0].astype(int) - SHADES).mean() < 4


def test_a_long_name_of_a_language_does_not_stop_the_sheet(folder):
    path = folder / "annotations.json"
    path.write_bytes(line(language="L" * 5000))
    assert check_data(path).kinds == {"unknown_language": 1}
    assert contact_sheet(readable_entries(path, 1)).width > TILE
