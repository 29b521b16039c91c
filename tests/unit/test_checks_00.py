"""The exercises of notebook 00: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

from functools import cache

from anytext_lib.course.checks.nb00 import check_00_read_picture, check_00_smallest_smudge
from anytext_lib.data import to_tensor
from anytext_lib.ocr import PPOCRv3Recognizer, crop_lines
from anytext_lib.scenes import scene_batch
from anytext_lib.scenes.rendering import render_scene
from tests.unit.exercise_tables import Exercise, exercise_tests


@cache
def reader():
    return PPOCRv3Recognizer.from_pretrained()


def smallest(answer):
    check_00_smallest_smudge(answer, lambda strength: "Pattern" if strength < 4 else "Patern", "Pattern")


def read(scene):
    images, lines, _ = scene_batch([scene])
    return reader().read(crop_lines(images, lines))


def read_the_same_line_by_line(scene):
    images, lines, _ = scene_batch([scene])
    return [reader().read(crop[None])[0] for crop in crop_lines(images, lines)]


def read_the_picture_itself(scene):
    lines = scene_batch([scene])[1]
    return tuple(reader().read(crop_lines(to_tensor(scene.image), lines)))


def read_invalid_lines_too(scene):
    lines = scene_batch([render_scene(21, (192, 320), texts=["Harbour", "Lemon"], background="flat", effects=False,
                                      invalid=0)])[1]
    return reader().read(crop_lines(to_tensor(scene.image), lines))


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(smallest, [4, next(s for s in range(1, 9) if s >= 4), 4.0], [
        ("whole number", 4.5), ("whole number", "4"), ("at least 1", 0), ("not needed", 1000), ("go higher", 3),
        ("not the smallest", 6)], a_function=False),
    Exercise(check_00_read_picture, [read, read_the_same_line_by_line, read_the_picture_itself], [
        ("list of strings", lambda scene: " ".join(read(scene))),
        ("you return 1 texts", lambda scene: read(scene)[:1]),
        ("annotation lies", lambda scene: [line.text for line in scene.lines]),
        ("annotation lies", lambda scene: scene_batch([scene])[1].texts),
        ("not in the order", lambda scene: read(scene)[::-1]),
        ("The picture says", lambda scene: [text.lower() for text in read(scene)]),
        ("The picture says", lambda scene: [text + "!" for text in read(scene)]),
        ("Only the valid lines", read_invalid_lines_too),
        ("depends on the annotated", lambda s: read(s) if s.lines[0].text != "Nonsense" else ["a", "b"]),
        (r"a \*list\* of scenes: scene_batch\(\[scene\]\)", lambda scene: scene_batch(scene)),
    ]),
)
