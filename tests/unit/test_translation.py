"""Prompts in other scripts: a warning, and a translator from the command line, from Python and in the application."""

import re
from pathlib import Path

import pytest

from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults, Line, Request, RequestError
from anytext_lib.generation.metadata import read_record
from anytext_lib.generation.request import Capabilities
from anytext_lib.generation.translation import foreign, translate, translated
from tests.unit.generation_model import lively_model

ROOT = Path(__file__).parents[2]
POSTER = "\u4e00\u5f20\u6d77\u62a5\uff0c\u5199\u7740\u201c\u8336 Tea\u201d"  # a poster, that says "... Tea"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(192, 64, 1)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def example(tmp_path):
    """The example of the README as a file."""
    (code,) = re.findall(r"```python\n(# translate\.py.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    path = tmp_path / "translate.py"
    path.write_text(code, "utf-8")
    return path


def generate(model, out, *arguments):
    return main(["generate", "--model", model, "--out", str(out), "--device", "cpu", "--seed", "3", *arguments])


def test_a_prompt_in_another_script_is_told_of(model, tmp_path, capsys):
    assert generate(model, tmp_path, "--prompt", POSTER, "--added-prompt", "\u0440\u0438\u0441") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the prompt and the added prompt: the caption encoder (CLIP) knows English only" in said
    assert "name a translator (--translator)" in said
    for prompt in ('caf\u00e9 "\u8336"', "na\u00efve art, 24 \u00d7 36 cm \u2019"):  # quoted, and accents
        assert generate(model, tmp_path, "--force", "--prompt", prompt) == 0
        assert "CLIP" not in capsys.readouterr().err


def test_the_example_translates_from_the_command_line(model, example, tmp_path, capsys):
    arguments = ["--prompt", POSTER, "--negative-prompt", "\u9ed1\u677f", "--translator", f"{example}:english"]
    assert generate(model, tmp_path, *arguments) == 0
    assert "CLIP" not in capsys.readouterr().err
    record = read_record(tmp_path / "picture_3.png")
    assert record["request"]["prompt"] == "a poster, that says \u201c\u8336 Tea\u201d"
    assert record["request"]["negative_prompt"] == "a blackboard"
    assert [line["text"] for line in record["request"]["lines"]] == ["\u8336 Tea"]
    plain = tmp_path / "plain"  # the same picture as of the English prompt, and again without the translator
    assert generate(model, plain, "--prompt", "a poster, that says \u201c\u8336 Tea\u201d", "--negative-prompt",
                    "a blackboard") == 0
    assert main(["generate", "--from", str(tmp_path / "picture_3.png"), "--out", str(tmp_path)]) == 0
    pictures = [path.read_bytes() for path in (tmp_path / "picture_3.png", plain / "picture_3.png",
                                               tmp_path / "picture_3_again.png")]
    assert pictures[0] == pictures[1] == pictures[2]
    assert main(["edit", str(tmp_path / "picture_3.png"), "--model", model, "--out", str(plain), "--device", "cpu",
                 "--line", "{text: Tea, box: [20, 10, 90, 40]}", *arguments]) == 0


@pytest.mark.parametrize("code, name, message", [
    (None, "english", "no translator .*name a Python file and a function"),
    ("x = 1", "english", "has no function 'english'"), ("x = 1", "x", "has no function 'x'"),
    ("1 / 0", "f", "ZeroDivisionError"),
    ("def f(text): return 'a sign'", "f", r"made 'a sign' of '.*\*': it has to keep every \*"),
    ("def f(text): return None", "f", "it has to give a text"),
    ("def f(text): raise OSError('gone')", "f", "OSError: gone"),
])
def test_a_translator_that_cannot_be_used(model, tmp_path, capsys, code, name, message):
    path = tmp_path / "mine.py"
    if code is not None:
        path.write_text(code, "utf-8")
    assert generate(model, tmp_path / "out", "--prompt", POSTER, "--translator", f"{path}:{name}") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said) and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_from_python_and_quotes_in_their_new_order():
    told = []

    def english(prompt):
        told.append(prompt)
        return "under * hangs *, 5 of them"

    found = translate("\u6d77\u62a5 \u201cOne\u201d \u300c\u4e8c\u300d * \u5f20", english)
    assert told == ["\u6d77\u62a5 * * \u5f20"] and found == "under \u201cOne\u201d hangs \u300c\u4e8c\u300d , 5 of them"
    request = Request("\u6d77\u62a5", [Line("Tea")])
    pipeline = AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 1))
    assert translated(request, pipeline.translator) is request, "no translator"
    pipeline.translator = lambda prompt: "a poster"
    (record,) = pipeline.run([request], seed=1).records
    assert record["request"]["prompt"] == "a poster"
    assert translated(Request("a poster", [Line("\u8336")]), lambda prompt: 1 / 0).prompt == "a poster"
    with pytest.raises(RequestError, match="ZeroDivisionError"):
        translated(request, lambda prompt: 1 / 0)


def test_a_model_that_knows_chinese_prompts_is_asked_in_chinese(tmp_path, capsys):
    can = Capabilities(prompts=("Chinese",))
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 1, capabilities=can)).save_pretrained(tmp_path / "model")
    assert generate(str(tmp_path / "model"), tmp_path, "--prompt", POSTER) == 0
    assert "the prompt" not in capsys.readouterr().err
    assert foreign("\u5496\u5561") and foreign("\u0445 y") and not foreign('"\u5496" caf\u00e9')


def test_the_application_translates_too():
    from anytext_lib.studio.session import Plan, Studio
    from anytext_lib.studio.sketch import Box, Sketch

    pipeline = AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 1))
    studio = Studio(pipeline)
    sketch = Sketch(96, 48, prompt="\u6d77\u62a5", places=(Box(left=6, top=6, right=80, bottom=34, text="Tea"),))
    plan = Plan(pipeline.default_settings(), seeds=(1,))
    _, told = studio.make(sketch, plan)
    assert any("CLIP" in line for line in told)
    pipeline.translator = lambda prompt: "a poster"
    (made,), told = studio.make(sketch, plan)
    assert made.record["request"]["prompt"] == "a poster" and not any("CLIP" in line for line in told)
