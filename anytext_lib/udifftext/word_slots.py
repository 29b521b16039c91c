r"""What a reader of frames says about each character of a word: the slots that the sequence loss asks.

UDiffText's reader (PARSeq) has a slot for every character.  A CTC reader such as PP-OCRv3 has frames, and a text is
what is left of their classes when repeats are merged and blanks dropped.  What it believes about character k follows
from its frames exactly: the probability of all paths whose k-th character is c,

.. math::
    p_k(c) = \sum_t y_t(c) \big( A_{t-1}(k - 1) - a_{t-1}(k - 1, c) \big)

with y_t the frame's probabilities, A_t(k) the probability of the paths through t frames that show k characters, and
a_t(k, c) of those among them that end in a frame of class c (which a further frame of class c would only prolong).
Both follow from frame to frame, as in the forward pass of CTC (Graves et al. 2006):

.. math::
    a_t(k, c) = y_t(c) \big( a_{t-1}(k, c) + A_{t-1}(k - 1) - a_{t-1}(k - 1, c) \big), \quad
    A_t(k) = y_t(\text{blank}) A_{t-1}(k) + \sum_c a_t(k, c)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anytext_lib.data.lines import TextLines
from anytext_lib.ocr.crops import crop_lines
from anytext_lib.ocr.recogniser import BLANK, PPOCRv3Recognizer
from anytext_lib.udifftext.label_encoder import Characters
from anytext_lib.udifftext.word_losses import upright_boxes

SMALLEST = 1e-30  # of a probability whose logarithm is taken
SLOTS = 12


def slot_probabilities(frames: torch.Tensor, slots: int) -> torch.Tensor:
    """Probabilities of the first characters of what a CTC reader reads.

    Args:
        frames: (N, T, C) probabilities of each frame, class 0 the blank. ``slots``: K, at least 1.

    Returns:
        (N, K, C): at class c > 0 the probability that character k of the text is c, at class 0 that the text has no
        character k; float32 at least, differentiable.
    """
    frames = frames.to(torch.promote_types(frames.dtype, torch.float32))
    count, _, classes = frames.shape
    ended = frames.new_zeros(count, slots + 1, classes - 1)  # a
    shown = F.one_hot(torch.zeros(count, dtype=torch.int64), slots + 1).to(frames)  # A: no character yet
    found = frames.new_zeros(count, slots, classes - 1)
    for frame in frames.unbind(dim=1):
        here = frame[:, None, 1:]
        new = here * (shown[:, :-1, None] - ended[:, :-1])
        found = found + new
        longer = here * ended[:, 1:] + new
        ended = F.pad(longer, (0, 0, 1, 0))
        shown = frame[:, :1] * shown + ended.sum(dim=2)
    found = found.clamp(min=0)  # the differences above round
    return torch.cat([(1 - found.sum(dim=2, keepdim=True)).clamp(min=0), found], dim=2)


class WordReader:
    """PP-OCRv3 as a reader with a slot for each character, for ``sequence_loss``.

    Classes are 0 for the end, 1 to N for ``characters``, N + 1 for all others that PP-OCRv3 knows, taken together (two
    of these side by side, without a blank between them, count as one).

    Args:
        recognizer: by default PP-OCRv3; it goes to the device of what it reads. ``characters``: by default the 94
            printable ones. ``slots``: that are read.
    """

    def __init__(self, recognizer: PPOCRv3Recognizer | None = None, characters: Characters | None = None,
                 slots: int = SLOTS):
        self.recognizer = recognizer or PPOCRv3Recognizer.from_pretrained()
        self.characters, self.slots = characters or Characters(), slots
        charset = self.recognizer.charset
        self._own = torch.tensor([charset.classes(character)[0] for character in self.characters.characters])
        others = torch.ones(len(charset), dtype=torch.bool)
        others[self._own], others[BLANK] = False, False
        self._others = others.nonzero().flatten()

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Logarithms of the slots' probabilities (N, slots, N + 2) of crops (N, 3, 48, 320) in [-1, 1]."""
        return self.slots_of(self.recognizer.to(crops.device)(crops).logits)

    def slots_of(self, logits: torch.Tensor) -> torch.Tensor:
        """As ``forward``, of PP-OCRv3's scores (N, 40, 6625)."""
        self._own, self._others = (ids.to(logits.device) for ids in (self._own, self._others))
        frames = logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        rest = frames.index_select(2, self._others).sum(dim=2, keepdim=True)
        few = torch.cat([frames[:, :, BLANK : BLANK + 1], frames.index_select(2, self._own), rest], dim=2)
        return (slot_probabilities(few, self.slots) + SMALLEST).log()

    def of_words(self, images: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Slots of the word of each image, (B, slots, N + 2), cut out by its upright box, as upstream; 0 where none is.

        Args:
            images: (B, 3, H, W), about [-1, 1]; gradients flow to them. ``lines``: one word an image at most.
        """
        result = images.new_zeros(len(images), self.slots, len(self.characters) + 1, dtype=torch.float32)
        if not len(lines):
            return result
        with torch.autocast(images.device.type, enabled=False):  # PP-OCRv3 reads in float32
            read = self(crop_lines(images.float(), upright_boxes(lines)))
        return result.index_copy(0, lines.image_index.to(images.device, non_blocking=True), read)
