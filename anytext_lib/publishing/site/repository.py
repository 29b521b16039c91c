"""Links to files of the repository, which a site does not contain: each is made to lead somewhere in it.

A program or another short text becomes a page of its own with its source, a learner's copy or a table a file to load
down, a folder plain words. Pages and pictures stay what they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from anytext_lib.errors import CourseError
from anytext_lib.publishing.links import relative_links

SHOWN = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", "": "text", ".md": "markdown"}
"""Suffixes of files that become pages, and the language of their colours."""
PAGES = "repository"
ONLY_PAGE = "---\norphan: true\nnosearch: true\n---\n\n"


@dataclass
class Repository:
    """The repository at ``root``, and what its pages lead to.

    Attributes:
        pages: files (relative, with slashes) that are pages of the site.
        copied, shown: files that were found to be linked: to be laid beside the pages, to be shown as a page.
    """

    root: Path
    pages: set[str]
    copied: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)

    def moved(self, source: str, page: str) -> str:
        """Markdown ``source`` of the ``page`` (its path in the repository) with its links to files redirected.

        Raises:
            CourseError: a link leads nowhere.
        """
        folder = os.path.dirname(page)
        for found in reversed(list(relative_links(source))):
            if source[found.start() - 2: found.start()] != "](":
                continue  # of HTML
            path, _, _ = unquote(found[0]).partition("#")
            target = os.path.normpath(os.path.join(folder, path))
            if target in self.pages:
                continue
            if not (self.root / target).exists():
                raise CourseError(f"{page} has a link to {found[0]!r}, where there is nothing.")
            if (self.root / target).is_dir() or target.startswith(".."):
                source = _without_link(source, found)
            elif Path(target).suffix in SHOWN:
                self.shown.add(target)
                new = os.path.relpath(f"{PAGES}/{target}.md", folder or ".")
                source = source[: found.start()] + new + source[found.end():]
            else:
                self.copied.add(target)
                if target.endswith(".ipynb"):  # Sphinx would look for a page of this name
                    source = _as_download(source, found)
        return source

    def source_page(self, file: str) -> str:
        """The page that shows a file."""
        text = (self.root / file).read_text(encoding="utf-8")
        longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{ONLY_PAGE}# {file}\n\n{fence}{SHOWN[Path(file).suffix]}\n{text.rstrip()}\n{fence}\n"


def _without_link(source: str, target: re.Match) -> str:
    """The text of the markdown link around a target in its place."""
    start = source.rfind("[", 0, target.start())
    return source[:start] + source[start + 1: target.start() - 2] + source[target.end() + 1:]


def _as_download(source: str, target: re.Match) -> str:
    """MyST's role for a file to load down in the place of the markdown link around a target."""
    start = source.rfind("[", 0, target.start())
    text = source[start + 1: target.start() - 2]
    return f"{source[:start]}{{download}}`{text} <{target[0]}>`{source[target.end() + 1:]}"
