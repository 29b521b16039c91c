"""Tiny courses, made in a temporary folder, for the tests of the runner and of the rules."""

from __future__ import annotations

import nbformat
import pytest
import yaml

from anytext_lib.publishing import notebooks
from anytext_lib.publishing.run import RunRequest, run

PARAMETERS = "n = 2  # how many\nscale = 1.5  # of the value"


def code(source: str, *tags: str):
    """A code cell with tags."""
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def text(source: str, *tags: str):
    """A markdown cell with tags."""
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)} if tags else {})


class TinyCourse:
    """A folder of small notebooks with a profiles.yaml, and the runner on it."""

    def __init__(self, folder):
        self.folder = folder
        self.lines: list[str] = []
        folder.mkdir()
        self.profiles({"default": {"budget_seconds": 60}, "quick": {"budget_seconds": 60}})

    def profiles(self, profiles: dict, notebooks: dict | None = None) -> None:
        """Write profiles.yaml."""
        listed = {"01": "?", "02": "?"} if notebooks is None else notebooks
        content = yaml.safe_dump({"notebooks": listed, "profiles": profiles}, sort_keys=False)
        (self.folder / "profiles.yaml").write_text(content, encoding="utf-8")

    def add(self, name: str, *sources, parameters: str = PARAMETERS):
        """Write a notebook: a title, a parameters cell, an import of record, and the given cells."""
        cells = [text(f"# {name}"), code(parameters, "parameters"), code("from anytext_lib.course import record")]
        cells += [code(source) if isinstance(source, str) else source for source in sources]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        for index, cell in enumerate(notebook.cells):
            cell.id = f"cell-{index}"
        path = self.folder / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    def run(self, **options) -> int:
        """Run the course on the CPU; the lines it said are kept in `said`."""
        self.lines.clear()
        request = RunRequest(**{"folder": self.folder, "device": "cpu"} | options)
        return run(request, say=lambda *parts, **_: self.lines.append(" ".join(map(str, parts))))

    @property
    def said(self) -> str:
        """What the last run said."""
        return "\n".join(self.lines)

    def output(self, name: str, profile: str = "default"):
        """The executed notebook of a run."""
        return notebooks.read(self.folder.parent / "build" / "notebooks" / profile / f"{name}.ipynb")

    def baselines(self, profile: str = "default") -> dict:
        """The baselines file of a profile on the CPU."""
        return yaml.safe_load((self.folder / "baselines" / f"{profile}.cpu.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def course(tmp_path) -> TinyCourse:
    """An empty course in a folder whose name has a space and braces, as people's folders do."""
    root = tmp_path / "my course {x}"
    root.mkdir()
    return TinyCourse(root / "notebooks")


@pytest.fixture
def cells():
    """The two makers of cells: (code, text)."""
    return code, text
