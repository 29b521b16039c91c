"""What a check of a data set found: counts, and problems with file, entry, field and remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

REMEDIES = {
    "truncated_json": "restore the file or download it again",
    "malformed_json": "correct it at that place, or write the file again",
    "no_picture": "name the pictures in data_list; `anytext data convert` makes it of a plain folder",
    "malformed_field": "correct the field; the schema is anytext_lib/data/anyword.schema.json",
    "missing_image": "restore the picture, correct img_name or data_root, or remove the entry",
    "corrupt_image": "restore the picture or remove the entry; training skips and counts such pictures",
    "duplicate_name": "remove one of the two entries, or rename its picture",
    "polygon_outside": "give the polygon in pixels of this very picture (if the picture was resized, scale its "
                       "polygons as well), or mark the line \"valid\": false",
    "polygon_degenerate": "draw at least three points around the line, in order and without crossings, "
                          "or give an empty list to leave the line out",
    "unknown_language": "use one of the names of the schema; Latin covers English and other European languages",
    "wrong_color": "give [r, g, b] from 0 to 255, or leave the field out if the colour is not known",
    "empty_text": "write what the line says, or mark it \"valid\": false",
    "text_too_long": "split the line in two, or accept that only its beginning is drawn and read (--ignore)",
    "no_glyph": "correct the text, mark the line \"valid\": false, or name a font file that has these characters "
                "(--font)",
}


@dataclass(frozen=True)
class DataProblem:
    """Something wrong with a data set.

    Attributes:
        kind: a key of ``REMEDIES``. ``file``: the annotation file or picture.
        entry: as data_list[3] ('a.jpg'), '' for the file as a whole. ``field``: as annotations[0].polygon, or ''.
        what: what is wrong there.
    """

    kind: str
    file: str
    entry: str
    field: str
    what: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.kind]

    def __str__(self) -> str:
        place = ".".join(part for part in (self.entry, self.field) if part)
        return f"{self.file}: {place + ': ' if place else ''}{self.what}. Remedy: {self.remedy}."


@dataclass
class DataReport:
    """The outcome of ``check_data``.

    Attributes:
        path: the annotation file. ``data_root``: the folder of its pictures, None if the file does not say.
        images, lines: number of entries and of lines checked. ``counts``: other numbers, by name.
        languages: lines by language. ``kinds``: problems by kind, all of them.
        problems: the problems themselves, of each kind the first ``limit``.
        ignored: kinds that do not count.
    """

    path: Path
    data_root: Path | None = None
    images: int = 0
    lines: int = 0
    counts: Counter = field(default_factory=Counter)
    languages: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    problems: list[DataProblem] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    limit: int = 100

    def add(self, problem: DataProblem) -> None:
        """Count a problem, and keep it while there are few of its kind."""
        if problem.kind in self.ignored:
            return
        self.kinds[problem.kind] += 1
        if self.kinds[problem.kind] <= self.limit:
            self.problems.append(problem)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.kinds

    def summary(self, show: int = 5) -> str:
        """Text: the counts, then the problems by kind, of each the first ``show``."""
        rows = [f"{self.path}", f"  pictures in {self.data_root}",
                f"  {self.images} pictures, {self.lines} lines of text"]
        rows += [f"  {name}: {value}" for name, value in self.counts.items()]
        if self.languages:
            rows.append("  languages: " + ", ".join(f"{name} {n}" for name, n in self.languages.most_common()))
        for kind, n in self.kinds.most_common():
            rows.append(f"{kind}: {n}")
            shown = [problem for problem in self.problems if problem.kind == kind][:show]
            rows += [f"  {problem}" for problem in shown]
            rows += [f"  ... and {n - len(shown)} more"] if n > len(shown) else []
        total = self.kinds.total()
        rows.append("No problem found." if self.ok else f"{total} {'problem' if total == 1 else 'problems'} found.")
        return "\n".join(rows)

    def to_dict(self) -> dict:
        """Everything as plain JSON values."""
        return {"path": str(self.path), "data_root": None if self.data_root is None else str(self.data_root),
                "images": self.images, "lines": self.lines, "counts": dict(self.counts),
                "languages": dict(self.languages), "kinds": dict(self.kinds), "ignored": list(self.ignored),
                "problems": [asdict(problem) | {"remedy": problem.remedy} for problem in self.problems]}
