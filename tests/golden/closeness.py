"""How far a number is from the stored one, and how far it may be; each comparison can be written down.

With ANYTEXT_GOLDEN_REPORT naming a file, every comparison appends a line of JSON to it: test, what, error, tolerance
(both where their ratio is worst) and share (that ratio). `make portable` collects the shares on other processors.
"""

from __future__ import annotations

import json
import os

import numpy as np


def assert_close(found, wanted, rtol: float = 0.0, atol: float = 0.0, what: object = "") -> None:
    """Assert |found - wanted| <= atol + rtol |wanted| everywhere; NaN equals NaN. Arrays, tensors or numbers."""
    found, wanted = _array(found), _array(wanted)
    assert found.shape == wanted.shape or wanted.ndim == 0, f"{what}: shapes {found.shape} and {wanted.shape}"
    np.testing.assert_array_equal(np.isnan(found), np.isnan(np.broadcast_to(wanted, found.shape)), err_msg=str(what))
    error = np.where(np.isnan(found) | (found == wanted), 0.0, np.abs(found - wanted))
    allowed = np.broadcast_to(atol + rtol * np.abs(wanted), error.shape)
    share = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
    worst = np.unravel_index(share.argmax(), share.shape) if share.size else None
    if worst is None:
        return
    entry = {"what": str(what), "error": float(error[worst]), "tolerance": float(allowed[worst]),
             "share": float(share[worst])}
    if report := os.environ.get("ANYTEXT_GOLDEN_REPORT"):
        test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
        with open(report, "a", encoding="utf-8") as file:
            file.write(json.dumps({"test": test, **entry}) + "\n")
    stored = np.broadcast_to(wanted, found.shape)[worst]
    place = tuple(map(int, worst))
    assert share[worst] <= 1, (f"{what}: off by {error[worst]:.3g} at {place}, where {allowed[worst]:.3g} are allowed; "
                               f"found {found[worst]:.9g}, stored {stored:.9g}")


def _array(value) -> np.ndarray:
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, dtype=np.float64)
