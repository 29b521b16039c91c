"""Characters that the recogniser cannot read: named by every command, and left out of CTC on request."""

from types import SimpleNamespace

import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.losses import Objective
from anytext_lib.losses.terms import TermError, ctc, ctc_loss
from anytext_lib.ocr import PPOCRv3Recognizer
from anytext_lib.ocr.recogniser import pretrained_charset
from anytext_lib.ocr.unreadable import named, readable, unreadable
from tests.unit.generation_model import lively_model
from tests.unit.written_data import data_set, fit

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def test_characters_are_those_of_the_dictionary():
    charset = pretrained_charset()
    assert readable() == {*charset.characters, " "} and len(readable()) == 6624
    assert set(map(chr, range(0x20, 0x7F))) <= readable()
    for text in ("Tea \u8336", "\u092e\u200d\u0928 \u092e", "Cafe\u0301", "\u03a3\u00a0\u0430"):
        assert list(unreadable([text])) == charset.unknown(text)
    assert unreadable(["\u0430\u0430", "\u0430b", "ab"]) == {"\u0430": 2}
    assert named("\u0430b\u200d", 2) == "'\u0430' (U+0430), 'b' (U+0062) and 1 more"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(192, 64, 1)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def values(monkeypatch):
    """CTC's values of the lines of each step of training."""
    seen, whole = [], Objective.__call__

    def spy(self, *arguments, **options):
        found = whole(self, *arguments, **options)
        seen.append(found.terms["ctc"].lines.tolist())
        return found

    monkeypatch.setattr(Objective, "__call__", spy)
    return seen


@pytest.mark.parametrize("choice, costs", [("space", [1, 1, 1]), ("skip_characters", [1, 1, 0]),
                                           ("skip_lines", [1, 0, 0])])
def test_unknown_characters_can_be_left_out_of_ctc(tmp_path, values, choice, costs):
    path = data_set(tmp_path, ["Tea 24", "Tea शब्द", "مرحبا"])
    assert fit(tmp_path, path, "--loss_beta", "0.001", "--ctc_unknown", choice, "--data.max_lines", "3") == 0
    assert [value > 0 for value in values[0]] == list(map(bool, costs))


def test_what_ctc_reads_without_unknown_characters():
    """The loss without them is that of the text without them; of no line there is no loss, and no gradient."""
    reader = PPOCRv3Recognizer.from_pretrained()
    logits = torch.randn(2, 40, len(reader.charset), generator=torch.manual_seed(0), requires_grad=True)
    for texts, plain in ((["Tea शब्द", "مرحبا"], ["Tea ", None]), (["Te\u200ca", "Tea"], ["Tea", "Tea"])):
        step = SimpleNamespace(seen=SimpleNamespace(logits=logits), lines=SimpleNamespace(texts=texts),
                               instruments=SimpleNamespace(recognizer=reader))
        found = ctc(step, unknown="skip_characters")
        wanted = [0.0 if text is None else float(ctc_loss(logits[i : i + 1], [reader.charset.encode(text)]))
                  for i, text in enumerate(plain)]
        assert found.tolist() == pytest.approx(wanted)
        gradient, = torch.autograd.grad(found.sum(), logits)
        assert [bool(row.any()) for row in gradient] == [text is not None for text in plain]
    with pytest.raises(TermError, match="choose one of space, skip_characters, skip_lines"):
        ctc(step, unknown="forget")


def test_generate_and_edit_name_the_characters_that_cannot_be_read(model, tmp_path, capsys):
    common = ["--model", model, "--out", str(tmp_path), "--device", "cpu", "--seed", "3"]
    assert main(["generate", *common, "--line", "Tea", "--line", "น้ำ", "--line", "茶"]) == 0
    said = capsys.readouterr().err
    assert "line 2 ('น้ำ'): the recogniser of the losses (PP-OCRv3) cannot read 'น' (U+0E19), '้' (U+0E49)" in said
    assert "line 1" not in said and "line 3" not in said
    assert main(["edit", str(tmp_path / "picture_3.png"), *common, "--line", "{text: 'Σ', box: [9, 9, 90, 40]}"]) == 2
    assert "no font of the course" in capsys.readouterr().err
    assert main(["edit", str(tmp_path / "picture_3.png"), *common, "--line", "{text: 'ا', box: [9, 9, 90, 40]}"]) == 0
    assert "cannot read 'ا' (U+0627)" in capsys.readouterr().err
