"""Sen.Acc and NED, the two figures that text rendering is compared by, with intervals.

    Sen.Acc = share of lines that are read exactly as wanted, case-sensitive, both cut to 20 characters
    NED     = mean over lines of 1 - levenshtein(read, wanted) / (max(len(read), len(wanted)) + 1e-5)

Source: AnyText ``eval/eval_dgocr.py``.  Upstream's NED compares class ids, where all characters that the recogniser
does not know share one id: a wrong rare character then counts as right; and it cuts the wanted text only.  Here
characters are compared, in Unicode's form NFC (a composed and a decomposed letter are the same), and both texts are
cut; ``PROTOCOLS`` has upstream's rules.  NED is a similarity: 1 is best, and it is never below Sen.Acc.

Papers decide differently whether a line was written; the same readings give each paper's number:

| name            | text wanted | a line is right if | NED compares                        | crop    |
|-----------------|-------------|--------------------|-------------------------------------|---------|
| anytext         | cut to 20   | read == wanted     | classes of PP-OCR's 6,623           | upright |
| anytext-english | cut to 20   | read == wanted     | classes of the 95 of printable ASCII| upright |
| strict          | whole       | read == wanted     | characters                          | upright |
| udifftext       | whole       | equal, lower-cased | characters, lower-cased             | box     |

``anytext`` is AnyText's ``eval/eval_dgocr.py`` as it runs on wukong_word (Chinese), ``anytext-english`` on laion_word
(English): only the dictionary differs.  A character that the dictionary lacks becomes its last class, which is the
space, so that NED takes all such characters, and the space, for one.  Sen.Acc compares the texts themselves.  Only the
wanted text is cut: a longer reading is wrong.  ``udifftext`` is UDiffText's SeqAcc (``test.py``); its paper has no NED.

The recogniser is not part of a protocol (AnyText: DuGuang, UDiffText: PARSeq): a number of another recogniser is not
the paper's number, and every result names its own.

Intervals are a bootstrap over items.  Lines of one picture, and the pictures of one item, are alike in layout, fonts
and difficulty; items are drawn, not lines, or the interval is too narrow.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anytext_lib.data.texts import composed
from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.ocr.recogniser import Charset
from anytext_lib.ocr.similarity import edit_distance_score

if TYPE_CHECKING:
    from anytext_lib.evaluation.read import LineReading

ALL = "all"
MAX_CHARS = 20
PPOCR, ASCII = "ppocr", "ascii"
LEVEL, RESAMPLES = 0.95, 2000
SLACK = 1e-9


class ResultError(AnyTextError, ValueError):
    """A result file is incomplete or contradicts itself; the message says where."""


class TextScores(NamedTuple):
    """``sentence_accuracy`` and ``ned`` in [0, 1], NaN for no line; ``lines`` counts them."""

    sentence_accuracy: float
    ned: float
    lines: int


def sentence_accuracy(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> float:
    """Share of lines read exactly as wanted, both cut to ``max_chars``; NaN for no line."""
    return _mean([float(r == w) for r, w in _pairs(read, wanted, max_chars)])


def ned(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> float:
    """Mean normalised edit similarity, both texts cut to ``max_chars``; NaN for no line."""
    return _mean([edit_distance_score(r, w) for r, w in _pairs(read, wanted, max_chars)])


def score_texts(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> TextScores:
    """Both figures at once."""
    return TextScores(sentence_accuracy(read, wanted, max_chars), ned(read, wanted, max_chars), len(wanted))


def _pairs(read: Sequence[str], wanted: Sequence[str], most: int) -> list[tuple[str, str]]:
    """Both texts of each line as ``composed``, cut."""
    if isinstance(read, str) or isinstance(wanted, str) or len(read) != len(wanted):
        raise ValueError(f"give one text read for each text wanted, got {len(read)} and {len(wanted)}")
    return [(composed(r)[:most], composed(w)[:most]) for r, w in zip(read, wanted, strict=True)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


# protocols


class LineScore(NamedTuple):
    """``correct``: the line counts as written. ``ned``: similarity in [0, 1], 1 for a line that is correct."""

    correct: bool
    ned: float


@dataclass(frozen=True)
class Protocol:
    """One way of counting.

    Attributes:
        name: as in ``PROTOCOLS``. ``crop``: how lines are cut out, a name of ``read.CROPS``.
        most: characters that the wanted text is cut to, None to leave it whole.
        lower: compare in lower case.
        dictionary: whose classes NED compares: "ppocr", "ascii", or None for the characters themselves.
    """

    name: str
    crop: str = "upright"
    most: int | None = None
    lower: bool = False
    dictionary: str | None = None

    def score(self, read: str, wanted: str) -> LineScore:
        """Sen.Acc and NED of one line, of the texts in the form NFC."""
        read, wanted = composed(read), composed(wanted)[: self.most]
        if self.lower:
            read, wanted = read.lower(), wanted.lower()
        return LineScore(read == wanted, edit_distance_score(self.symbols(read), self.symbols(wanted)))

    def symbols(self, text: str) -> Sequence:
        """What NED compares: the characters, or their classes in the dictionary."""
        return text if self.dictionary is None else dictionary(self.dictionary).classes(text)


PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol("anytext", most=20, dictionary=PPOCR),
    Protocol("anytext-english", most=20, dictionary=ASCII),
    Protocol("strict"),
    Protocol("udifftext", crop="box", lower=True),
)}


def protocol(name: str) -> Protocol:
    """Return the protocol of that name; OptionError lists the names."""
    if name not in PROTOCOLS:
        raise OptionError(f"there is no protocol {name!r}: choose one of {sorted(PROTOCOLS)}")
    return PROTOCOLS[name]


@lru_cache
def dictionary(name: str) -> Charset:
    """The characters that have a class of their own: PP-OCR's ``ppocr_keys_v1``, or printable ASCII (``en_dict``)."""
    if name == ASCII:
        return Charset(tuple(map(chr, range(33, 127))))
    from anytext_lib.ocr.onnx_weights import load_onnx, recognizer_path

    metadata = {entry.key: entry.value for entry in load_onnx(recognizer_path()).metadata_props}
    return Charset.from_metadata(metadata["character"])


# intervals


class Bounds(NamedTuple):
    """Bounds of a confidence interval; None where the data cannot tell (one item, or all items alike)."""

    low: float | None
    high: float | None


def bootstrap_interval(values: Sequence[float], items: Sequence[int], level: float = LEVEL,
                  resamples: int = RESAMPLES, seed: int = 0) -> Bounds:
    """Interval of the mean of ``values`` by BCa bootstrap over ``items``.

    Args:
        values: (N,) one number for each line or picture. ``items``: (N,) which item each belongs to.
        level: of confidence, in (0, 1). ``resamples``, ``seed``: of the bootstrap.
    """
    from scipy.stats import bootstrap

    numbers, owners = np.asarray(values, np.float64), np.asarray(items)
    if numbers.shape != owners.shape or numbers.ndim != 1:
        raise ValueError(f"give one item for each value, got shapes {numbers.shape} and {owners.shape}")
    _, rows = np.unique(owners, return_inverse=True)
    if len(numbers) == 0 or rows.max() < 1 or numbers.min() == numbers.max():
        return Bounds(None, None)
    sums, counts = np.bincount(rows, numbers), np.bincount(rows).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data too much alike: the bounds are NaN then
        found = bootstrap((sums, counts), _ratio, paired=True, vectorized=True, confidence_level=level, batch=200,
                          n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)).confidence_interval
    return Bounds(*(float(bound) if np.isfinite(bound) else None for bound in found))


def about(resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """How the intervals of a result file were made."""
    return {"method": "BCa", "over": "items", "level": LEVEL, "resamples": resamples, "seed": seed}


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


# summaries


def score_lines(lines: Sequence[LineReading], protocol: Protocol) -> list[LineScore]:
    """Score of each line."""
    return [protocol.score(line.read, line.wanted) for line in lines]


def summarise(lines: Sequence[LineReading], protocol: Protocol, resamples: int = RESAMPLES,
              seed: int = 0) -> dict[str, dict[str, Any]]:
    """Means and 95% intervals: of all lines, and of each language where there are several.

    Raises:
        ResultError: Sen.Acc is above NED (see ``check_order``).
    """
    scores = score_lines(lines, protocol)
    groups = {ALL: range(len(lines))}
    languages = sorted({line.language for line in lines})
    if len(languages) > 1:
        groups |= {name: [i for i, line in enumerate(lines) if line.language == name] for name in languages}
    return {group: _summary([lines[i] for i in rows], [scores[i] for i in rows], resamples, seed, f"{protocol.name}, "
                            f"{group}") for group, rows in groups.items()}


def _summary(lines: Sequence[LineReading], scores: Sequence[LineScore], resamples: int, seed: int,
             where: str) -> dict[str, Any]:
    items = [line.item for line in lines]
    right, ned = [float(score.correct) for score in scores], [score.ned for score in scores]
    accuracy, similarity = (sum(values) / len(values) if values else None for values in (right, ned))
    check_order(accuracy, similarity, where)
    intervals = {f"{name}_interval": list(bootstrap_interval(values, items, resamples=resamples, seed=seed))
                 for name, values in (("sentence_accuracy", right), ("ned", ned))}
    return {"lines": len(lines), "items": len(set(items)), "sentence_accuracy": accuracy, "ned": similarity} | intervals


def check_order(sentence_accuracy: float | None, ned: float | None, where: str) -> None:
    """Assert Sen.Acc <= NED: a line that is right has NED 1.  What breaks this was not made by one comparison."""
    if sentence_accuracy is not None and ned is not None and not sentence_accuracy <= ned + SLACK:
        raise ResultError(f"{where}: Sen.Acc {sentence_accuracy:.4f} is above NED {ned:.4f}, which cannot be: the two "
                          "are of different lines, recognisers or rules")
