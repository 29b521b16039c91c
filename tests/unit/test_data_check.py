"""The check of data sets: each problem with its place and remedy, clean sets clean, and the contact sheet."""

import json
import shutil

import jsonschema
import numpy as np
import pytest
from PIL import Image

from anytext_lib.data import read_anyword
from anytext_lib.data.anyword import SCHEMA, languages, load_schema
from anytext_lib.data.fonts import font_path
from anytext_lib.datatools.check import REMEDIES, check_data, readable_entries
from anytext_lib.datatools.contact_sheet import TILE, contact_sheet
from anytext_lib.files import data_folder

QUAD = [[10, 10], [90, 10], [90, 40], [10, 40]]
LINE = {"polygon": QUAD, "text": "Coffee", "language": "Latin", "color": [10, 20, 30]}


@pytest.fixture
def make(tmp_path):
    """Writes a set of one picture of 100 x 60 pixels, a.jpg, and returns the path of its annotations."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 100, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "a.jpg")

    def write(*entries, **top):
        path = tmp_path / "annotations.json"
        content = {"data_root": "images", "data_list": list(entries)} | top
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path
    return write


def entry(*lines, **changes):
    return {"img_name": "a.jpg", "caption": "A cup.", "annotations": list(lines)} | changes


def only(report):
    assert len(report.problems) == 1 == report.kinds.total(), report.summary()
    return report.problems[0]


def test_the_schema_is_a_schema_and_fits_the_sample_set():
    jsonschema.Draft202012Validator.check_schema(load_schema())
    sample = json.loads((data_folder() / "annotations.json").read_text("utf-8"))
    jsonschema.validate(sample, load_schema())
    assert "Latin" in languages() and SCHEMA.name == "anyword.schema.json"


def test_the_sample_set_is_clean():
    report = check_data(data_folder())
    assert report.ok and report.images == 48 and report.lines > 100, report.summary()
    assert set(report.languages) == {"Latin", "Chinese"} and report.counts["largest side in pixels"] == 512
    assert "No problem found." in report.summary()


def test_a_clean_set(make):
    report = check_data(make(entry(LINE, LINE | {"color": [500, 500, 500]}, LINE | {"polygon": []}),
                             entry(img_name="./a.jpg", caption="")))
    assert report.ok, report.summary()
    assert report.counts["lines without a colour"] == 1 and report.counts["lines left out (empty polygon)"] == 1
    assert report.counts["pictures without a line"] == 1 and report.counts["pictures without a caption"] == 1


@pytest.mark.parametrize("changes, kind, field, what", [
    ({"polygon": [[110, 10], [190, 10], [190, 40], [110, 40]]}, "polygon_outside", "polygon",
     "the polygon lies outside the picture of 100 x 60 pixels: x from 110 to 190, y from 10 to 40"),
    ({"polygon": [[10, 10], [190, 10], [190, 40], [10, 40]]}, "polygon_outside", "polygon", "reaches 90 pixels out of"),
    ({"polygon": [[-20, 10], [90, 10], [90, 40], [-20, 40]]}, "polygon_outside", "polygon", "reaches 20 pixels out of"),
    ({"polygon": [[1, 1], [50, 1]]}, "polygon_degenerate", "polygon", "at least three points"),
    ({"polygon": [[1, 1], [50, 1], [90, 1]]}, "polygon_degenerate", "polygon", "0.0 pixels thin"),
    ({"polygon": [[10, 10], [90, 40], [90, 10], [10, 40]]}, "polygon_degenerate", "polygon", "cross each other"),
    ({"polygon": [[10, 10], [float("nan"), 10], [90, 40]]}, "polygon_degenerate", "polygon[1]", "finite numbers"),
    ({"polygon": [[10, 10], [90, "10"], [90, 40]]}, "malformed_field", "polygon[1]", 'got [90, "10"]'),
    ({"polygon": [[10, 10], [90], [90, 40]]}, "malformed_field", "polygon[1]", "must be two finite numbers [x, y]"),
    ({"polygon": 7}, "malformed_field", "polygon", "a list of at least three points"),
    ({"language": "Klingon"}, "unknown_language", "language", "(Latin, Chinese, Chinese_sim"),
    ({"language": 3}, "malformed_field", "language", "one of the languages"),
    ({"text": "பால்"}, "no_glyph", "text", "'ப' (U+0BAA), 'ா' (U+0BBE)"),
    ({"text": "Tea 天é"}, "no_glyph", "text", "no single font has them all"),
    ({"text": "A text that is too long"}, "text_too_long", "text", "has 23 characters, more than the 20"),
    ({"text": " "}, "empty_text", "text", "the text is empty, but the line is valid"),
    ({"text": None}, "malformed_field", "text", "must be a string, what the line says, got null"),
    ({"color": [1, 2, 300]}, "wrong_color", "color", "must be [r, g, b] from 0 to 255"),
    ({"color": "red"}, "wrong_color", "color", 'got "red"'),
    ({"valid": "yes"}, "malformed_field", "valid", "must be true or false"),
])
def test_problems_of_a_line(make, changes, kind, field, what):
    path = make(entry(LINE, LINE | changes))
    problem = only(check_data(path))
    assert (problem.kind, problem.field) == (kind, f"annotations[1].{field}"), problem
    assert problem.file == str(path) and problem.entry == "data_list[0] ('a.jpg')"
    assert what in problem.what and str(problem).endswith(f"Remedy: {REMEDIES[kind]}.")


def test_a_missing_field(make):
    line = {key: value for key, value in LINE.items() if key != "text"}
    problem = only(check_data(make(entry(line))))
    assert (problem.kind, problem.field) == ("malformed_field", "annotations[0].text")
    assert problem.what == "the field is missing; it must be a string, what the line says"


@pytest.mark.parametrize("changes, field", [
    ({"caption": 3}, "caption"), ({"wm_score": 2}, "wm_score"), ({"annotations": {}}, "annotations"),
    ({"annotations": [7]}, "annotations[0]"),
])
def test_problems_of_an_entry(make, changes, field):
    problem = only(check_data(make(entry() | changes)))
    assert (problem.kind, problem.field) == ("malformed_field", field)


@pytest.mark.parametrize("row, where", [(7, "data_list[0]"), ({"img_name": 7}, "data_list[0]"), ({}, "data_list[0]"),
                                        ({"img_name": ""}, "data_list[0] ('')")])
def test_entries_without_a_name(make, row, where):
    problem = only(check_data(make(row)))
    assert (problem.kind, problem.entry) == ("malformed_field", where)


def test_a_missing_picture(make, tmp_path):
    problem = only(check_data(make(entry(LINE, img_name="b.jpg"))))
    assert (problem.kind, problem.field) == ("missing_image", "img_name")
    assert problem.what == f"there is no picture {tmp_path / 'images' / 'b.jpg'}"


def test_corrupt_pictures(make, tmp_path):
    whole = (tmp_path / "images" / "a.jpg").read_bytes()
    (tmp_path / "images" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "text.jpg").write_text("no picture")
    report = check_data(make(entry(LINE, img_name="cut.jpg"), entry(LINE, img_name="text.jpg")))
    assert [p.kind for p in report.problems] == ["corrupt_image"] * 2
    assert report.problems[0].file == str(tmp_path / "images" / "cut.jpg") and "truncated" in report.problems[0].what
    assert "not a picture of a known format" in report.problems[1].what
    assert check_data(report.path, images="open").kinds == {"corrupt_image": 1}
    assert check_data(report.path, images="none").ok


def test_duplicate_names(make):
    problem = only(check_data(make(entry(LINE), entry(img_name="./a.jpg"), entry())))
    assert (problem.kind, problem.entry) == ("duplicate_name", "data_list[2] ('a.jpg')")
    assert "is that of data_list[0] as well" in problem.what


def test_truncated_json(make):
    path = make(entry(LINE), entry(LINE, img_name="gone.jpg"))
    path.write_text(path.read_text("utf-8")[:-60], "utf-8")
    report = check_data(path)
    problem = only(report)
    assert problem.kind == "truncated_json" and "line 1: the file ends too soon" in problem.what
    assert "data_list[1] is not complete" in problem.what and "(1 complete entries were read before)" in problem.what
    assert report.images == 1 and str(path) in str(problem) and "download it again" in problem.remedy


@pytest.mark.parametrize("content, what", [
    ("[]", "must be an object"), ('{"data_list": []}', "data_root is missing"), ("\ufeff{}", "data_root is missing"),
    ('{"data_root": ".", "data_list": [{"img_name": a.jpg, "caption": "enough text follows here"}]}', "malformed JSON"),
])
def test_malformed_json(tmp_path, content, what):
    (tmp_path / "annotations.json").write_text(content, "utf-8")
    problem = only(check_data(tmp_path))
    assert problem.kind == "malformed_json" and what in problem.what


def test_lines_that_cannot_be_read_may_say_anything(make):
    assert check_data(make(entry(LINE | {"valid": False, "text": "###" * 20}))).ok


def test_further_fonts_count(make, tmp_path):
    path = make(entry(LINE | {"text": "Tea"}))
    assert check_data(path, fonts=(str(font_path("OpenSans")),)).ok
    with pytest.raises(FileNotFoundError, match="there is no font"):
        check_data(path, fonts=("gone.ttf",))


def test_kinds_can_be_ignored_and_lists_are_short(make):
    path = make(entry(*[LINE | {"text": "A text that is too long"}] * 9, LINE | {"color": 1}))
    report = check_data(path, limit=4)
    assert report.kinds == {"text_too_long": 9, "wrong_color": 1} and len(report.problems) == 5
    text = report.summary(show=2)
    assert "text_too_long: 9" in text and "... and 7 more" in text and text.endswith("10 problems found.")
    assert check_data(path, ignore=("text_too_long", "wrong_color")).ok
    assert json.loads(json.dumps(report.to_dict()))["problems"][0]["remedy"]


def test_a_share_is_checked(make):
    path = make(*[entry(LINE, img_name=f"{i}.jpg") for i in range(200)])
    report = check_data(path, percent=0.25, seed=1, limit=1000)
    assert report.images == 200 and 30 < report.kinds["missing_image"] < 70
    assert report.counts["pictures only counted"] == 200 - report.kinds["missing_image"]
    again = check_data(path, percent=0.25, seed=1, limit=1000)
    assert again.problems == report.problems


@pytest.mark.parametrize("options, message", [
    ({"images": "some"}, "images is one of decode, open, none"), ({"percent": 0}, "percent is a share"),
    ({"ignore": ("typos",)}, "no such kind of problem: typos; the kinds are"),
])
def test_wrong_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        check_data(make(), **options)


def test_no_annotation_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="anytext data convert"):
        check_data(tmp_path)


def test_broken_variants_of_the_sample_set(tmp_path):
    """One fault of each sort put into a copy of the sample set: all are found, and nothing else."""
    shutil.copytree(data_folder() / "images", tmp_path / "images")
    rows = json.loads((data_folder() / "annotations.json").read_text("utf-8"))["data_list"]
    faults = {"text": "ᚠᚢᚦ", "language": "latin", "color": [1, 2], "polygon": [[600, 9], [700, 9], [700, 99]]}
    for row, (name, value) in zip(rows, faults.items(), strict=False):
        next(line for line in row["annotations"] if line["valid"])[name] = value
    rows[5]["img_name"] = rows[4]["img_name"]
    (tmp_path / "images" / rows[6]["img_name"]).unlink()
    (tmp_path / "images" / rows[7]["img_name"]).write_bytes(b"")
    (tmp_path / "annotations.json").write_text(json.dumps({"data_root": "images", "data_list": rows}), "utf-8")
    report = check_data(tmp_path)
    kinds = dict.fromkeys(("no_glyph", "unknown_language", "wrong_color", "polygon_outside", "duplicate_name",
                           "missing_image", "corrupt_image"), 1)
    polygons = report.kinds.pop("polygon_outside")
    kinds.pop("polygon_outside")
    assert report.kinds == kinds and 1 <= polygons <= 1 + len(rows[5]["annotations"]), report.summary()


def test_contact_sheet(tmp_path):
    images = read_anyword(data_folder() / "annotations.json")[:5]
    sheet = contact_sheet(images, columns=3, path=tmp_path / "sheet.png")
    assert sheet.width == 3 * TILE + 4 * 14 and sheet.height > 2 * TILE
    with Image.open(tmp_path / "sheet.png") as stored:
        assert stored.size == sheet.size
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    first = np.asarray(sheet)[14 : 14 + TILE, 14 : 14 + TILE].astype(int)
    with Image.open(images[0].path) as picture:
        plain = np.asarray(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)).astype(int)
    changed = (np.abs(first - plain).max(-1) > 60).mean()
    assert 0.005 < changed < 0.25  # outlines, not areas


def test_contact_sheet_of_what_cannot_be_drawn(make, tmp_path):
    path = make(entry(LINE | {"text": "पानी ᚠ"}, LINE | {"text": "", "valid": False}), entry(img_name="b.jpg"),
                {"img_name": 7}, entry(*[LINE | {"text": "Mountain " * 9}] * 12, img_name="./a.jpg"))
    images = readable_entries(path, 10)
    assert [image.name for image in images] == ["a.jpg", "b.jpg", "./a.jpg"]
    assert contact_sheet(images).size[0] == 3 * TILE + 4 * 14
    with pytest.raises(ValueError, match="name the sheet something.png"):
        contact_sheet(images, path=tmp_path / "sheet.exe")
    with pytest.raises(ValueError, match="needs a picture"):
        contact_sheet([])


def test_samples_for_the_sheet_are_drawn_by_seed(make):
    path = make(*[entry(img_name=f"{i}.jpg") for i in range(100)])
    drawn = [[image.name for image in readable_entries(path, 8, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 8
