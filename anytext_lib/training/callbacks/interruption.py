"""SIGTERM or Ctrl-C: finish the optimizer step, save, stop."""

from __future__ import annotations

import signal
import threading

import lightning.pytorch as pl

from anytext_lib.errors import AnyTextError


class Interrupted(AnyTextError):
    """The run was asked to stop, and its state was saved; the message says where and how to go on.

    ``exit_status`` is 128 + the signal, or + SIGTERM where another process was asked.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_status = 128 + number


class StopRequest:
    """Remembers that a signal asked the run to stop; the processes of a run agree on it."""

    def __init__(self, *signals: signal.Signals):
        self.signals = signals or (signal.SIGTERM, signal.SIGINT)
        self.received: int | None = None

    def listen(self) -> None:
        """Take the signals from now on, in place of Lightning, which would stop without saving."""
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, self._remember)

    def _remember(self, number: int, frame) -> None:
        self.received = number
        if number == signal.SIGINT:
            print("\nstopping after this step; press Ctrl-C again to stop at once", flush=True)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def agreed(self, trainer: pl.Trainer) -> bool:
        """Whether any process was asked; to be called by all of them at the same step."""
        asked = self.received is not None
        return asked if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(asked, all=False)
