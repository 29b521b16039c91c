"""Feedback on exercises: a hint when an answer is not right yet, a tick when it is.

The module `nbNN` holds the checks of notebook NN, each a function `check_NN_name(answer)` that raises `NotYet`
with a hint, or calls `passed`.
"""

from __future__ import annotations

from typing import Any


class NotYet(AssertionError):
    """The answer is not right yet; the message is a hint. Jupyter shows the hint alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of the traceback."""
        return [f"✗ Not yet: {self}"]


def is_unanswered(answer: Any) -> bool:
    """Whether `answer` is what an untouched exercise leaves: Ellipsis or None."""
    return answer is Ellipsis or answer is None


def answered(answer: Any, what: str = "the answer") -> Any:
    """`answer` itself; raises NotYet when it is still missing. `what` names it in the hint."""
    if is_unanswered(answer):
        raise NotYet(f"{what} is still missing: replace `...` in the cell above by your own code and run it again.")
    return answer


def expect(condition: Any, hint: str) -> None:
    """Raise NotYet with `hint` unless `condition` holds."""
    if not bool(condition):
        raise NotYet(hint)


def passed(message: str) -> None:
    """Print the tick that ends a check."""
    print(f"✓ {message}")
