"""The glossary: terms of the course in English and Chinese, and the notebooks that use each most."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.notebooks import Book

SHOWN = 3  # notebooks beside a term
CHINESE = '<span lang="zh-Hans">{}</span>'
KEYS = {"term", "zh", "means", "zh_means", "forms"}


@dataclass(frozen=True)
class GlossaryTerm:
    """A term.

    Attributes:
        term, zh: in English and in Chinese. ``means``, ``zh_means``: a sentence in each.
        forms: how the course writes it, where that is not the term itself.
    """

    term: str
    zh: str
    means: str
    zh_means: str
    forms: tuple[str, ...] = ()

    def count(self, text: str) -> int:
        """How often a text has the term, or one of its forms, as whole words, in any case; a plural counts."""
        forms = "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in self.forms or (self.term,))
        return len(re.findall(rf"(?<![A-Za-z])(?:{forms})(?:e?s)?(?![A-Za-z])", text, flags=re.IGNORECASE))


def load(path: Path) -> list[GlossaryTerm]:
    """The terms of a file, in alphabetical order.

    Raises:
        CourseError: the file is missing, or an entry lacks something; the message names it.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CourseError(f"{path} cannot be read: {error}") from error
    words = []
    for row in rows:
        if not isinstance(row, dict) or set(row) - KEYS or not all(row.get(key) for key in KEYS - {"forms"}):
            raise CourseError(f"{path}: the entry {row!r} needs term, zh, means and zh_means, and may have forms.")
        words.append(GlossaryTerm(row["term"], row["zh"], row["means"], row["zh_means"], tuple(row.get("forms", ()))))
    return sorted(words, key=lambda word: word.term.lower())


def text_of(book: Book) -> str:
    """The prose of a notebook."""
    return "\n".join(cell.source for cell in notebooks.read(book.path).cells if cell.cell_type == "markdown")


def page(words: Sequence[GlossaryTerm], folder: str, chosen: Sequence[Book]) -> str:
    """The page of the glossary."""
    texts = {book: text_of(book) for book in chosen}
    parts = []
    for word in words:
        counts = {book: word.count(text) for book, text in texts.items()}
        most = sorted((book for book in chosen if counts[book]), key=lambda book: -counts[book])[:SHOWN]
        links = ", ".join(f"[{book.number}]({folder}/{book.path.name})" for book in chosen if book in most)
        parts.append(f"{word.term} · {CHINESE.format(word.zh)}\n: {word.means}{' → ' if links else ''}{links}\n\n"
                     f"  {CHINESE.format(word.zh_means)}")
    return ("# Glossary\n\nThe terms of the course in English and Chinese. The numbers lead to the notebooks that use "
            "a term most.\n\n" + "\n\n".join(parts) + "\n")
