"""The frozen recogniser, folded for reading from the form in which it is stored."""

from __future__ import annotations

import copy

import torch

from anytext_lib.ocr.recogniser import PPOCRv3Recognizer
from anytext_lib.ocr.trainable import TrainableRecognizer


class FrozenReader:
    """Keeps a folded copy of ``stored``, made anew when that is moved, converted or loaded.

    The copy is always float32 (half precision spoils the features of short words) and is no child module, so that it
    takes no part in a model's state dict.
    """

    def __init__(self, stored: TrainableRecognizer):
        self._stored = [stored]  # in a list, so that it is not registered twice
        self._key: tuple | None = None
        self._copy: PPOCRv3Recognizer | None = None

    def get(self) -> PPOCRv3Recognizer:
        """The reader for the present weights."""
        (stored,) = self._stored
        key = tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, tensor.device)
                    for tensor in stored.state_dict().values())
        if key != self._key:
            with torch.no_grad():
                self._copy, self._key = stored.recognizer().float(), key
        return self._copy

    def __deepcopy__(self, memo) -> FrozenReader:
        return FrozenReader(copy.deepcopy(self._stored[0], memo))

    def __getstate__(self) -> dict:
        return {"_stored": self._stored, "_key": None, "_copy": None}
