"""Planned experiments: the plan's file, matching by the orthogonal part, and the whole command, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from anytext_lib.cli import main as command_line
from anytext_lib.data.batch import collate
from anytext_lib.errors import CourseError, OptionError
from anytext_lib.experiments.letter_mask import LetterMask
from anytext_lib.experiments.matching import Pull, pull
from anytext_lib.experiments.paired import clustered_interval, crossed_interval, holm, student_interval
from anytext_lib.experiments.picture_distance import kernel_distance
from anytext_lib.experiments.plan import SIMPLE, read_table
from anytext_lib.experiments.straight_path import StraightPathTraining
from anytext_lib.experiments.study import PLANS, read_study
from anytext_lib.experiments.study_stages import fixed_weights, require_disjoint
from anytext_lib.experiments.verdict import decide
from anytext_lib.losses import Objective, Term
from anytext_lib.losses.terms import ctc, ocr
from anytext_lib.models import AnyText2Model
from anytext_lib.models.config import read_config
from anytext_lib.randomness import draw_noise
from anytext_lib.scenes.scene_dataset import SceneDataset
from anytext_lib.training.module import AnyText2Training

# the plan


def test_the_course_plan_decides_everything_beforehand():
    study = read_study("writing_losses")
    compared = [arm for arm in study.arms.values() if arm.baseline]
    assert study.sizes.seeds >= 10 and 2 / 2**study.sizes.seeds * len(compared) <= 0.01, "a small p must be reachable"
    assert len(study.starts) >= 3 and study.sizes.seeds % len(study.starts) == 0
    assert len(study.ladder.rates) == len(study.ladder.strengths), "an equal budget for all"
    assert all(arm.hypothesis and arm.label for arm in study.arms.values())
    named = {term["name"].rpartition(".")[2] for arm in study.arms.values() for term in arm.terms}
    assert named == {"simple", "ocr", "ctc", "local", "sequence", "region", "LetterMask", "detected"}
    weightings = {term["weighting"] for arm in study.arms.values() for term in arm.terms if "weighting" in term}
    assert weightings == {"uniform", "abar", "snr", "min_snr", "gate"}
    assert [fixed_weights(study.arms[name]) for name in ("reader_only", "local_published")] == [[0, 1], [1, 0.01]]
    assert not set(study.ladder.seeds) & set(range(study.sizes.seeds)), "tuning must not use the seeds of the result"


@pytest.mark.parametrize("change, message", [
    (lambda plan: plan["arms"]["ctc"].pop("hypothesis"), "hypothesis"),
    (lambda plan: plan["arms"]["ctc"].update(ladder="steps"), "arm ctc: its ladder is rates, strengths or none"),
    (lambda plan: plan["arms"]["ctc"].update(baseline="nothing"), "arm ctc: it names an arm 'nothing'"),
    (lambda plan: plan["arms"]["ctc"].update(baseline="ocr_abar"), "'ocr_abar' has a baseline itself"),
    (lambda plan: plan["sizes"].update(stepps=3), "Sizes has no 'stepps'"),
    (lambda plan: plan.pop("ladder"), "is no plan of an experiment: 'ladder'"),
])
def test_a_wrong_plan_is_refused(tmp_path, change, message):
    plan = yaml.safe_load((PLANS / "writing_losses.yaml").read_text(encoding="utf-8"))
    change(plan)
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    with pytest.raises(CourseError, match=message):
        read_study("writing_losses", tmp_path / "plan.yaml")


# matching


def gram(*vectors):
    stacked = torch.tensor(vectors, dtype=torch.float64)
    return (stacked @ stacked.T).tolist()


def test_strength_is_the_orthogonal_part_by_hand():
    """g = (2, 0), d = (1, 1): p = 1/2, o = 1/2; with weight 2 the sum is (4, 2), of slope 1/2."""
    each = Pull(gram((2, 0), (1, 1)), gram((2, 0), (1, 1)))
    assert each.matched(0.5) == pytest.approx([2.0])
    assert each.cosine([1, 2]) == pytest.approx(4 / 20**0.5)
    assert each.matched(1.0) is None, "the slope of d itself is 1: no weight gets beyond it"


def test_a_term_that_pulls_back_reaches_every_strength():
    """d = (-1, 1), w = 1: (2, 0) + (-1, 1) = (1, 1), of slope 1."""
    assert Pull(gram((2, 0), (-1, 1)), []).matched(1.0) == pytest.approx([1.0])


def test_two_terms_get_equal_orthogonal_parts():
    """g = e1, d1 = 10 e2, d2 = e3: the sum of the units (e2 + e3) is sqrt 2 long."""
    weights = Pull(gram((1, 0, 0), (0, 10, 0), (0, 0, 1)), []).matched(0.5)
    assert weights == pytest.approx([0.05 / 2**0.5, 0.5 / 2**0.5])


def test_what_cannot_differ_is_the_same():
    parallel = gram((2, 0), (6, 0.01))
    assert Pull(parallel, parallel).same([1, 1], 0.998) and Pull(gram((2, 0), (6, 0)), []).matched(0.1) is None
    assert not Pull(parallel, gram((0.1, 0), (0.1, 0.1))).same([1, 1], 0.998), "in the mean over batches it differs"


@pytest.fixture(scope="module")
def batch():
    scenes = SceneDataset(seed=5, epoch_length=2)
    return collate([scenes[i] for i in range(2)])


@pytest.fixture(scope="module")
def v_model(tmp_path_factory):
    """The folder of a tiny random model that predicts v."""
    folder = tmp_path_factory.mktemp("models")
    config = read_config("tiny")
    config["scheduler"]["prediction_type"] = "v_prediction"
    (folder / "tiny_v.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    model = AnyText2Model.from_config(folder / "tiny_v.json", tokenizer="bytes")
    for block in model.writenet.controlnet_down_blocks:  # no longer silent
        torch.nn.init.normal_(block.weight, std=0.05)
    for name in ("early", "late"):
        model.save_pretrained(folder / name)
    return folder


def test_a_matched_objective_has_its_strength(v_model, batch):
    """The gradient of the whole objective, taken anew, has the asked slope against the diffusion gradient."""
    terms = [SIMPLE, Term("ocr", ocr), Term("ctc", ctc)]
    module = AnyText2Training(AnyText2Model.from_pretrained(v_model / "early"), terms=terms)
    trained = [p for p in module.parameters() if p.requires_grad]
    latents = module.encode(batch)

    def step():
        return module.predict(batch, latents, draw_noise(0, 0, range(2), latents.shape[1:]), torch.tensor([200, 600]))

    weights = pull([step], terms, trained).matched(0.4)
    whole = Objective([Term(term.name, term.function, weight)
                       for term, weight in zip(terms, [1.0, *weights], strict=True)])
    g, total = (torch.cat([x.flatten() for x in torch.autograd.grad(objective(step()).loss, trained, allow_unused=True)
                           if x is not None]).double() for objective in (Objective([SIMPLE]), whole))
    along = total @ g / g.norm()
    assert float((total.square().sum() - along**2).sqrt() / along) == pytest.approx(0.4, rel=1e-3)


# the straight path


def test_a_right_velocity_is_a_right_flow(v_model, batch, monkeypatch):
    module = StraightPathTraining(AnyText2Model.from_pretrained(v_model / "early"))
    latents, times = module.encode(batch), torch.tensor([100, 800])
    noise = draw_noise(0, 0, range(2), latents.shape[1:])

    def velocity(noisy, at, conditions):
        abar = module.model.alphas_cumprod[at].reshape(-1, 1, 1, 1)
        torch.testing.assert_close(noisy, abar.sqrt() * latents + (1 - abar).sqrt() * noise)
        return abar.sqrt() * noise - (1 - abar).sqrt() * latents

    monkeypatch.setattr(module.model, "forward", velocity)
    step = module.predict(batch, latents, noise, times)
    torch.testing.assert_close(step.output, step.target, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(step.x0, latents, atol=1e-4, rtol=1e-4)
    assert (step.timesteps - times).abs().max() < 4, "of 1000: the nearest level of the network"
    assert torch.allclose(step.abar, module.model.alphas_cumprod[module.level(times)], atol=1e-4)


def test_the_straight_path_needs_v(batch):
    with pytest.raises(OptionError, match="predicts v, this one predicts epsilon"):
        StraightPathTraining(AnyText2Model.from_config("tiny", tokenizer="bytes")).prepare()


# measures


def test_letters_are_found_where_they_stand():
    scenes = SceneDataset(seed=3, epoch_length=3)
    batch = collate([scenes[i] for i in range(3)])
    term = LetterMask()
    mask = term.mask(batch)
    assert mask.shape == (3, 1, 64, 192) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert (mask * (1 - batch.positions)).sum() < 0.02 * mask.sum()
    for i in range(3):
        color = scenes.scene(i).lines[0].color
        far = (127.5 * (batch.images[i] + 1) - torch.tensor(color).reshape(3, 1, 1)).abs().mean(0)
        assert far[mask[i, 0] == 1].mean() < 0.5 * far[(mask[i, 0] == 0) & (batch.positions[i, 0] == 1)].mean()
    assert term.cache.misses == 3 and torch.equal(term.mask(batch), mask) and term.cache.misses == 3


def test_distance_is_about_zero_for_pictures_of_one_kind_and_large_for_others():
    rng = np.random.default_rng(0)
    one, two, three = rng.normal(size=(60, 12)), rng.normal(size=(90, 12)), rng.normal(size=(60, 12)) + 0.8
    same, other = kernel_distance(one, two), kernel_distance(three, two)
    assert abs(same.value) < 3 * same.error and other.value > 5 * other.error
    assert kernel_distance(two, two).value < 0, "no picture is paired with itself, but for the copies in the other set"
    with pytest.raises(ValueError, match="at least two rows"):
        kernel_distance(one[:1], two)


def test_crossed_interval_by_hand():
    """Means of rows -1 and 1, of columns 0: all that varies is between the rows."""
    values, rows, columns = [-1, -1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]
    by_rows = clustered_interval(values, rows)
    assert crossed_interval(values, rows, columns) == pytest.approx(by_rows), "the pairs and the columns say less"
    own = crossed_interval(values, range(4), range(4))
    assert own == pytest.approx(student_interval(values)), "where each value is a group of its own"
    with pytest.raises(ValueError, match="as many groups of both kinds"):
        crossed_interval(values, rows, [0])


def test_crossed_interval_covers_where_the_others_do_not():
    rng, hits = np.random.default_rng(1), {"crossed": 0, "rows": 0}
    for _ in range(300):
        seeds, words = rng.normal(size=12), rng.normal(size=20)
        values = (seeds[:, None] + words + rng.normal(size=(12, 20))).flatten()
        rows, columns = np.repeat(range(12), 20), np.tile(range(20), 12)
        for name, found in (("crossed", crossed_interval(values, rows, columns)),
                            ("rows", clustered_interval(values, rows))):
            hits[name] += found.low <= 0 <= found.high
    assert hits["crossed"] / 300 > 0.92 > hits["rows"] / 300


def test_holm_by_hand():
    assert holm({"a": 0.03, "b": 0.01, "c": 0.02}) == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("values, p, verdict", [
    ([0.1, 0.11, 0.12], 0.01, "gain"), ([0.1, 0.11, 0.12], 0.2, "undecided"), ([-0.1, -0.11, -0.12], 0.01, "loss"),
    ([0.001, -0.001, 0.002], 0.9, "no gain"), ([-0.2, 0.3, 0.1], 0.9, "undecided"),
])
def test_the_rule_of_decision(values, p, verdict):
    assert decide(student_interval(values), p, 0.03) == verdict


def test_a_word_of_two_splits_stops_the_experiment():
    require_disjoint({"train": ["a"], "validation": ["b"], "test": ["c"]})
    with pytest.raises(CourseError, match="words of train are words of test as well: c"):
        require_disjoint({"train": ["a", "c"], "validation": ["b"], "test": ["c"]})


# the command

PLAN = {
    "starts": {"early": "mini2/early", "late": "mini2/late"},
    "sizes": {"seeds": 2, "steps": 1, "batch": 2, "scenes": 4, "words": 3, "tune_words": 2, "invented": 0.6,
              "style": "mixed", "probes": 1, "probe_times": [500], "calibration": 1, "sampling_steps": 2, "timed": 1,
              "pictures": 2, "updates": 1, "groups": 1, "per_scene": 2, "reward_steps": 2, "reward_trained": 1},
    "quick": {"words": 2},
    "ladder": {"rates": [1e-4, 1e-3], "strengths": [0.2, 1.0], "seeds": [100, 101], "kept": 1, "dropped": 0.05},
    "decision": {"margin": 0.03, "family": 0.05, "same": 0.998, "listens": 0.01},
    "arms": {
        "none": {"label": "none", "hypothesis": "the yardstick", "ladder": "rates", "watched": True},
        "time": {"label": "time", "hypothesis": "as none", "steps": "ocr", "ladder": "none"},
        "ocr": {"label": "OCR", "hypothesis": "a gain", "terms": [{"name": "ocr", "weighting": "abar"}],
                "published": "a figure of a paper"},
        "feeble": {"label": "feeble", "hypothesis": "refused", "ladder": "none",
                   "terms": [{"name": "region", "weight": 1e-6}]},
        "reward": {"label": "reward", "hypothesis": "it rises", "kind": "reward", "ladder": "rates"},
    },
}


@pytest.mark.slow
def test_the_command_walks_all_stages_and_goes_on_after_a_kill(v_model, tmp_path, capsys):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN), encoding="utf-8")
    out = tmp_path / "out"
    words = ["course", "experiment", "writing_losses", "--plan", str(tmp_path / "plan.yaml"), "--models", str(v_model),
             "--out", str(out), "--device", "cpu"]

    def parts(kind):
        return {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob(f"{kind}-*.json")}

    assert command_line([*words, "--stage", "summarise"]) != 0
    assert "run the stages in their order" in capsys.readouterr().err

    killed = subprocess.Popen([sys.executable, "-m", "anytext_lib.cli", *words, "--stage", "tune"], env=os.environ,
                              cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    while not parts("calibrate") and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    before = parts("calibrate")
    assert command_line([*words, "--stage", "tune"]) == 0
    after = parts("calibrate")
    assert {name: after[name] for name in before} == before and len(after) == 2 * 4, "nothing is made twice"
    told = capsys.readouterr().out
    assert "feeble: refused: it cannot differ, its gradient has a cosine of" in told and "cosine with the" in told
    first = {name for name in parts("tune") if name.endswith("-100.json")}
    assert {name.split("-")[1] for name in first} == {"none", "ocr", "reward"} and len(first) == 6
    again = [name.split("-")[1] for name in {*parts("tune")} - first]
    assert sorted(again) == ["none", "ocr", "reward"], "the best one gets another seed"

    assert command_line([*words, "--stage", "run", "--seeds", "1"]) == 0
    weights = sorted(path.name for path in (out / "weights").iterdir())
    assert "ocr-0.safetensors" in weights and not parts("measure")
    (out / "weights" / "ocr-0.safetensors").unlink()
    assert command_line([*words, "--seeds", "1"]) == 0, "lost weights are made again"
    assert not list((out / "weights").iterdir())
    assert {"measure-start-0.json", "measure-ocr-0.json"} <= set(parts("measure"))
    told = capsys.readouterr().out
    assert "1 of 2 seeds" in told and "none before seed 2 is in" in told and "a figure of a paper" in told

    done = parts("measure")
    assert command_line([*words, "--jobs", "2"]) == 0
    assert {name: made for name, made in parts("measure").items() if name in done} == done
    rows, origin = read_table(out / "summary.parquet")
    by_arm = {row["arm"]: row for row in rows}
    assert set(by_arm) == {"start", *PLAN["arms"]} and by_arm["ocr"]["seeds"] == 2
    assert by_arm["feeble"]["verdict"].startswith("refused") and by_arm["feeble"]["ned"] is None
    assert by_arm["ocr"]["verdict"] in ("gain", "no gain", "loss", "undecided") and by_arm["ocr"]["cpu_seconds"] > 0
    assert by_arm["ocr"]["strength"] in (0.2, 1.0) and by_arm["ocr"]["cosine"] == pytest.approx(
        (1 + by_arm["ocr"]["strength"] ** 2) ** -0.5, abs=1e-3), "the cosine is that of the strength's angle"
    assert by_arm["time"]["steps"] > 1 == by_arm["none"]["steps"], "equal time, more steps"
    assert origin["plan"] == (tmp_path / "plan.yaml").read_text(encoding="utf-8") and len(origin["controls"]) == 3
    runs, _ = read_table(out / "runs.parquet")
    assert {(row["start"], row["seed"]) for row in runs if row["arm"] == "ocr"} == {("early", 0), ("late", 1)}
    readings, _ = read_table(out / "readings.parquet")
    split = json.loads((out / "parts" / "words.json").read_text())
    held_out = {row["wanted"].lower() for row in readings}
    assert held_out <= set(split["test"]) and not held_out & {*split["train"], *split["validation"]}
    pictures, _ = read_table(out / "pictures.parquet")
    assert len([row for row in pictures if row["arm"] == "ocr"]) == 2 and (out / "pictures.png").stat().st_size > 1000

    assert command_line([*words, "--profile", "quick"]) != 0
    assert "results of other sizes (profile, words)" in capsys.readouterr().err


def test_options_of_planned_experiments_are_refused_elsewhere(capsys):
    assert command_line(["course", "experiment", "objectives", "--stage", "tune"]) != 0
    assert "are for planned experiments" in capsys.readouterr().err


def test_missing_checkpoints_are_told(tmp_path, capsys):
    assert command_line(["course", "experiment", "writing_losses", "--models", str(tmp_path)]) != 0
    assert "the checkpoint 'early' of the plan" in capsys.readouterr().err
    assert command_line(["course", "experiment", "writing_losses", "--stage", "train"]) != 0
    assert "there is no stage 'train'" in capsys.readouterr().err
