"""Mentions become links, and nothing else changes; dead links are found; links move with a page."""

from __future__ import annotations

import pytest

from anytext_lib.publishing import links

FILES = {"02": "02_x0.ipynb", "05": "05_ocr.ipynb", "05b": "05b_pixels.ipynb",
         "08": "08_total.ipynb", "09": "09_net.ipynb"}
PAPER = "https://arxiv.org/abs/2411.15245"


@pytest.mark.parametrize(("text", "expected"), [
    ("see notebook 02.", "see [notebook 02](02_x0.ipynb)."),
    ("Notebook 05's factor", "[Notebook 05](05_ocr.ipynb)'s factor"),
    ("(notebook\n  05, section 3)", "([notebook\n  05](05_ocr.ipynb), section 3)"),
    ("notebooks 02 and 05", "notebooks [02](02_x0.ipynb) and [05](05_ocr.ipynb)"),
    ("Notebooks 02, 05, and 08 too", "Notebooks [02](02_x0.ipynb), [05](05_ocr.ipynb), and [08](08_total.ipynb) too"),
    ("notebooks 02 to 05 or 08", "notebooks [02](02_x0.ipynb) to [05](05_ocr.ipynb) or [08](08_total.ipynb)"),
    ("notebooks 05–08", "notebooks [05](05_ocr.ipynb)–[08](08_total.ipynb)"),
    ("notebook 05\n(masks), 08 (sums), 09 (nets)",
     "[notebook 05](05_ocr.ipynb)\n(masks), [08](08_total.ipynb) (sums), [09](09_net.ipynb) (nets)"),
    ("notebook 02 and 05 words", "[notebook 02](02_x0.ipynb) and 05 words"),
    ("notebooks 02 and 09% more", "notebooks [02](02_x0.ipynb) and 09% more"),
    ("notebook 05b, section 2", "[notebook 05b](05b_pixels.ipynb), section 2"),
    ("notebooks 05 and 05b", "notebooks [05](05_ocr.ipynb) and [05b](05b_pixels.ipynb)"),
    ("## What notebook 02 says", "## What [notebook 02](02_x0.ipynb) says"),
    ("| notebook 02 | 05 |", "| [notebook 02](02_x0.ipynb) | 05 |"),
    ("*AnyText2*, arXiv 2411.15245.", f"*AnyText2*, [arXiv 2411.15245]({PAPER})."),
    ("(arXiv:2411.15245)", f"([arXiv:2411.15245]({PAPER}))"),
    ("arXiv\n  2411.15245: x", f"[arXiv\n  2411.15245]({PAPER}): x"),
    ("arXiv: 2411.15245v2", f"[arXiv: 2411.15245v2]({PAPER}v2)"),
    ("arXiv cs/0112017", "[arXiv cs/0112017](https://arxiv.org/abs/cs/0112017)"),
    ("`code`, notebook 02, $x$ and arXiv 2411.15245 cost $5",
     f"`code`, [notebook 02](02_x0.ipynb), $x$ and [arXiv 2411.15245]({PAPER}) cost $5"),
])
def test_mentions_become_links_once(text, expected):
    assert links.linked(text, FILES, own="01") == expected
    assert links.linked(expected, FILES, own="01") == expected


@pytest.mark.parametrize("text", [
    "`notebook 02`", "``a ` notebook 02``", "```\nnotebook 02\narXiv 2411.15245\n```", "~~~\nnotebook 02\n~~~",
    "[as notebook 02 says](https://a.b)", "[the [notebook 02] page](x.ipynb)", "![notebook 02](x.png)",
    "[notebook 02][ref]", "[ref]: https://a.b notebook 02", "<https://a.b/arXiv 2411.15245>",
    "https://a.b/arXiv:2411.15245", '<img alt="notebook 02">', "$notebook 02$", "$$\nnotebook 02\n$$",
    "notebook 01", "notebook 77", "notebook 2", "a notebook", "notebook 021", "arXiv 24", "myarXiv 2411.15245",
    "arXiv 2411.15245678",
])
def test_what_is_no_mention_stays(text):
    assert links.linked(text, FILES | {"01": "01_own.ipynb"}, own="01") == text


def test_formulas_end_with_their_paragraph():
    text = "It costs $5.\n\nSee notebook 02, for $6."
    assert links.linked(text, FILES) == "It costs $5.\n\nSee [notebook 02](02_x0.ipynb), for $6."


def test_relative_links_are_found_and_moved():
    text = "[a](x.ipynb) `[b](y)` [c](https://a.b) [d](#part) ![e](../p.png) <a href=\"q.md\">f</a> [g](mailto:x@y)"
    assert [target[0] for target in links.relative_links(text)] == ["x.ipynb", "../p.png", "q.md"]
    moved = text.replace("(x", "(../x").replace("(../p", "(../../p").replace('"q', '"../q')
    assert links.with_prefix(text, "../") == moved


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a page.md").touch()
    text = "[a](a%20page.md#part) [b](gone.md) [c](a%20page.md)"
    assert links.dead_links(text, tmp_path) == ["gone.md"]
