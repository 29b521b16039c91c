"""Links in the text of pages: mentions of notebooks and papers made links, relative links moved and followed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

CODE = r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
LINK = r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])"
UNTOUCHED = re.compile(
    rf"{CODE}|{LINK}|^\[[^\]\n]+\]:.*?$|<[^<>\n]+>|https?://\S+|\$\$.*?\$\$|\$(?:[^$\n]|\n(?!\s*\n))+\$",
    flags=re.DOTALL | re.MULTILINE,
)
"""What the text of a page holds besides words: code, links, tags, addresses, formulas."""
ONE = re.compile(r"\b[Nn]otebook\s+(?P<n>\d\d[a-z]?)\b(?P<more>(?:\s+\([^()]*\))?(?:,\s+\d\d[a-z]?\s+\([^()]*\))*)")
AND = r"(?:,(?:\s+and|\s+or)?|\s+and|\s+or|\s+to|\s*[–-])\s*"
MANY = re.compile(rf"\b[Nn]otebooks\s+(?P<more>\d\d[a-z]?\b(?:{AND}\d\d[a-z]?\b(?!%))*)")
NUMBER = re.compile(r"(?<![\w.])\d\d[a-z]?(?![\w%]|\.\d)")
ARXIV = re.compile(r"\barXiv(?::\s*|\s+)(?P<id>\d{4}\.\d{4,5}(?:v\d+)?|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?![\w/])")
RELATIVE = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)[^()\s]+(?=\))|(?<=href=\")(?![a-z]+:|#|/)[^\"]+(?=\")")


def linked(source: str, files: Mapping[str, str], own: str = "") -> str:
    """Markdown `source` with its mentions of notebooks and arXiv papers made links. Doing it twice changes nothing.

    `files` gives the file of each notebook by its number, as a link from the page; a mention of `own` number, or of a
    number that is not in `files`, stays text. Code, formulas, addresses and the texts of links are left alone.
    """
    plain = masked(source)
    found = [(found.span(), f"https://arxiv.org/abs/{found['id']}") for found in ARXIV.finditer(plain)]
    for mention in ONE.finditer(plain):
        found.append(((mention.start(), mention.end("n")), files.get(mention["n"]) if mention["n"] != own else None))
        found += _numbers(plain, mention.span("more"), files, own, before_parenthesis=True)
    for mention in MANY.finditer(plain):
        found += _numbers(plain, mention.span("more"), files, own)
    for (start, end), target in sorted(found, reverse=True):
        if target is not None:
            source = f"{source[:start]}[{source[start:end]}]({target}){source[end:]}"
    return source


def _numbers(plain: str, span: tuple[int, int], files: Mapping[str, str], own: str, before_parenthesis: bool = False):
    """(place, file or None) of the numbers of notebooks in a part of the text."""
    for number in NUMBER.finditer(plain, *span):
        follows = re.match(r"\s+\(", plain[number.end():])
        if (follows or not before_parenthesis) and number[0] != own:
            yield number.span(), files.get(number[0])


def masked(source: str, pattern: re.Pattern = UNTOUCHED) -> str:
    """`source` with what `pattern` finds replaced by as many characters that are no words; line ends stay."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), source)


def relative_links(source: str) -> Iterator[re.Match]:
    """The targets of the relative links in markdown `source`, code left out."""
    return RELATIVE.finditer(masked(source, re.compile(CODE, flags=re.DOTALL | re.MULTILINE)))


def with_prefix(source: str, prefix: str) -> str:
    """Markdown `source` for a page in another folder: its relative links begin with `prefix`."""
    for target in reversed(list(relative_links(source))):
        source = source[: target.start()] + prefix + source[target.start():]
    return source


def dead_links(source: str, folder: Path) -> list[str]:
    """The relative links of a page in `folder` that lead to no file."""
    targets = [target[0] for target in relative_links(source)]
    return [target for target in targets if not (folder / unquote(target.split("#")[0])).exists()]
