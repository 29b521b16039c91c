"""What the commands say while they work, on standard error: warnings and progress, one plain line each."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from anytext_lib.generation.request import RequestWarning

EVERY = 5.0  # seconds between two lines about the progress


@contextmanager
def plain_warnings(program: str) -> Iterator[None]:
    """Show each RequestWarning once, as one line without the place in the code that it came from."""
    told = set()

    def show(message, category, *place) -> None:
        if not issubclass(category, RequestWarning):
            return before(message, category, *place)
        if str(message) not in told:
            told.add(str(message))
            print(f"{program}: warning: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RequestWarning)
        before, warnings.showwarning = warnings.showwarning, show
        yield


class Progress:
    """Tells on standard error, every few seconds, how far a job is."""

    def __init__(self, title: str):
        self.title, self.told = title, time.monotonic()

    def __call__(self, progress) -> None:
        if time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            print(f"anytext: {self.title}: step {progress.step} of {progress.steps}", file=sys.stderr, flush=True)
