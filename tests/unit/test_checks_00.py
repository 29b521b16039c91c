"""The checks of notebook 00 pass the solutions and give the right hint for typical mistakes."""

from __future__ import annotations

import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb00 import check_00_read_picture, check_00_smallest_smudge
from anytext_lib.data import scene_batch
from anytext_lib.ocr import PPOCRv3Recognizer, crop_lines


@pytest.fixture(scope="module")
def read():
    reader = PPOCRv3Recognizer.from_pretrained()

    def read(scene):
        images, lines, _ = scene_batch([scene])
        return reader.read(crop_lines(images, lines))

    return read


def smudged(strength):
    return "Pattern" if strength < 4 else "Patern"


def test_solutions_pass(read, capsys):
    check_00_smallest_smudge(4, smudged, "Pattern")
    check_00_read_picture(read)
    assert capsys.readouterr().out.count("✓") == 2


def test_unsolved_copies_are_told_so():
    with pytest.raises(NotYet, match="smallest is still missing: replace `...`"):
        check_00_smallest_smudge(..., smudged, "Pattern")
    with pytest.raises(NotYet, match="still missing: replace `...`"):
        check_00_read_picture(lambda scene: None)


@pytest.mark.parametrize(("answer", "hint"), [
    (4.0, "whole number"), (0, "at least 1"), (1000, "not needed"), (3, "go higher"), (6, "not the smallest"),
])
def test_mistakes_in_the_smudge(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_00_smallest_smudge(answer, smudged, "Pattern")


def test_mistakes_in_reading(read):
    mistakes = {
        "list of strings": lambda scene: " ".join(read(scene)),
        "you return 1 texts": lambda scene: read(scene)[:1],
        "annotation lies": lambda scene: [line.text for line in scene.lines],
        "not in the order": lambda scene: read(scene)[::-1],
        "The picture says": lambda scene: [text.lower() for text in read(scene)],
        "Only the valid lines": lambda scene: ["Harbour", "Lemon"] if len(read(scene)) == 1 else read(scene),
        "depends on the annotated": lambda scene: read(scene) if scene.lines[0].text != "Nonsense" else ["a", "b"],
    }
    for hint, answer in mistakes.items():
        with pytest.raises(NotYet, match=hint):
            check_00_read_picture(answer)
