"""How papers decide whether a line was written: the same readings give each paper's number.

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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from anytext_lib.errors import OptionError
from anytext_lib.evaluation.text import composed, edit_distance_score
from anytext_lib.ocr.recogniser import Charset

PPOCR, ASCII = "ppocr", "ascii"


class LineScore(NamedTuple):
    """``correct``: the line counts as written. ``ned``: similarity in [0, 1], 1 for a line that is correct."""

    correct: bool
    ned: float


@dataclass(frozen=True)
class Protocol:
    """One way of counting.

    Attributes:
        name: as in ``PROTOCOLS``. ``crop``: how lines are cut out, a name of ``evaluation.crops.CROPS``.
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
    """The protocol of that name; OptionError names those that there are."""
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
