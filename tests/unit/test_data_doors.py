"""Data through the doors that a user takes: command line, real files, to a step of training."""

import json
import re
import resource
import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from anytext_lib.cli import main
from anytext_lib.data.fonts import font_path
from anytext_lib.data.index import AnyWordIndex
from anytext_lib.data.pictures import read_picture
from anytext_lib.files import data_folder
from anytext_lib.training.cli import find_config
from anytext_lib.training.module import AnyText2Training

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
LINE = {"polygon": [[5, 4], [60, 4], [60, 26], [5, 26]], "text": "Tea", "language": "Latin"}


def subset(folder, count=2, name="annotations.json", **changes):
    """A data set of ``count`` pictures of its own in ``folder``, and its JSON."""
    (folder / "im").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (64, 32), (200, 210, 190 + i)).save(folder / "im" / f"{i}.png")
    rows = [{"img_name": f"{i}.png", "caption": "A cup.", "annotations": [LINE | changes]} for i in range(count)]
    path = folder / name
    path.write_text(json.dumps({"data_root": "im", "data_list": rows}), "utf-8")
    return path


@pytest.fixture
def batches(monkeypatch):
    """What training steps were given."""
    seen, step = [], AnyText2Training.training_step

    def spy(self, batch, index):
        seen.append(batch)
        return step(self, batch, index)

    monkeypatch.setattr(AnyText2Training, "training_step", spy)
    return seen


def fit(runs, train, *more):
    return main(["fit", "--config", "tiny.yaml", "--runs", str(runs), "--train", train, "--val", "null", "--max_steps",
                 "1", "--batch_size", "2", "--save_steps", "0", "--trainer.logger", "false", *more])


def words(error):
    """One line on standard error, without the marks of a traceback."""
    assert "Traceback" not in error
    return " ".join(error.split())


def test_an_index_trains_from_any_folder(tmp_path, monkeypatch, batches):
    path = subset(tmp_path / "set ü", 2)
    assert main(["data", "check", str(path)]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["data", "index", "set ü/annotations.json", "--cache", "in dices"]) == 0
    index, = (tmp_path / "in dices").glob("*.arrow")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fit(tmp_path / "runs ö", str(index)) == 0
    batch, = batches
    assert sorted(batch.names) == ["0.png", "1.png"] and batch.lines.texts == ["Tea", "Tea"] and not batch.skipped


def test_a_folder_that_was_moved_with_its_index(tmp_path, batches):
    assert main(["data", "index", str(subset(tmp_path / "old"))]) == 0
    shutil.move(tmp_path / "old", tmp_path / "new")
    index = AnyWordIndex.load(tmp_path / "new" / ".annotations.json.arrow")
    assert index[0].path.is_file() and index.root == tmp_path / "new" / "im"


@pytest.mark.parametrize("form", ["[{a}/annotations.json, {b}/annotations.json]", "[{a}, {b}]", "{both}"])
def test_several_subsets_train(tmp_path, batches, form):
    a, b = subset(tmp_path / "a", 2), subset(tmp_path / "b", 2, text="Milk")
    if form == "{both}":
        for path in (a, b):
            assert main(["data", "index", str(path), "--cache", str(tmp_path / "both")]) == 0
    train = form.format(a=a.parent, b=b.parent, both=tmp_path / "both")
    assert fit(tmp_path / "runs", train, "--batch_size", "4") == 0
    assert sorted(batches[0].lines.texts) == ["Milk", "Milk", "Tea", "Tea"]
    assert {str(p) for p in tmp_path.rglob("*.arrow")} and not list(tmp_path.rglob("*.part"))


def test_the_form_of_sd15_is_one_that_exists():
    text = find_config("sd15.yaml").read_text("utf-8")
    train = re.search(r"^  train: (\S+)", text, re.M)[1]
    assert train.endswith(".json") and f"anytext data index {train}" in text
    assert f"--train '[{train}, " in text


def test_what_cannot_be_trained_on_is_told_in_a_line(tmp_path, capsys):
    path = subset(tmp_path / "a")
    assert main(["data", "index", str(path), "--cache", str(tmp_path)]) == 0
    index, = tmp_path.glob("*.arrow")
    path.write_text(path.read_text("utf-8").replace("cup", "mug"), "utf-8")
    assert fit(tmp_path / "runs", str(index)) == 2
    assert re.search("is out of date.*build it again with `anytext data index .*a/annotations.json`",
                     words(capsys.readouterr().err))
    (tmp_path / "a" / "im").rename(tmp_path / "a" / "gone")
    assert fit(tmp_path / "runs", str(path)) == 2
    assert "there is no folder" in (said := words(capsys.readouterr().err)) and "correct data_root" in said
    assert fit(tmp_path / "runs", str(tmp_path / "runs")) == 2
    assert "neither an index (.arrow) nor an annotations.json" in words(capsys.readouterr().err)


def older(path):
    """An index as the version before wrote it: without the place of its JSON."""
    with pa.ipc.open_file(path) as reader:
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches - 1)]
        last, note = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        stamp = json.loads(note[b"anyword"])
    stamp["version"] = 1
    stamp.pop("source")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, last.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.write_batch(last, custom_metadata=pa.KeyValueMetadata({b"anyword": json.dumps(stamp)}))


@pytest.mark.parametrize(("damage", "message"), [
    (older, "written by another version"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged or no index"),
])
def test_an_index_that_cannot_be_read_has_a_remedy(tmp_path, capsys, damage, message):
    path = subset(tmp_path / "a")
    assert main(["data", "index", str(path)]) == 0
    index = path.with_name(".annotations.json.arrow")
    damage(index)
    assert fit(tmp_path / "runs", str(index)) == 2
    said = words(capsys.readouterr().err)
    assert message in said and "build it again with `anytext data index`" in said
    assert len(AnyWordIndex.open(path, report=lambda message: None)) == 2  # which builds it anew


def glyphs_with(tmp_path, batches, *more, **changes):
    """The first line alone, as the first step of a run of its own is given it."""
    batches.clear()
    run = tmp_path / "runs" / str(len(list(tmp_path.glob("runs/*"))))
    assert fit(run, str(subset(tmp_path / "fonts", **changes)), *more) == 0
    return batches[0].glyph_lines[0, 0].numpy()


def test_fonts_of_fit_change_the_glyphs(tmp_path, batches):
    own = tmp_path / "my fönt.ttf"
    shutil.copy(font_path("Caveat"), own)
    first = glyphs_with(tmp_path, batches)
    caveat = glyphs_with(tmp_path, batches, "--font", "Caveat")
    assert (first != caveat).mean() > 0.02
    np.testing.assert_array_equal(glyphs_with(tmp_path, batches, "--data.fonts", f"{{Latin: '{own}'}}"), caveat)


def test_a_font_without_the_characters_is_told(tmp_path, batches):
    with pytest.warns(UserWarning, match=r"font: Caveat cannot write '绿茶', it lacks '绿' \(U\+7EFF\), '茶'"):
        glyphs_with(tmp_path, batches, "--data.font", "Caveat", text="绿茶", language="Chinese")


@pytest.mark.parametrize(("options", "message"), [
    (["--data.font", "Cavaet"], "neither a font of the course (OpenSans"),
    (["--data.fonts", '{"Latin": "/gone/x.ttf"}'], "'/gone/x.ttf' is neither a font of the course"),
    (["--data.fonts", '{"Klingon": "Caveat"}'], "there is no language 'Klingon'; the languages are Latin, Chinese"),
    (["--data.font", str(data_folder() / "annotations.json")], "is not a font file that can be read"),
    (["--max_lines", "0"], "max_lines is a number of at least 1"),
    (["--percent", "2"], "percent is a share"), (["--batch_size", "99"], "do not fill one batch of 99"),
])
def test_wrong_options_of_the_data_are_told_in_a_line(tmp_path, capsys, options, message):
    assert fit(tmp_path / "runs", str(subset(tmp_path / "a")), *options) == 2
    assert message in words(capsys.readouterr().err)


def test_a_picture_that_a_phone_turned(tmp_path, batches):
    """Polygons are in upright pixels: check, sheet and training see the sign where the polygon is."""
    path = subset(tmp_path / "a", 2)
    upright = Image.new("RGB", (64, 32), "white")
    ImageDraw.Draw(upright).rectangle((5, 4, 60, 26), fill=(200, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a" / "im" / f"{i}.png", exif=exif)
    assert main(["data", "check", str(path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert fit(tmp_path / "runs", str(path)) == 0
    image = batches[0].images[0].permute(1, 2, 0).numpy()
    red = image[..., 1] < 0
    assert red[5:26, 6:60].all() and not red[:3].any() and not red[28:].any()
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    rows = np.flatnonzero(((sheet[..., 0] - sheet[..., 1]) > 150).sum(axis=1) > 200)
    assert 100 < np.ptp(rows) < 170  # a lying sign: 22 of 32 pixels, six times as large


def test_texts_of_one_form_train_alike(tmp_path, batches):
    path = subset(tmp_path / "a", text="Caf\u00e9")
    rows = json.loads(path.read_text("utf-8"))
    rows["data_list"][1]["annotations"][0]["text"] = "Cafe\u0301\u200b"
    path.write_text(json.dumps(rows), "utf-8")
    assert main(["data", "check", str(path)]) == 0 and fit(tmp_path / "runs", str(path)) == 0
    batch, = batches
    np.testing.assert_array_equal(batch.glyph_lines[0], batch.glyph_lines[1])
    assert batch.lines.texts == ["Caf\u00e9"] * 2 and batch.glyph_lines[0].any()


@pytest.fixture
def full_disk():
    """Every file is cut at 100 bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def during(function):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            return function()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return during


@pytest.mark.parametrize("arguments", [
    ["index", "{json}", "--rebuild"], ["check", "{json}", "--json", "{folder}/report.json"],
    ["check", "{json}", "--sheet", "{folder}/sheet.png"], ["convert", "{folder}", "--force"],
])
@pytest.mark.parametrize("trouble", ["full", "no folder"])
def test_what_cannot_be_written_leaves_nothing(tmp_path, capsys, full_disk, arguments, trouble):
    folder = tmp_path / "set ü"
    path = subset(folder)
    (folder / "lines.csv").write_text("image,x1,y1,x2,y2,x3,y3,x4,y4,text\nim/0.png,5,4,60,4,60,26,5,26,Tea\n", "utf-8")
    filled = [part.format(json=path, folder=folder) for part in arguments]
    if trouble == "full":
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        status = full_disk(lambda: main(["data", *filled]))
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    else:
        (tmp_path / "file").touch()
        where = {"index": ["--cache", str(tmp_path / "file")], "convert": ["--output", str(tmp_path / "file" / "o")]}
        filled[-1] = filled[-1].replace(str(folder), str(tmp_path / "file")) if arguments[0] == "check" else filled[-1]
        status = main(["data", *filled, *where.get(arguments[0], [])])
        assert (tmp_path / "file").read_bytes() == b""
    said = words(capsys.readouterr().err)
    assert status == 2 and ("cannot write" in said or "can be written" in said), said
    assert ("File too large; free some room" in said) == (trouble == "full")


def test_a_script_tag_stays_text(tmp_path, capsys):
    """The sheet is a picture; the report and what is printed are JSON and plain text."""
    path = subset(tmp_path / "a", text="<script>1</script>")
    written = ["--sheet", str(tmp_path / "s.png"), "--json", str(tmp_path / "r.json")]
    assert main(["data", "check", str(path), *written]) == 0
    assert read_picture(tmp_path / "s.png").shape[2] == 3 and json.loads((tmp_path / "r.json").read_text("utf-8"))
    path.write_text(path.read_text("utf-8").replace("0.png", "\\u001b[31m.png"), "utf-8")
    assert main(["data", "check", str(path)]) == 1
    assert "\x1b" not in "".join(capsys.readouterr())
