"""notebooks/TEACHERS.md: every notebook and exercise is in it, its links live, its minutes are those of the course."""

from __future__ import annotations

import re

import pytest

from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.exercises import exercises_of
from anytext_lib.publishing.links import dead_links

PAGE = notebooks_folder() / "TEACHERS.md"
TEXT = PAGE.read_text(encoding="utf-8")
BOOKS = {book.number: book for book in notebooks.find_books(notebooks_folder())}
COSTS = provenance.load_costs(notebooks_folder())
MINUTES_OF_AN_EXERCISE, WORDS_A_MINUTE, LINES_A_MINUTE = 15, 120, 30
ROW = re.compile(rf"^\| ({notebooks.NUMBER}) \| \[[^]]+\]\((\S+)\) \| (\d+) min \| ([\d.]+) min \| "
                 r"\[(\d+)\]\(exercises/(\S+)\) \|$", re.MULTILINE)
ROWS = {row[1]: row for row in ROW.finditer(TEXT)}
EXERCISES = {number: [exercise.name for exercise in exercises_of(notebooks.read(book.path))]
             for number, book in BOOKS.items()}
COURSES = re.findall(rf"^\| ([^|]+) \| ({notebooks.NUMBER}(?:, {notebooks.NUMBER})*) \| ([^|]+) \| (\d+) \|$", TEXT,
                     re.MULTILINE)


def section(number: str) -> str:
    """What is said of one notebook under "What goes wrong"."""
    return re.split(r"^#+ ", TEXT.split(f"### [{number} · ")[1], flags=re.MULTILINE)[0]


def test_every_notebook_has_its_row():
    assert list(ROWS) == list(BOOKS)
    for number, book in BOOKS.items():
        assert ROWS[number][2] == ROWS[number][6] == book.path.name
        assert int(ROWS[number][5]) == len(EXERCISES[number])


@pytest.mark.parametrize("number", BOOKS)
def test_every_exercise_has_its_mistakes(number):
    told = re.findall(r"^- `(\w+)`: (.+)\.$", section(number), re.MULTILINE)
    assert [name for name, _ in told] == EXERCISES[number]
    assert all(len(mistakes) > 20 for _, mistakes in told)
    assert f"]({BOOKS[number].path.name})" in section(number) and "Expected, and not so: that " in section(number)


def test_no_exercise_is_named_that_does_not_exist():
    named = set(re.findall(rf"`({notebooks.NUMBER}_\w+)`", TEXT))
    assert named == {name for names in EXERCISES.values() for name in names}


@pytest.mark.parametrize("number", BOOKS)
def test_minutes_are_those_of_the_course(number):
    notebook = notebooks.read(BOOKS[number].path)
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(len(cell.source.splitlines()) for cell in notebooks.code_cells(notebook))
    assert int(ROWS[number][3]) == pytest.approx(words / WORDS_A_MINUTE + lines / LINES_A_MINUTE, abs=5)
    measured = COSTS[number]["default.cpu"]["cpu_seconds"] / 60
    assert float(ROWS[number][4]) == pytest.approx(measured, rel=0.5, abs=0.5)  # of whatever machine publishes


def test_courses_add_up():
    assert len(COURSES) == 18 and [when for when, *_ in COURSES[:3]] == ["half a day", "day 1", "day 2"]
    for when, numbers, named, minutes in COURSES:
        chosen = numbers.split(", ")
        possible = [name for number in chosen for name in EXERCISES[number]]
        exercises = possible if named == "all" else re.findall(r"`(\w+)`", named)
        assert set(exercises) <= set(possible), when
        reading = sum(int(ROWS[number][3]) for number in chosen)
        assert int(minutes) == reading + MINUTES_OF_AN_EXERCISE * len(exercises), when
    assert [n for _, numbers, *_ in COURSES[3:] for n in numbers.split(", ")] == list(BOOKS)
    assert int(COURSES[0][3]) <= 240 and max(int(row[3]) for row in COURSES[1:3]) <= 360


def test_every_link_leads_to_a_file_and_the_readme_leads_here():
    assert dead_links(TEXT, PAGE.parent) == []
    assert "(notebooks/TEACHERS.md)" in (project_root() / "README.md").read_text(encoding="utf-8")
