"""Plain folders to the AnyWord form: CSV, JSONL, ICDAR 2015; errors with file and line; nothing half written."""

import json

import numpy as np
import pytest
from PIL import Image

from anytext_lib.data import read_anyword
from anytext_lib.data.texts import detect_language
from anytext_lib.datatools.check import check_data
from anytext_lib.datatools.convert_folder import ConversionError, convert_folder
from anytext_lib.errors import AnyTextError

HEADER = "image,x1,y1,x2,y2,x3,y3,x4,y4,text"
QUAD = [10, 10, 90, 12, 90, 40, 10, 38]
NUMBERS = ",".join(map(str, QUAD))


@pytest.fixture
def folder(tmp_path):
    """A folder of three pictures, one of them in a subfolder."""
    (tmp_path / "set" / "more").mkdir(parents=True)
    for name in ("img_2.jpg", "img_10.jpg", "more/c.png"):
        Image.new("RGB", (120, 60), (200, 210, 190)).save(tmp_path / "set" / name)
    return tmp_path / "set"


def put(folder, name, content, encoding="utf-8"):
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def texts(output):
    return {image.name: [(a.text, a.language, a.valid) for a in image.annotations] for image in read_anyword(output)}


def test_csv(folder):
    put(folder, "lines.csv", f'{HEADER},language,valid,caption\nimg_2.jpg,{NUMBERS},"Tea, ""hot""",,,A tea shop.\n'
        f"more/c.png,{NUMBERS},天津,,,\nimg_2.jpg,{NUMBERS},###,Latin,,\nimg_2.jpg,{NUMBERS},Blur,Latin,false,\n")
    made = convert_folder(folder)
    assert (made.form, made.images, made.lines, made.invalid) == ("csv", 2, 4, 2)
    assert made.output == folder / "annotations.json" and [p.name for p in made.unannotated] == ["img_10.jpg"]
    assert texts(made.output) == {
        "img_2.jpg": [('Tea, "hot"', "Latin", True), ("###", "Latin", False), ("Blur", "Latin", False)],
        "more/c.png": [("天津", "Chinese", True)]}
    first = read_anyword(made.output)[0]
    assert first.caption == "A tea shop." and first.path == folder / "img_2.jpg"
    np.testing.assert_array_equal(first.annotations[0].polygon, np.reshape(QUAD, (4, 2)))
    assert check_data(made.output).ok


@pytest.mark.parametrize("mark, separator, ending", [("\ufeff", ";", "\r\n"), ("", "\t", "\n")])
def test_csv_of_spreadsheets(folder, mark, separator, ending):
    rows = [HEADER, f"img_2.jpg,{NUMBERS},Tea"]
    put(folder, "lines.csv", mark + ending.join(row.replace(",", separator) for row in rows) + ending)
    assert texts(convert_folder(folder).output) == {"img_2.jpg": [("Tea", "Latin", True)]}


def test_jsonl(folder, tmp_path):
    points = np.reshape(QUAD, (4, 2)).tolist()
    rows = [{"image": "img_2.jpg", "quad": QUAD, "text": "Tea", "color": [1, 2, 3]},
            {"image": "more/c.png", "caption": "A sign.", "lines": [
                {"polygon": [*points, [5, 20]], "text": "コーヒー"}, {"quad": points, "text": "x", "valid": False}]},
            {"image": "img_10.jpg", "lines": []}]
    put(folder, "lines.jsonl", "\ufeff" + "\n\n".join(json.dumps(row) for row in rows))
    made = convert_folder(folder, tmp_path / "out" / "set.json", language="auto")
    assert texts(made.output) == {"img_2.jpg": [("Tea", "Latin", True)], "img_10.jpg": [], "more/c.png": [
        ("コーヒー", "Japanese", True), ("x", "Latin", False)]}
    images = read_anyword(made.output)
    assert json.loads(made.output.read_text())["data_root"] == "../set" and images[0].path.is_file()
    assert images[0].annotations[0].color == (1, 2, 3) and len(images[1].annotations[0].polygon) == 5
    assert images[1].caption == "A sign." and made.unannotated == []


def test_icdar(folder):
    put(folder, "gt_img_10.txt", f"\ufeff{NUMBERS},Genaxis, Theatre\r\n{NUMBERS},###\r\n")
    put(folder, "gt_img_2.txt", f"{NUMBERS},[06]\n\n")
    (folder / "more" / "gt").mkdir()
    put(folder / "more" / "gt", "gt_c.txt", "")
    made = convert_folder(folder)
    assert (made.form, made.images, made.lines, made.invalid) == ("icdar", 3, 3, 1)
    assert texts(made.output) == {"img_2.jpg": [("[06]", "Latin", True)], "more/c.png": [], "img_10.jpg": [
        ("Genaxis, Theatre", "Latin", True), ("###", "Latin", False)]}
    assert [image.name for image in read_anyword(made.output)] == ["img_2.jpg", "img_10.jpg", "more/c.png"]


def test_icdar_annotations_elsewhere(folder, tmp_path):
    (tmp_path / "gt").mkdir()
    put(tmp_path / "gt", "gt_img_2.txt", f"{NUMBERS},Tea")
    made = convert_folder(folder, annotations=tmp_path / "gt", language="Latin")
    assert made.lines == 1 and made.output.parent == folder
    put(tmp_path / "gt", "gt_img_2.txt", f"{NUMBERS},Kaffee")
    assert convert_folder(folder, annotations=tmp_path / "gt" / "gt_img_2.txt", force=True).lines == 1
    assert texts(made.output)["img_2.jpg"][0][0] == "Kaffee"


@pytest.mark.parametrize("row, message", [
    (f"gone.jpg,{NUMBERS},Tea", "line 3: there is no picture 'gone.jpg' in .*; correct the name, or restore"),
    (f"../x.jpg,{NUMBERS},Tea", "line 3: the name of the picture .* leads out"),
    (f",{NUMBERS},Tea", "line 3: there is no name of a picture; give image"),
    (f"img_2.jpg,{NUMBERS.replace('12', 'twelve')},Tea", "line 3: y2 must be a number .pixels., got 'twelve'"),
    (f"img_2.jpg,{NUMBERS.replace('12', 'nan')},Tea", "line 3: y2 must be a number"),
    (f"img_2.jpg,{NUMBERS},Tea, hot", "line 3: 11 columns, the header has 10; put a text"),
    (f"img_2.jpg,{NUMBERS}", "line 3: 9 columns"),
    ("img_2.jpg,1,1,5,1,5,1,1,1,Tea", "line 3: the corners lie on one horizontal or vertical line"),
    (f'img_2.jpg,{NUMBERS},"Tea" hot', "not a table .*; a quotation mark in a text is written twice"),
])
def test_faults_of_a_csv(folder, row, message):
    path = put(folder, "lines.csv", f'{HEADER}\nimg_2.jpg,{NUMBERS},Fine\n{row}\n')
    with pytest.raises(ConversionError, match=message) as caught:
        convert_folder(folder)
    assert str(caught.value).startswith(str(path)) and not (folder / "annotations.json").exists()


def test_csv_without_a_header(folder):
    put(folder, "lines.csv", f"img_2.jpg,{NUMBERS},Tea\n")
    with pytest.raises(ConversionError, match="line 1: the header lacks image, x1, .*must name the columns image,x1"):
        convert_folder(folder)


@pytest.mark.parametrize("column, value, message", [
    ("valid", "maybe", "line 2: valid must be true or false, got 'maybe'"),
    ("language", "Klingon", "line 2: there is no language 'Klingon'; write one of Latin, Chinese"),
])
def test_faults_of_further_columns(folder, column, value, message):
    put(folder, "lines.csv", f"{HEADER},{column}\nimg_2.jpg,{NUMBERS},Tea,{value}\n")
    with pytest.raises(ConversionError, match=message):
        convert_folder(folder)


@pytest.mark.parametrize("row, message", [
    ('{"image": "img_2.jpg", ', "line 2: not JSON .*; write one object a line"), ("[1]", "line 2: must be an object"),
    ({"quad": QUAD, "text": "a"}, "there is no name of a picture"),
    ({"image": "img_2.jpg", "text": "a"}, "there is no quad"),
    ({"image": "img_2.jpg", "quad": QUAD[:6], "text": "a"}, "quad has 6 numbers; give eight"),
    ({"image": "img_2.jpg", "quad": [[1, 2], [3]], "text": "a"}, "at least three points"),
    ({"image": "img_2.jpg", "quad": "a", "text": "a"}, "quad must be a list"),
    ({"image": "img_2.jpg", "quad": QUAD}, "text and language must be strings"),
    ({"image": "img_2.jpg", "quad": QUAD, "text": "a", "color": [1, 2]}, "color must be"),
    ({"image": "img_2.jpg", "lines": [3]}, "lines must be a list of objects"),
    ({"image": "img_2.jpg", "lines": [], "caption": 3}, "caption must be a string"),
    ({"image": "img_2.jpg", "lines": [], "caption": "B"}, "has another caption than before"),
])
def test_faults_of_a_jsonl(folder, row, message):
    first = {"image": "img_2.jpg", "quad": QUAD, "text": "Tea", "caption": "A"}
    path = put(folder, "a.jsonl", f"{json.dumps(first)}\n{row if isinstance(row, str) else json.dumps(row)}\n")
    with pytest.raises(ConversionError, match=message) as caught:
        convert_folder(folder)
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_faults_of_icdar(folder):
    put(folder, "gt_img_2.txt", f"1,2,3,4,text\n{NUMBERS},Tea\n{NUMBERS[:-2]}x,Tea\n")
    put(folder, "gt_gone.txt", "")
    put(folder, "gt_img_10.txt", f"{NUMBERS},Caf\xe9", "latin-1")
    with pytest.raises(ConversionError) as caught:
        convert_folder(folder)
    problems = caught.value.problems
    assert [problem.split(": ")[0].rpartition("/")[2] for problem in problems] == [
        "gt_gone.txt", "gt_img_2.txt, line 1", "gt_img_2.txt, line 3", "gt_img_10.txt, line 1"]
    for problem, message in zip(problems, ("there is no picture called gone.jpg", "5 parts; a line is x1,y1",
                                           "y4 must be a number", "save the file as UTF-8"), strict=True):
        assert message in problem


def test_two_pictures_of_one_name(folder):
    Image.new("RGB", (9, 9)).save(folder / "more" / "img_2.png")
    put(folder, "gt_img_2.txt", "")
    with pytest.raises(ConversionError, match="2 pictures are called img_2"):
        convert_folder(folder)


def test_many_problems_are_counted(folder):
    put(folder, "lines.csv", HEADER + "\n" + f"gone.jpg,{NUMBERS},Tea\n" * 50)
    with pytest.raises(ConversionError, match=r"\.\.\. and 30 more") as caught:
        convert_folder(folder)
    assert len(caught.value.problems) == 50


def test_never_overwrites_unless_forced(folder):
    put(folder, "lines.csv", f"{HEADER}\nimg_2.jpg,{NUMBERS},Tea\n")
    put(folder, "annotations.json", "mine")
    with pytest.raises(AnyTextError, match="give another output, or replace it with force"):
        convert_folder(folder)
    assert (folder / "annotations.json").read_text() == "mine"
    put(folder, "lines.csv", f"{HEADER}\ngone.jpg,{NUMBERS},Tea\n")
    with pytest.raises(ConversionError):
        convert_folder(folder, force=True)
    assert (folder / "annotations.json").read_text() == "mine"
    put(folder, "lines.csv", f"{HEADER}\nimg_2.jpg,{NUMBERS},Tea\n")
    convert_folder(folder, force=True)
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "annotations.json", "img_10.jpg", "img_2.jpg", "lines.csv"]


def test_wrong_requests(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no annotations in"):
        convert_folder(folder)
    with pytest.raises(FileNotFoundError, match="no folder"):
        convert_folder(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="there are no annotations"):
        convert_folder(folder, annotations=tmp_path / "gone.csv")
    with pytest.raises(ValueError, match="form is one of auto, csv"):
        convert_folder(folder, form="xml")
    with pytest.raises(ValueError, match="language is auto or one of"):
        convert_folder(folder, language="English")
    put(folder, "a.csv", f"{HEADER}\nimg_2.jpg,{NUMBERS},Tea\n")
    put(folder, "gt_img_2.txt", "")
    with pytest.raises(ValueError, match="several annotation files .*a.csv, gt_img_2.txt.*choose one"):
        convert_folder(folder)
    assert convert_folder(folder, form="csv").lines == 1
    with pytest.raises(ValueError, match="does not say its form"):
        convert_folder(folder, annotations=folder / "img_2.jpg", force=True)


@pytest.mark.parametrize("text, language", [
    ("Café 12", "Latin"), ("天津", "Chinese"), ("東京タワー", "Japanese"), ("서울", "Korean"), ("قهوة", "Arabic"),
    ("ঢাকা", "Bangla"), ("चाय", "Hindi"), ("ชา", "Thai"), ("", "Latin"),
])
def test_languages_by_script(text, language):
    assert detect_language(text) == language
