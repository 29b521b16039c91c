"""Which optional part of the package a module that is not installed comes with."""

from __future__ import annotations

import re

from anytext_lib.errors import AnyTextError

PROJECT = "anytext-loss-course"
PACKAGES = {"cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml", "google": "onnx", "cycler": "matplotlib",
            "IPython": "ipython", "traitlets": "ipywidgets"}
"""Packages by the module that they bring, where the names differ."""


class NotInstalledError(AnyTextError, ImportError):
    """A package is missing that an extra of this one brings; the message names both."""


def not_installed(module: str | None) -> NotInstalledError | None:
    """The error to report where ``import module`` failed; None for a module that no extra brings.

    Args:
        module: its dotted name, as in ``ModuleNotFoundError.name``.
    """
    from importlib.metadata import PackageNotFoundError, requires
    from importlib.util import find_spec

    top = (module or "").partition(".")[0]
    if not top or find_spec(top) is not None:  # it is there, but not the part of it
        return None
    package = PACKAGES.get(top, top.replace("_", "-"))
    try:
        wanted = requires(PROJECT) or []
    except PackageNotFoundError:  # a folder on PYTHONPATH
        return None
    for requirement in wanted:
        name, extra = re.match(r"([\w.-]+).*?(?:extra == .(\w+).)?$", requirement).groups()
        if name == package and extra:
            return NotInstalledError(f"the package {package} is not installed; it comes with the extra {extra!r}: "
                                     f"pip install '{PROJECT}[{extra}]'")
    return None
