"""`anytext evaluate` from outside: odd places, full disks, two at once, texts that are HTML, two forms of one text."""

from __future__ import annotations

import errno
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.files import LOCK, folder_lock
from tests.unit.evaluation_toys import GreyReader, make_folder

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def reads(monkeypatch):
    """Make `anytext evaluate ocr` read given texts."""
    from anytext_lib.evaluation import ocr

    return lambda *texts: monkeypatch.setattr(ocr, "open_reader", lambda name, threads: GreyReader(list(texts)))


def evaluate(annotations, out, *more) -> int:
    return main(["evaluate", "ocr", str(annotations), "--output", str(out), "--recogniser", "toy", *map(str, more)])


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_path_with_spaces_and_umlauts(tmp_path, reads, capsys):
    reads("Hello", "world")
    home = tmp_path / "Bilder für Müller & Söhne"
    out = home / "Ergebnis größer"
    assert evaluate(make_folder(home, [["Hello"], ["world"]]), out) == 0, capsys.readouterr().err
    assert f"wrote {out}" in capsys.readouterr().out
    assert files(out) == ["lines.csv", "readings-toy-upright.jsonl", "result.json", "table.csv", "worst.html"]
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["protocols"]["strict"]["all"]["ned"] == 1


def test_two_programs_do_not_write_one_folder(tmp_path, reads, capsys):
    reads("Hello")
    annotations, out = make_folder(tmp_path, [["Hello"]]), tmp_path / "out"
    with folder_lock(out):
        assert evaluate(annotations, out) == 2
    said = capsys.readouterr().err
    assert f"out is being written by another program ({os.path.basename(sys.argv[0])}" in said
    assert f"process {os.getpid()}" in said and "choose another folder by --output" in said and said.count("\n") == 1
    assert files(out) == []
    assert evaluate(annotations, out) == 0 and LOCK not in files(out)


def test_a_killed_evaluation_leaves_the_folder_free(tmp_path, reads):
    annotations, out = make_folder(tmp_path, [["Hello"]]), tmp_path / "out"
    code = ("import os, sys; from anytext_lib.evaluation import ocr\n"
            "from anytext_lib.cli import main\nfrom tests.unit.evaluation_toys import GreyReader\n"
            "ocr.open_reader = lambda name, threads: GreyReader(['Hello'])\n"
            "ocr.write_result = lambda *given: os._exit(9)\n"
            f"main(['evaluate', 'ocr', {str(annotations)!r}, '--output', {str(out)!r}, '--recogniser', 'toy'])")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert LOCK in files(out) and "result.json" not in files(out)
    reads("Hello")
    assert evaluate(annotations, out) == 0 and "result.json" in files(out) and LOCK not in files(out)


def test_a_full_disk(tmp_path, reads, capsys, monkeypatch):
    reads("Hello")
    annotations, out = make_folder(tmp_path, [["Hello"]]), tmp_path / "out"
    sync = os.fsync
    done = []

    def full(file):
        done.append(file)
        if len(done) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    assert evaluate(annotations, out) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said and "free some room" in said and str(out) in said and said.count("\n") == 2, said
    assert files(out) == ["readings-toy-upright.jsonl"], "what was read is kept, and nothing is half-written"
    monkeypatch.setattr(os, "fsync", sync)
    assert evaluate(annotations, out) == 0 and "1 of 1 pictures read before" in capsys.readouterr().err


def test_places_that_cannot_be_written(tmp_path, reads, capsys, monkeypatch):
    reads("Hello")
    annotations = make_folder(tmp_path, [["Hello"]])
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert evaluate(annotations, out) == 2
        assert "is in the way" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"

    def refused(*given, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "out" / LOCK))

    monkeypatch.setattr(os, "open", refused)  # permissions do not stop the user root
    assert evaluate(annotations, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "must not be written (Permission denied): choose another folder by --output" in said


class Tags(HTMLParser):
    """Collects the elements of a page, and their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_texts_and_names_stay_texts_in_the_page(tmp_path, reads):
    nasty = f'"><img src=x onerror=alert(2)>{SCRIPT}\'&amp;'
    reads(nasty, "ok")
    annotations = make_folder(tmp_path, [["wanted"], [nasty[:30]]], languages=("<b>Latin</b>", "Latin"))
    content = json.loads(annotations.read_text(encoding="utf-8"))
    name = '<i onclick="x">.png'  # a slash would make it a folder
    for row, picture in zip(content["data_list"], (name, "item_01.png"), strict=True):
        row["img_name"] = picture
    (tmp_path / "pictures" / "item_00.png").rename(tmp_path / "pictures" / name)
    (tmp_path / "pictures").rename(tmp_path / "<u>pictures")
    content["data_root"] = "<u>pictures"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    out = tmp_path / "out"
    assert evaluate(annotations, out, "--sampler", SCRIPT, "--checkpoint", f"sha256:{SCRIPT}") == 0
    page = (out / "worst.html").read_text(encoding="utf-8")
    tags = Tags(page).found
    assert not {"script", "i", "u", "b"} & {tag for tag, _ in tags} - {"b"}
    assert [tag for tag, _ in tags].count("b") == 1, "the name of the protocol, and no language"
    assert not any(key.startswith("on") for _, attributes in tags for key in attributes)
    assert all(attributes["src"].startswith("data:image/png") for tag, attributes in tags if tag == "img")
    shown = html.unescape(re.sub("<[^>]*>", "", page.partition("<body>")[2]))
    for text in (nasty, name, SCRIPT, "<u>pictures"):
        assert text in shown


def test_composed_and_decomposed_letters_are_read_alike(tmp_path, reads):
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    for wanted, read in ((composed, decomposed), (decomposed, composed)):
        reads(read)
        annotations = make_folder(tmp_path / read, [[wanted]])
        for protocol in ("anytext", "anytext-english", "strict", "udifftext"):
            assert evaluate(annotations, tmp_path / "out", "--restart", "--protocol", protocol) == 0
            result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
            assert result["protocols"][protocol]["all"]["sentence_accuracy"] == 1, protocol
            assert result["protocols"][protocol]["all"]["ned"] == pytest.approx(1)


@pytest.mark.parametrize("arguments, told", [
    (["ocr", "{ann}", "--protocol", "mine"], "there is no protocol 'mine'"),
    (["ocr", "{ann}", "--crop", "round"], "a crop of"),
    (["ocr", "{ann}", "--recogniser", "me"], "there is no recogniser 'me'"),
    (["ocr", "{ann}", "{out}"], "there is no folder"),
    (["ocr", "{ann}", "--batch", "0"], "at least one picture"),
    (["ocr", "{ann}", "--per-item", "7"], "pictures of"),
    (["ocr", "{ann}", "--checkpoint", "nowhere"], "there is no file or folder with files nowhere"),
    (["ocr", "{bad}"], "bad.json"),
    (["fid", "{empty}", "{empty}"], "there is no picture"),
])
def test_wrong_requests_take_one_line(tmp_path, reads, capsys, arguments, told):
    if "--recogniser" not in arguments:
        reads("Hello")
    places = {"ann": make_folder(tmp_path, [["Hello"]]), "out": tmp_path / "no" / "out", "bad": tmp_path / "bad.json",
              "empty": tmp_path / "empty"}
    places["bad"].write_text("{")
    places["empty"].mkdir()
    assert main(["evaluate", *(argument.format(**places) for argument in arguments), "--output",
                 str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1 and "Traceback" not in said


def test_a_picture_that_is_none(tmp_path, reads, capsys):
    reads("Hello")
    annotations = make_folder(tmp_path, [["Hello"]])
    (tmp_path / "pictures" / "item_00.png").write_bytes(b"no picture")
    assert evaluate(annotations, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "item_00.png cannot be read as a picture: it is not a picture" in said and said.count("\n") == 1


def test_a_picture_turned_by_exif_is_read_upright(tmp_path, reads):
    """The polygons are of the upright picture; unturned, the lines would lie elsewhere."""
    reads("Hello", "world")
    annotations = make_folder(tmp_path, [["Hello", "world"]], suffix=".jpg")
    path = tmp_path / "pictures" / "item_00.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.save(path, exif=exif, quality=95)
    assert evaluate(annotations, tmp_path / "out") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["protocols"]["strict"]["all"]["sentence_accuracy"] == 1
