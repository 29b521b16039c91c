"""The fonts of the course: what fonts.json says is what the files hold, and gaps are named."""

import re

import pytest
from fontTools.ttLib import TTFont

from anytext_lib.data import MissingGlyphError, UnknownFontError, font_path, fonts_for, load_fonts
from anytext_lib.data.fonts import check_coverage
from anytext_lib.errors import MissingFileError
from anytext_lib.scenes.words import CHINESE_WORDS, LATIN_PHRASES, LATIN_WORDS

FONTS = load_fonts()


@pytest.mark.parametrize("name", FONTS)
def test_font_file_holds_the_characters_that_the_list_names(name):
    face = FONTS[name]
    font = TTFont(face.path)
    assert {chr(code) for code in font.getBestCmap()} >= face.characters
    assert font["name"].getDebugName(1) == face.family


@pytest.mark.parametrize("name", FONTS)
def test_font_has_an_open_licence_and_no_reserved_name(name):
    face = FONTS[name]
    licence = face.licence_path.read_text(encoding="utf-8")
    assert face.licence in ("OFL-1.1", "Apache-2.0") and face.source
    assert {"OFL-1.1": "SIL OPEN FONT LICENSE Version 1.1", "Apache-2.0": "Apache License"}[face.licence] in licence
    header = licence.split("SIL OPEN FONT LICENSE")[0] if face.licence == "OFL-1.1" else ""
    reserved = re.findall(r"[\"'‘]([^\"'’]+)[\"'’]", "".join(header.split("Reserved Font Name")[1:]))
    assert bool(reserved) == (name in ("CourseKai", "DMSerifDisplay"))
    names = [record.toUnicode() for record in TTFont(face.path)["name"].names if record.nameID in (1, 3, 4, 6)]
    assert not [word for word in reserved if any(word in written for written in names)]


@pytest.mark.parametrize("language, words", [("Latin", LATIN_WORDS + LATIN_PHRASES + ["$4.99 12:30 50%"]),
                                             ("Chinese", CHINESE_WORDS)])
def test_every_font_can_write_the_words_of_its_language(language, words):
    names = fonts_for(language)
    assert len(names) >= {"Latin": 8, "Chinese": 3}[language]
    for name in names:
        assert FONTS[name].missing("".join(words)) == ""


def test_fonts_take_little_room():
    assert sum(face.path.stat().st_size for face in FONTS.values()) <= 2.5e6


def test_fonts_for_a_text():
    assert fonts_for("Café 7") == fonts_for("Latin")
    assert set(fonts_for("Tea 绿茶")) == set(fonts_for("Chinese"))


def test_missing_glyph_names_characters_and_fonts_that_have_them():
    with pytest.raises(MissingGlyphError, match=r"OpenSans cannot write 'Tea 茶': '茶' \(U\+8336\) is in NotoSansSC"):
        check_coverage("Tea 茶", "OpenSans")
    with pytest.raises(MissingGlyphError, match=r"no font of the course.*'ж' \(U\+0436\) is in no font"):
        fonts_for("aж")


def test_unknown_font_lists_the_names():
    with pytest.raises(UnknownFontError, match="no font 'Arial'; the fonts are OpenSans, "):
        font_path("Arial")


def test_missing_folder_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYTEXT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(MissingFileError, match="nowhere .from the environment variable ANYTEXT_DATA"):
        load_fonts()
    with pytest.raises(MissingFileError, match="fonts.json is missing"):
        load_fonts(tmp_path)
