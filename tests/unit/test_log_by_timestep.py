"""Losses by timestep: what `anytext fit` logs, the figure of `anytext course timesteps`, and the slider."""

from __future__ import annotations

import ipywidgets
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.course import explain_log
from anytext_lib.course.explore import FRONT_END_VARIABLES
from anytext_lib.course.log_by_timestep import TAG, by_timestep
from anytext_lib.course.training_log import Curve, LogError, read_log
from anytext_lib.training.callbacks.timestep_curves import bin_name


def fit(folder, *options):
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(folder), "--data.val", "null", "--save_steps", "0",
                 "--quiet", *options]) == 0
    return folder / "tiny"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps with both reading terms, the bins logged after step 2 and at the end."""
    return fit(tmp_path_factory.mktemp("runs"), "--loss_alpha", "1", "--loss_beta", "0.1", "--max_steps", "3",
               "--timesteps.every", "2")


def test_bins_hold_what_the_mean_curves_are_the_means_of(tmp_path):
    """One step of two samples: each lies in a bin of its own, or both in one; the lines likewise."""
    log = read_log(fit(tmp_path, "--loss_alpha", "1", "--max_steps", "1", "--timesteps.every", "1", "--bins", "1000"))
    for key in ("sim", "ocr"):
        parts = [curve.values[0] for tag, curve in log.items() if (match := TAG.fullmatch(tag)) and match["key"] == key]
        assert 1 <= len(parts) <= 2 and np.mean(parts) == pytest.approx(log[f"t/{key}"].values[0], rel=1e-5)
    assert any(tag.startswith("t/ocr_raw/t") for tag in log)


def test_bins_are_logged_at_their_steps_and_at_the_end(run):
    log = read_log(run)
    steps = {int(step) for tag, curve in log.items() if TAG.fullmatch(tag) for step in curve.steps}
    keys = {TAG.fullmatch(tag)["key"] for tag in log if TAG.fullmatch(tag)}
    assert steps == {2, 3} and keys == {"sim", "ocr", "ctc", "ocr_raw", "ctc_raw", "samples"}
    assert sum(curve.values.sum() for tag, curve in log.items() if tag.startswith("t/samples/")) >= 3 * 2
    assert [bin_name(i, 10, 1000) for i in (0, 9)] == ["t000-099", "t900-999"]
    assert [bin_name(i, 3, 1000) for i in range(3)] == ["t000-333", "t334-666", "t667-999"]


def test_the_command_writes_a_figure_and_words(run, tmp_path, capsys):
    assert main(["course", "timesteps", str(run), "--out", str(tmp_path / "figure.png")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "timesteps 0-299. Little noise." in said and "diffusion loss" in said and "OCR term" in said
    shares = [int(word.rstrip("%,")) for word in said.split() if word.rstrip(",").endswith("%")]
    assert len(shares) == 9 and sum(shares) == pytest.approx(100, abs=5)
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size[0] > 1500 and np.array(figure.convert("RGB")).std(axis=(0, 1)).min() > 20
    assert main(["course", "timesteps", str(run / "tensorboard"), "--step", "2", "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "figure.png").read_bytes()


def test_a_run_of_udifftext_by_its_own_terms(tmp_path, capsys):
    assert main(["fit", "--config", "udifftext_mini.yaml", "--runs", str(tmp_path), "--data.val", "null", "--quiet",
                 "--trainer.max_steps", "1", "--data.batch_size", "4", "--words.every", "0", "--save_steps", "0"]) == 0
    log = read_log(tmp_path / "udifftext_mini")
    assert {found["key"] for tag in log if (found := TAG.fullmatch(tag))} == {"diff", "local", "local_raw", "samples"}
    weighted, plain = (np.array([curve.values[0] for tag, curve in sorted(log.items()) if tag.startswith(f"t/{key}/t")])
                       for key in ("local", "local_raw"))
    np.testing.assert_allclose(weighted, 0.01 * plain, rtol=1e-5)
    capsys.readouterr()
    assert main(["course", "timesteps", str(tmp_path / "udifftext_mini"), "--out", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().out
    assert "denoising loss" in said and "local attention loss" in said and "reader" not in said


@pytest.mark.parametrize(("arguments", "message"), [
    (["gone"], "no log gone: give the folder of a run"),
    ([".", "--out", "a.jpg"], "name it something.png"),
    (["."], "holds no TensorBoard log"),
])
def test_wrong_requests_are_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["course", "timesteps", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_step_beyond_the_run_and_a_log_without_bins(run, tmp_path, capsys):
    assert main(["course", "timesteps", str(run), "--step", "4", "--out", str(tmp_path / "a.png")]) == 2
    assert "--step is one of the run, 0 to 3, got 4" in capsys.readouterr().err
    with pytest.raises(LogError, match="unless --timesteps.every is 0"):
        by_timestep({"t/sim": Curve(np.arange(3), np.ones(3)), "t/samples/t000-999": Curve(np.arange(3), np.ones(3))})
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), "--bins", "0"]) == 2
    assert "bins at least 1" in capsys.readouterr().err


def test_stages_are_means_of_consecutive_logs():
    log = {"t/sim/t000-499": Curve(np.array([20, 40, 60, 80]), np.array([4.0, 2.0, 1.0, 3.0])),
           "t/sim/t500-999": Curve(np.array([20, 80]), np.array([8.0, 6.0]))}
    found = by_timestep(log, 2)
    assert found.steps == [40, 80] and found.bins == [(0, 499), (500, 999)]
    assert found.values["sim"].tolist() == [[3, 8], [2, 6]]
    assert found.span(1) == "steps 41-80"


def test_a_page_without_kernel_holds_figure_and_words_and_a_front_end_a_slider(run, monkeypatch):
    InteractiveShell.instance()
    for name in FRONT_END_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with capture_output() as plain:
        explain_log(run)
    kinds = [set(output.data) for output in plain.outputs]
    assert "image/png" in kinds[0] and "Much noise." in plain.outputs[-1].data["text/markdown"]
    assert not any("application/vnd.jupyter.widget-view+json" in kind for kind in kinds)

    shown = []
    monkeypatch.setenv(FRONT_END_VARIABLES[0], "notebook")
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: shown.extend(things))
    explain_log(run)
    box = next(thing for thing in shown if isinstance(thing, ipywidgets.VBox))
    slider, view = box.children
    before = view.value
    slider.value = 0
    assert slider.options[0] == ("steps 1-2", 0) and view.value != before and "steps 1-2" in view.value
