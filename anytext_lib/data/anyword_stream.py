"""A JSON file in the AnyWord form as a stream of its entries, with errors that name line and column.

A file of gigabytes never lies in memory as a whole: the standard library's parser is given one entry after the other
(that of ijson puts ? for half of a surrogate pair, and stops at NaN).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from anytext_lib.errors import AnyTextError, MissingFileError
from anytext_lib.files import UnreadableError

CHUNK = 1 << 20  # bytes read at a time
LONGEST_ENTRY = 1 << 26  # characters; a longer one is taken for a quotation mark or bracket that was never closed
_LOOKAHEAD = 32  # an error nearer to the end of what has been read may be a token that has been cut
_SPACE = re.compile(r"[ \t\n\r]*")
_SHAPE = "an object with data_root and data_list"


class AnyWordError(AnyTextError, ValueError):
    """An annotation file is malformed; the message names file, entry, field and remedy."""


class TruncatedError(AnyWordError):
    """An annotation file ends in the middle; the message says where, and what to do."""


class AnyWordStream:
    """The entries of a file in the order of the file, one at a time: ``for number, row in stream``.

    Attributes:
        data_root: the folder of the pictures as the file says it; None until its field has been read.
        sha256: of the whole file, after the last entry ('' before). ``entries``: number of entries read so far.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.data_root: str | None = None
        self.sha256, self.entries = "", 0
        if not self.path.is_file():
            raise MissingFileError(f"no annotation file {self.path}: give the path of a JSON file in the AnyWord form")

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yield (number, row), the row as it is (not checked).

        Raises:
            AnyWordError: the file is not JSON in UTF-8, or has another shape. TruncatedError: it ends too soon.
        """
        self.data_root, self.sha256, self.entries = None, "", 0
        try:
            file = open(self.path, "rb")
        except OSError as error:
            raise UnreadableError(f"cannot read {self.path}: {error.strerror}; look at the permissions") from error
        with file:
            text = _Text(self.path, file)
            yield from self._top(text)
            self.sha256 = text.hash.hexdigest()

    def _top(self, text: _Text) -> Iterator[tuple[int, Any]]:
        if text.peek() == "\ufeff":  # what Windows' editors put before UTF-8
            text.at += 1
        if not text.peek():
            text.fail(f"the file is empty; it must be {_SHAPE}")
        if text.peek() == "[":
            text.fail(f"must be {_SHAPE}; write {{\"data_root\": \".\", \"data_list\": [...]}} around the list")
        text.expect("{", f"must be {_SHAPE}")
        seen = False
        while text.peek() != "}":
            name = text.value("the name of a field")
            text.expect(":", "a colon must follow the name of a field")
            if name == "data_list":
                seen = True
                yield from self._entries(text)
            else:
                value = text.value(f"the field {name}")
                if name == "data_root":
                    if not isinstance(value, str) or not value.isprintable():
                        text.fail(f'data_root must be a string, the folder of the pictures ("." for this one), '
                                  f"got {value!r}")
                    self.data_root = value
            if text.peek() != "}":
                text.expect(",", "a comma must stand between fields")
        text.expect("}", "the file must end with }")
        self._finish(text, seen)

    def _finish(self, text: _Text, seen: bool) -> None:
        if text.peek() == "{":
            text.fail(f"one object a line; the file must be {_SHAPE} (`anytext data convert` makes one of a JSONL)")
        if text.peek():
            text.fail("something follows the closing brace; remove it")
        if self.data_root is None:
            text.fail('the field data_root is missing; it must be a string, the folder of the pictures')
        if not seen:
            text.fail("the field data_list is missing; it must be a list of pictures")

    def _entries(self, text: _Text) -> Iterator[tuple[int, Any]]:
        text.expect("[", "data_list must be a list of pictures")
        while text.peek() != "]":
            row = text.value(f"data_list[{self.entries}]")
            yield self.entries, row
            self.entries += 1
            if text.peek() != "]":
                text.expect(",", f"a comma must follow data_list[{self.entries - 1}]")
        text.expect("]", "data_list must end with ]")


def find_data_root(path: str | os.PathLike) -> str | None:
    """The data_root of a file; None if it has none or is malformed before it.  Reads no further than needed."""
    stream = AnyWordStream(path)
    try:
        for _ in stream:
            if stream.data_root is not None:
                break
    except AnyWordError:
        pass
    return stream.data_root


class _Text:
    """The part of a file that is being parsed, with the place for messages."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.json, self.hash = json.JSONDecoder(), hashlib.sha256()
        self.text, self.at, self.lines, self.ended = "", 0, 1, False

    def more(self) -> None:
        """Read on, as much again as is at hand, and forget what has been parsed."""
        size = max(CHUNK, len(self.text) - self.at)
        data = self.file.read(size)
        self.hash.update(data)
        self.ended = len(data) < size
        self.lines += self.text.count("\n", 0, self.at)
        try:
            self.text = self.text[self.at :] + self.decoder.decode(data, self.ended)
        except UnicodeDecodeError as error:
            self.text, self.at = self.text[self.at :], 0
            self.fail(f"not JSON in UTF-8 ({error.reason} after this line); save it as UTF-8")
        self.at = 0

    def peek(self) -> str:
        """The next character that is not white space; '' at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def expect(self, character: str, rule: str) -> None:
        """Step over ``character``; AnyWordError with the ``rule`` if another one stands there."""
        found = self.peek()
        if not found:
            self.cut_off(rule)
        if found != character:
            self.fail(f"{rule}, but {found!r} stands there" if self.text[: self.at].strip() else rule)
        self.at += 1

    def value(self, what: str) -> Any:
        """The next JSON value; ``what`` names it in messages."""
        self.peek()
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                self._judge(error, what)
            except (RecursionError, ValueError) as error:  # brackets in brackets; an integer of thousands of digits
                kind = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
                self.fail(f"{what} cannot be read: {kind}; correct it there, or write the file again")
            self.more()

    def _judge(self, error: json.JSONDecodeError, what: str) -> None:
        """Return if reading on may help, else raise."""
        near_end = error.pos >= len(self.text) - _LOOKAHEAD or error.msg.startswith("Unterminated string")
        closed = any(bracket in self.text[error.pos :] for bracket in "]}")  # something follows: it is not cut there
        if near_end and self.ended and (error.msg.startswith("Unterminated string") or not closed):
            self.cut_off(f"{what} is not complete")
        if not near_end or self.ended or len(self.text) - self.at > LONGEST_ENTRY:
            place = self.at
            self.at = error.pos
            problem = f"malformed JSON in {what} ({error.msg}, column {self._column(error.pos)})"
            self.fail(f"{problem}; it starts on line {self.lines + self.text.count(chr(10), 0, place)}. "
                      "Correct it there, or write the file again")

    def _column(self, position: int) -> int:
        return position - self.text.rfind("\n", 0, position)

    def line(self) -> int:
        """Number of the current line, from 1."""
        return self.lines + self.text.count("\n", 0, self.at)

    def fail(self, problem: str) -> None:
        raise AnyWordError(f"{self.path}: line {self.line()}: {problem}")

    def cut_off(self, rule: str) -> None:
        last = self.lines + self.text.count("\n")
        raise TruncatedError(f"{self.path}: line {last}: the file ends too soon ({rule}): it is truncated; restore it "
                             "or download it again")
