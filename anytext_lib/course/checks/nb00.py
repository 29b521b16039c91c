"""Checks of the exercises of notebook 00."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from anytext_lib.course.checks import answered, expect, expect_int, passed, result_of


def check_00_smallest_smudge(answer: float, read: Callable[[int], str], text: str) -> None:
    """`answer` is the smallest whole strength at which `read(strength)` differs from `text`."""
    answered(answer, "smallest")
    answer = int(answer) if isinstance(answer, float) and answer.is_integer() else answer
    expect_int(answer, "smallest, a whole number,")
    expect(answer >= 1, f"smallest is at least 1, not {answer}.")
    expect(answer <= 100, "So strong a smudge is not needed. Begin at 1 and go up.")
    expect(read(answer) != text, f"At strength {answer} the reader still reads {text!r}: go higher.")
    weaker = [strength for strength in range(1, answer) if read(strength) != text]
    expect(not weaker, "That is strong enough, but not the smallest: try weaker ones, from 1 upwards.")
    passed(f"at strength {answer} the reader reads {read(answer)!r} for the first time")


def check_00_read_picture(function: Callable) -> None:
    """`function(scene)` gives the texts that are read; probed with scenes whose annotation is not what stands there."""
    from anytext_lib.scenes.rendering import render_scene

    def read(scene):
        return result_of("read_picture", function, scene,
                         hints={"not iterable": "scene_batch takes a *list* of scenes: scene_batch([scene])."})

    honest = render_scene(21, (192, 320), texts=["Harbour", "Lemon"], background="flat", effects=False, invalid=0)
    lying = replace(honest, lines=[replace(line, text="Nonsense") for line in honest.lines])
    got = read(honest)
    expect(isinstance(got, list | tuple) and all(isinstance(text, str) for text in got),
           "Return a list of strings, one for each line: reader.read(...) gives it.")
    got = list(got)
    expect(len(got) == 2, f"The scene has 2 valid lines, you return {len(got)} texts. Are they those of the scene that "
                          "is given (and not `crops` or `lines` of section 1)?")
    other = list(read(lying))
    expect("Nonsense" not in other, "You return the annotation. Here is a scene whose annotation lies: read it.")
    expect(got == other, "Your answer depends on the annotated texts. Take only the corners of the lines.")
    wanted = [line.text for line in honest.lines]
    expect(sorted(got) == sorted(wanted), f"The picture says {wanted}, you read {got}. Were the lines cut out of the "
                                          "scene that was given, and the pictures in [-1, 1]?")
    expect(got == wanted, "The texts are right, but not in the order of the scene's lines.")
    spoilt = replace(honest, lines=[honest.lines[0], replace(honest.lines[1], valid=False)])
    expect(len(read(spoilt)) == 1, "Only the valid lines are wanted: scene_batch leaves the others out.")
    passed("you read what stands in the picture, not what is said about it")
