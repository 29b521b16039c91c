"""MathJax from the package sphinx-mathjax-offline, which carries MathJax 3.2.2: one file that needs no network.

Of its forms the site takes tex-svg.js: it draws with paths, so that no fonts have to be loaded from beside it.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from anytext_lib.errors import CourseError
from anytext_lib.files import file_hash

DISTRIBUTION = "sphinx-mathjax-offline"
INSIDE = "sphinx-mathjax-offline/static/mathjax/tex-svg.js"
NAME = "tex-svg.js"
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"
"""Of es5/tex-svg.js in the npm package mathjax 3.2.2, with which the file in the Python package agrees."""


def install(folder: Path) -> str:
    """Copy MathJax into ``folder`` and return the file's name.

    Raises:
        CourseError: the package is not installed, or its file is another than the one that was checked.
    """
    try:
        source = Path(str(metadata.distribution(DISTRIBUTION).locate_file(INSIDE)))
        found = file_hash(source)
    except (metadata.PackageNotFoundError, OSError) as error:
        raise CourseError(f"the package {DISTRIBUTION}, which brings MathJax, is not installed: "
                          "run `make setup`, or `pip install -e '.[site]'`.") from error
    if found != SHA256:
        raise CourseError(f"{source} is not the MathJax 3.2.2 that the site was made for (SHA-256 {found}, "
                          f"expected {SHA256}): install {DISTRIBUTION} 0.0.2 again.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / NAME)
    return NAME
