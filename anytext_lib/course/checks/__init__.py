"""Feedback on exercises: a hint when an answer is not right yet, a tick when it is.

The module `nbNN` holds the checks of notebook NN, each a function `check_NN_name(answer)` that raises `NotYet`
with a hint, or calls `passed`. Where the answer is a function, `result_of` calls it, so that whatever goes wrong
inside becomes a short hint as well.
"""

from __future__ import annotations

import dis
import linecache
import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any


class NotYet(AssertionError):
    """The answer is not right yet; the message is a hint. Jupyter shows the hint alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of the traceback."""
        return [f"✗ Not yet: {self}"]


class Unanswered(NotYet):
    """There is no answer yet: the exercise is open."""


def is_unanswered(answer: Any) -> bool:
    """Whether `answer` is what an untouched exercise leaves: Ellipsis or None."""
    return answer is Ellipsis or answer is None


def answered(answer: Any, what: str = "the answer") -> Any:
    """`answer` itself; raises Unanswered when it is still missing. `what` names it in the hint."""
    if is_unanswered(answer):
        doubt = "" if answer is ... else " (If you did: is a `return` missing?)"
        raise Unanswered(f"{what} is still missing: replace `...` in the cell above by your own code and run it again."
                         + doubt)
    return answer


def result_of(name: str, function: Callable, *arguments: Any, hints: Mapping[str, str] | None = None) -> Any:
    """What the learner's `function` returns for `arguments`; `name` is what the exercise calls it.

    `hints` maps a part of an error's message to the hint to give when the function raises it.

    Raises:
        NotYet: the function was not written yet, forgets its `return`, or raises an error; the hint says which,
            and where in the learner's code.
    """
    answered(function, name)
    expect(callable(function), f"{name} is a {type(function).__name__}; a function is wanted, made with `def` or "
                               "`lambda`.")
    try:
        result = function(*arguments)
    except NotYet:
        raise
    except Exception as error:
        message = str(error)
        hint = next((hint for part, hint in (hints or {}).items() if part in message), None)
        raise NotYet(hint or _what_happened(name, function, error)) from error
    if result is None and not is_untouched(function):
        raise NotYet(f"{name} returns nothing (None): is a `return` missing? `print` shows a value and does not return "
                     "it.")
    return answered(result, f"what {name} returns")


def is_untouched(function: Callable) -> bool:
    """Whether the body of `function` holds nothing but `...`, `pass` or a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and all(step.opname in {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
                                    for step in dis.get_instructions(code))


def _what_happened(name: str, function: Callable, error: Exception) -> str:
    """The error in one line: its type, its message and the line of the learner's code."""
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    where = linecache.getline(own, frames[-1].lineno).strip() if frames else ""
    words = (str(error).strip().splitlines() or ["no message"])[0]
    words = words if len(words) <= 160 else words[:157] + "..."
    return f"{name} raises {type(error).__name__}" + (f" in the line `{where}`" if where else "") + f": {words}"


def expect(condition: Any, hint: str) -> None:
    """Raise NotYet with `hint` unless `condition` holds."""
    if not bool(condition):
        raise NotYet(hint)


def passed(message: str) -> None:
    """Print the tick that ends a check."""
    print(f"✓ {message}")


def expect_tensor(got: Any, shape: tuple[int, ...], hint: str) -> None:
    """Raise NotYet unless `got` is a tensor of `shape`; the hint tells what came instead."""
    import torch

    expect(isinstance(got, torch.Tensor), f"{hint} Not a {type(got).__name__}: a tensor is wanted.")
    expect(tuple(got.shape) == tuple(shape),
           f"{hint} Yours has the shape {tuple(got.shape)}, wanted is {tuple(shape)}.")


def expect_value(got: Any, right: Any, mistakes: Mapping[str, Any], otherwise: str, rtol: float = 1e-5,
                 atol: float = 1e-8) -> None:
    """Raise NotYet unless `got` is `right`: with the hint for the mistake that gives `got`, else with `otherwise`.

    `mistakes` holds what typical wrong answers give, numbers or tensors as `right` is, by the hint for it.
    """
    if _close(got, right, rtol, atol):
        return
    for hint, wrong in mistakes.items():
        expect(not _close(got, wrong, rtol, atol), hint)
    raise NotYet(otherwise)


def _close(got: Any, wanted: Any, rtol: float, atol: float) -> bool:
    if not hasattr(wanted, "shape") or not hasattr(got, "detach"):
        return math.isclose(got, wanted, rel_tol=rtol, abs_tol=atol)
    return got.shape == wanted.shape and got.to(wanted).allclose(wanted, rtol, atol)


def as_number(got: Any, what: str) -> float:
    """`got` as a float; raises NotYet when it is no single number."""
    answered(got, what)
    try:
        return float(got)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"{what} should be one number, not a {type(got).__name__}.") from None


def expect_int(got: Any, what: str) -> None:
    """Raise NotYet unless `got` is a plain int (no bool, tensor or float)."""
    expect(isinstance(got, int) and not isinstance(got, bool),
           f"Return {what} as an int, not a {type(got).__name__}: int(...) or .item() makes one.")
