"""What goes wrong with a measurement that was asked for."""

from __future__ import annotations

from anytext_lib.errors import AnyTextError

OTHER = "another folder by --output"


class EvaluationError(AnyTextError, ValueError):
    """A measurement was asked for that cannot be made; the message says why and what to do."""


class MissingFileError(AnyTextError, FileNotFoundError):
    """A folder, a picture or an annotation file is not there; the message names it."""
