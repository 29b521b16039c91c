"""One form of a text: what differs in bytes alone becomes equal, what looks different stays different."""

import pytest

from anytext_lib.data.texts import normal_text, split_chinese


@pytest.mark.parametrize(("typed", "normal"), [
    ("Cafe\u0301", "Caf\u00e9"), ("Tea\u00a0time", "Tea time"), ("Tea\u3000\u2009time", "Tea  time"),
    ("A\u200bB", "AB"), ("\ufeffA", "A"), ("A\u00adB", "AB"), ("\u202eAB\u202c", "AB"), ("A\nB\tC", "A B C"),
    ("\u1100\u1161", "\uac00"), ("A\u200b\u0301", "\u00c1"), ("\u212b", "\u00c5"),
])
def test_forms_of_one_text_become_one(typed, normal):
    assert normal_text(typed) == normal and normal_text(normal) == normal


@pytest.mark.parametrize("text", ["Tea", "\uff28\uff29", "\ufb01ne", "x\u00b2", "\u0646\u200c\u0647", "A\x00B", ""])
def test_what_looks_different_stays(text):
    assert normal_text(text) == text


@pytest.mark.parametrize("text, language, found", [
    ("汉字", "Chinese", "Chinese_sim"), ("漢字", "Chinese", "Chinese_tra"), ("大小", "Chinese", "Chinese_sim"),
    ("Tea", "Chinese", "Chinese_sim"), ("漢字", "Japanese", "Japanese"), ("Tea", "Latin", "Latin")])
def test_chinese_is_split_into_simplified_and_traditional(text, language, found):
    assert split_chinese(language, text) == found
