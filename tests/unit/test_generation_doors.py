"""`anytext generate` and `anytext edit` from outside: what is warned about, odd pictures and masks, places, disks."""

from __future__ import annotations

import errno
import functools
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from anytext_lib.generation.request import Capabilities, CapabilityError
from anytext_lib.models import AnyText2Model
from anytext_lib.upstream.convert import ADDED_PROMPT, NEGATIVE_PROMPT
from tests.unit.generation_model import lively_model

LOAD = AnyText2Model.from_pretrained
LINE = "{text: Milk, box: [10, 6, 70, 34]}"
TOY = Capabilities(languages=["Latin"], prompts=["English"], max_chars=7, max_lines=1, sizes=[[96, 48]],
                   colors="brightness", fonts=False, editing=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model whose card says nothing."""
    folder = tmp_path_factory.mktemp("plain")
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 1, 1.0)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def toy(plain, tmp_path_factory):
    """The same model with a card like that of the mini model."""
    folder = tmp_path_factory.mktemp("toy") / "Modell für Übungen"
    folder.mkdir()
    for path in plain.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "generation.json").unlink()
    replace(Defaults.read(plain), capabilities=TOY).write(folder)
    return folder


@functools.cache
def load_once(folder, *rest):
    return LOAD(folder, *rest)


@pytest.fixture(autouse=True)
def load_models_once(monkeypatch):
    """Two thirds of a run would go into reading the same weights again."""
    monkeypatch.setattr(AnyText2Model, "from_pretrained", load_once)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(scene()).save(path)
    return path


def scene() -> np.ndarray:
    """A photograph (48, 96, 3) whose left upper corner is red."""
    pixels = np.random.default_rng(0).integers(100, 156, (48, 96, 3)).astype(np.uint8)
    pixels[:6, :6] = (250, 5, 5)
    return pixels


def run(command, model, out, *arguments) -> int:
    return main([command, "--model", str(model), "--out", str(out), "--device", "cpu", "--seed", "1",
                 *map(str, arguments)])


def warned(said: str, command: str = "generate") -> list[str]:
    """The warnings in what was said; nothing else was."""
    start = f"anytext {command}: warning: "
    assert all(line.startswith(start) for line in said.splitlines()), said
    return [line.removeprefix(start) for line in said.splitlines()]


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


# what is warned about


@pytest.mark.parametrize("prompt", ["no words", "A poster that says Tea", 'one quote " only', "a sign 'Tea'", '""'])
def test_a_picture_without_words(plain, tmp_path, capsys, prompt):
    assert run("generate", plain, tmp_path, "--prompt", prompt) == 0
    (told,) = warned(capsys.readouterr().err)
    assert told.startswith("no text will be written") and "a shell takes double quotes away" in told


@pytest.mark.parametrize("arguments", [
    ["--prompt", 'a sign "Tea"'], ["--line", "Tea"], ["--prompt", "\u201cTea\u201d"],
    ["--prompt", 'a sign "Extraordinary"', "--line", "{text: \u5496\u5561, color: red, font: NotoSansSC}",
     "--width", "96", "--height", "96"]])
def test_a_card_that_says_nothing_gives_no_warning(plain, tmp_path, capsys, arguments):
    assert run("generate", plain, tmp_path, *arguments) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments, told", [
    (["--line", "Tea"], []), (["--line", "{text: Tea, color: gray}"], []),
    (["--line", "{text: Tea, color: red}"], ["the colour of line 1 ('Tea'): this model was not trained for it: it "
                                             "follows how light a colour is, and its hue hardly"]),
    (["--line", "\u5496\u5561"], ["line 1 ('\u5496\u5561'): this model was trained on Latin only"]),
    (["--line", "{text: \u041f\u0440\u0438, font: DEJAVU}"], ["line 1 ('\u041f\u0440\u0438'): this model was trained "
                                                              "on Latin only", "PP-OCRv3) cannot read '\u0440'",
                                                              "the font of line 1"]),
    (["--line", "Extraordinary"], ["lines of at most 7 characters"]),
    (["--line", "{text: Tea, font: Caveat}"], ["the font of line 1 ('Tea'): this model was not trained to imitate"]),
    (["--line", "Tea", "--line", "Milk"], ["2 lines: this model was trained on pictures with at most 1"]),
    (["--line", "Tea", "--width", "96", "--height", "96"], ["96 x 96 pixels: this model was trained on 96 x 48"]),
    (["--prompt", '\u9ed1\u677f "Tea"'], ["the prompt: this model was trained on prompts in English only"]),
    (["--prompt", '"Tea" and "Milkmaid"'], ["line 2 ('Milkmaid'): this model was trained on lines of at most 7",
                                            "2 lines: this model was trained on pictures with at most 1"]),
])
def test_what_the_card_tells(toy, tmp_path, capsys, arguments, told):
    from pathlib import Path

    import matplotlib

    font = str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")
    assert run("generate", toy, tmp_path, *(a.replace("DEJAVU", font) for a in arguments)) == 0
    found = warned(capsys.readouterr().err)
    assert len(found) == len(told) and all(part in line for line, part in zip(found, told, strict=True)), found
    assert not any("site-packages" in line or ".py" in line for line in found)


def test_jobs_are_named_and_nothing_is_said_twice(toy, tmp_path, capsys):
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: a, lines: [Welcome home]}, {name: b, lines: [Tea], images: 2}]")
    assert run("generate", toy, tmp_path / "out", "--jobs", tmp_path / "jobs.yaml") == 0
    (told,) = warned(capsys.readouterr().err)
    assert told.startswith("a: line 1 ('Welcome home'): this model was trained on lines of at most 7 characters")


@pytest.mark.parametrize("options, told", [
    ([], "it paints the whole picture anew; --blend keeps the surroundings at every step, --composite puts the pixels "
         "outside of the regions back exactly"),
    (["--composite"], "what is inside the regions will hardly fit; --blend keeps"),
    (["--blend"], "may not fit their surroundings; --composite puts"),
    (["--blend", "--composite"], "letters and ground may not fit their surroundings"),
])
def test_a_model_that_cannot_edit_says_so(toy, plain, photo, tmp_path, capsys, options, told):
    assert run("edit", toy, tmp_path, photo, "--line", LINE, *options) == 0
    (found,) = warned(capsys.readouterr().err, "edit")
    assert found.startswith("this model was not trained to edit: ") and told in found
    assert run("edit", plain, tmp_path, photo, "--line", LINE, "--force") == 0
    assert capsys.readouterr().err == ""


def test_a_model_without_styles_says_so_in_one_line(tmp_path, capsys):
    folder = tmp_path / "model"
    model = lively_model(text_embedding={"style": False})
    AnyText2Pipeline(model, defaults=Defaults(96, 48, 1, 1.0, capabilities=TOY)).save_pretrained(folder)
    assert run("generate", folder, tmp_path, "--line", "{text: Tea, font: Caveat}") == 0
    (told,) = warned(capsys.readouterr().err)
    assert told.startswith("this model was built without styles: the fonts and style images of ['Tea']")


def test_capabilities_are_checked(tmp_path, plain, capsys):
    with pytest.raises(CapabilityError, match="colors cannot be 'hue'"):
        Capabilities(colors="hue")
    for wrong in ({"max_chars": 0}, {"editing": "no"}, {"sizes": [[1]]}, {"languages": "Latin"}, {"hues": 1}, 3):
        (tmp_path / "generation.json").write_text(json.dumps({"capabilities": wrong}))
        with pytest.raises(ValueError, match="generation.json: .*capabilities"):
            Defaults.read(tmp_path)
    kept = Defaults(capabilities=TOY)
    kept.write(tmp_path)
    assert Defaults.read(tmp_path) == kept and Defaults.read(plain).capabilities == Capabilities()


def test_the_shipped_models_tell_what_they_can():
    from anytext_lib.files import data_folder

    for name, colors in (("early", "none"), ("before", "none"), ("after", "brightness")):
        can = Defaults.read(data_folder() / "mini" / name).capabilities
        assert (can.colors, can.editing, can.max_chars) == (colors, False, 7), name


# a converted model


def test_a_converted_model_is_told_what_upstream_tells_it(plain, tmp_path, capsys):
    checkpoint, folder = tmp_path / "upstream.ckpt", tmp_path / "converted"
    assert main(["convert", str(plain), str(checkpoint)]) == 0
    tokenizer = ["--tokenizer", str(plain / "tokenizer")]
    assert main(["convert", str(checkpoint), str(folder), "--config", "tiny", *tokenizer]) == 0
    small = ["--width", "96", "--height", "48", "--ddim-steps", "1"]
    assert run("generate", folder, tmp_path / "a", "--prompt", 'a sign "Tea"', *small) == 0, capsys.readouterr().err
    (path,) = (tmp_path / "a").iterdir()
    told = read_record(path)["request"]
    assert (told["added_prompt"], told["negative_prompt"]) == (ADDED_PROMPT, NEGATIVE_PROMPT)
    assert told["font_hint"] == "hollow" and Defaults.read(plain).font_hint == "filled"
    plainly = ["--added-prompt", "", "--negative-prompt", ""]
    assert run("generate", folder, tmp_path / "b", "--prompt", 'a sign "Tea"', *small, *plainly) == 0
    assert not np.array_equal(pixels(path), pixels(tmp_path / "b" / path.name)), "the prompts reach the model"


def test_another_kind_of_model(tmp_path, capsys):
    from anytext_lib.files import data_folder

    assert run("generate", data_folder() / "udifftext_mini", tmp_path, "--line", "Tea") == 2
    assert "holds a UDiffText model, and this command takes AnyText2 models" in capsys.readouterr().err


# pictures to edit, and masks


def exif_turned(pixels: np.ndarray, path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees to the right
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100, subsampling=0)


KINDS = {
    "exif.jpg": lambda pixels, path: exif_turned(pixels, path),
    "16-bit.png": lambda pixels, path: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path),
    "cmyk.jpg": lambda pixels, path: Image.fromarray(pixels).convert("CMYK").save(path, quality=100),
    "palette.png": lambda pixels, path: Image.fromarray(pixels).convert("P").save(path),
    "grey.png": lambda pixels, path: Image.fromarray(pixels).convert("L").save(path),
    "alpha.png": lambda pixels, path: Image.fromarray(pixels).convert("RGBA").save(path),
    "pages.tif": lambda pixels, path: Image.fromarray(pixels).save(
        path, save_all=True, append_images=[Image.new("RGB", (5, 5))]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_many_kinds_are_edited_upright(plain, tmp_path, capsys, kind):
    from anytext_lib.data.pictures import read_picture

    path = tmp_path / f"Bild für Müller {kind}"
    KINDS[kind](scene(), path)
    assert run("edit", plain, tmp_path / "out", path, "--line", LINE, "--composite") == 0, capsys.readouterr().err
    (made,) = (tmp_path / "out").iterdir()
    after, before = pixels(made), read_picture(path)
    assert after.shape == (48, 96, 3) and made.name == f"{path.stem}_1.png"
    outside = np.ones((48, 96), bool)
    outside[5:42, 9:82] = False
    assert np.array_equal(after[outside], before[outside]) and not np.array_equal(after, before)
    if "grey" not in kind and "16" not in kind:
        assert after[2, 2, 0] > 150 and after[2, 2, 1] < 90, "the red corner is where it is seen"
    assert run("generate", plain, tmp_path / "again", "--from", made) == 0, capsys.readouterr().err
    assert np.array_equal(pixels(tmp_path / "again" / f"{made.stem}_again.png"), after)


@pytest.mark.parametrize("content, told", [
    (b"", "not a picture of a known format"), (b"nonsense", "not a picture of a known format")])
def test_pictures_that_are_none(plain, tmp_path, capsys, content, told):
    (tmp_path / "photo.png").write_bytes(content)
    assert run("edit", plain, tmp_path / "out", tmp_path / "photo.png", "--line", LINE) == 2
    said = capsys.readouterr().err
    assert "the picture to edit: cannot read" in said and told in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_picture_that_claims_to_be_huge(plain, tmp_path, capsys):
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    assert run("edit", plain, tmp_path / "out", tmp_path / "huge.png", "--line", LINE) == 2
    assert "it has 9000 x 9000 pixels, and at most 51 million are read" in capsys.readouterr().err


def test_a_mask_of_the_application_of_upstream(plain, photo, tmp_path, capsys):
    """Black paint on light paper, saved as JPEG."""
    mask = Image.new("RGB", (96, 48), (200, 200, 200))
    ImageDraw.Draw(mask).rounded_rectangle((10, 6, 80, 40), 6, fill=0)
    mask.save(tmp_path / "Maske für Müller.jpg", quality=60)
    arguments = ["--line", "Milk", "--mask", tmp_path / "Maske für Müller.jpg"]
    assert run("edit", plain, tmp_path / "out", photo, *arguments) == 0
    assert warned(capsys.readouterr().err, "edit") == ["the mask is dark on light: the dark areas are taken as painted"]
    (line,) = read_record(tmp_path / "out" / "photo_1.png")["request"]["lines"]
    low, high = np.min(line["region"], axis=0), np.max(line["region"], axis=0)
    assert np.abs(low - (10, 6)).max() <= 2 and np.abs(high - (80, 40)).max() <= 2


def test_the_photograph_itself_is_no_mask(plain, photo, tmp_path, capsys):
    assert run("edit", plain, tmp_path / "out", photo, "--line", "Milk", "--mask", photo) == 2
    said = capsys.readouterr().err
    assert "the mask looks like a photograph" in said and "paint the region white on black" in said


def test_two_forms_of_one_text_are_drawn_alike(plain, tmp_path, capsys):
    for name, text in (("nfc", "Caf\u00e9"), ("nfd", "Cafe\u0301"), ("zero width", "Ca\u200bf\u00e9")):
        assert run("generate", plain, tmp_path / name, "--prompt", f'a sign "{text}"') == 0, capsys.readouterr().err
    made = [pixels(tmp_path / name / "picture_1.png") for name in ("nfc", "nfd", "zero width")]
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


# places and disks


def test_a_path_with_spaces_and_umlauts(toy, tmp_path, capsys):
    out = tmp_path / "Bilder für Müller & Söhne"
    assert run("generate", toy, out, "--line", "Tea") == 0
    path = out / "picture_1.png"
    assert capsys.readouterr().out == f"wrote {path}\n" and read_record(path)["model"]["folder"] == str(toy)


def test_a_full_disk_leaves_nothing_half_written(plain, tmp_path, capsys, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run("generate", plain, tmp_path / "out", "--line", "Tea") == 2
    said = capsys.readouterr().err
    assert "cannot write" in said and "free some room" in said and said.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before_the_work(plain, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(AnyText2Pipeline, "run", lambda *given, **options: pytest.fail("it has begun to compute"))
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert run("generate", plain, out, "--line", "Tea") == 2
        assert "is in the way" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"


def test_what_another_program_wrote_meanwhile_is_kept(plain, tmp_path, capsys, monkeypatch):
    made = AnyText2Pipeline.run

    def slowly(*given, **options):
        (tmp_path / "out" / "picture_1.png").write_text("of the other one")
        return made(*given, **options)

    monkeypatch.setattr(AnyText2Pipeline, "run", slowly)
    assert run("generate", plain, tmp_path / "out", "--line", "Tea") == 2
    assert "picture_1.png exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "picture_1.png").read_text() == "of the other one"


def test_a_job_cannot_leave_the_folder(plain, tmp_path, capsys):
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: ../../outside, lines: [Tea]}]")
    assert run("generate", plain, tmp_path / "out", "--jobs", tmp_path / "jobs.yaml") == 2
    assert "the name '../../outside' is no plain file name" in capsys.readouterr().err
