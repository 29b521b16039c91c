"""Where the course's files are: the repository is the place, whatever folder one works in."""

from __future__ import annotations

from pathlib import Path

from anytext_lib.errors import CourseError


def project_root() -> Path:
    """The folder of the repository, which holds `notebooks/`.

    Raises CourseError when the package was installed without the repository around it.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "notebooks").is_dir():
        raise CourseError(
            f"No folder 'notebooks' beside the package in {root}. The course needs the whole repository: "
            "clone it and install it with `pip install -e .` (or run `make course` in it)."
        )
    return root


def notebooks_folder(folder: str | Path | None = None) -> Path:
    """The folder of notebooks: `folder` if given (it must exist), else the repository's."""
    if folder is None:
        return project_root() / "notebooks"
    path = Path(folder).resolve()
    if not path.is_dir():
        raise CourseError(f"The folder of notebooks {path} does not exist. Give an existing one with --folder.")
    return path
