"""The command `anytext evaluate`."""
import json

import pytest

import anytext_lib.evaluation as evaluation
from anytext_lib.cli import main
from anytext_lib.evaluation.command import add_evaluate_commands, run_evaluate
from tests.unit.evaluation_toys import GreyReader, make_folder


def evaluate(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_ocr_prints_a_table_and_what_is_not_known(tmp_path, monkeypatch, capsys):
    from anytext_lib.evaluation import ocr

    monkeypatch.setattr(ocr, "open_reader", lambda name, threads: GreyReader(["Hello", "world"]))
    path = make_folder(tmp_path, [["Hello"], ["World"]])
    assert evaluate("ocr", path, "--output", tmp_path / "out", "--recogniser", "toy", "--seed", 0) == 0
    told = capsys.readouterr().out
    assert "anytext   all       2      2      0.5000 [0.0000, 1.0000]  0.9000 [" in told
    assert "not known: sampler, checkpoint." in told and "say --sampler --checkpoint" in told
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["seed"] == 0


def test_the_losses_recogniser_is_called_no_judge(tmp_path, monkeypatch, capsys):
    from anytext_lib.evaluation import ocr

    monkeypatch.setattr(ocr, "open_reader", lambda name, threads: GreyReader(["Hello"]))
    path = make_folder(tmp_path, [["Hello"]])
    assert evaluate("ocr", path, tmp_path / "pictures", "--output", tmp_path / "out", "--recogniser", "ppocrv3") == 0
    assert "ppocrv3 is the recogniser of the losses" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["recogniser"]["independent"] is False
    assert "not an independent judge" in (tmp_path / "out" / "worst.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments, message", [
    (["ocr", "nowhere.json"], "no annotation file nowhere.json"),
    (["fid", "nowhere", "."], "there is no folder nowhere"),
    (["clip", "nowhere.json"], "no annotation file"),
    (["lpips", ".", "nowhere"], "there is no folder nowhere"),
    (["lpips", ".", ".", "--device", "tpu9"], "Unknown device 'tpu9'"),
])
def test_wrong_requests_end_with_two(arguments, message, capsys, tmp_path):
    assert evaluate(*arguments, "--output", tmp_path) == 2
    assert f"anytext evaluate {arguments[0]}: " in (told := capsys.readouterr().err) and message in told


def test_missing_weights_end_with_two(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("ANYTEXT_WEIGHTS", raising=False)
    make_folder(tmp_path, [["a"]])
    assert evaluate("fid", tmp_path / "pictures", tmp_path / "pictures", "--output", tmp_path / "out") == 2
    assert "curl -LO https://github.com/mseitzer/pytorch-fid/" in capsys.readouterr().err
    assert evaluate("clip", tmp_path / "test1k.json", "--output", tmp_path / "out") == 2
    assert "hf download openai/clip-vit-base-patch32" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_can_be_a_command_of_another_parser():
    from jsonargparse import ArgumentParser

    parser, own = ArgumentParser(), ArgumentParser()
    parser.add_subcommands().add_subcommand("evaluate", own)
    add_evaluate_commands(own)
    options = parser.parse_args(["evaluate", "fid", "nowhere", ".", "--size", "10", "20"]).evaluate
    assert options.fid.size == [10, 20]
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        run_evaluate(options)


def test_all_public_names_are_there():
    for name in evaluation.__all__:
        assert getattr(evaluation, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'evaluate_everything'"):
        _ = evaluation.evaluate_everything
