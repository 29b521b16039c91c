"""Beyond the papers: policy gradients, features of several stages, matched weightings, and the whole command."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from anytext_lib.course.lab import sd_alphas_cumprod
from anytext_lib.data import TextLines
from anytext_lib.errors import CourseError
from anytext_lib.experiments import beyond
from anytext_lib.experiments.beyond import STAGES
from anytext_lib.experiments.plan import ExperimentPlan, read_table, weights_row
from anytext_lib.experiments.rewards import (
    Decision,
    group_advantages,
    log_probability,
    ned_rewards,
    policy_loss,
    sample_decisions,
    step_moments,
)
from anytext_lib.generation.denoise import ddim_sample
from anytext_lib.losses import layered_ocr_loss
from anytext_lib.losses.terms import LayerError
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import PPOCRv3Recognizer
from tests.unit.in_process import in_this_process

ABAR = sd_alphas_cumprod()


def generators():
    return [torch.Generator().manual_seed(i) for i in range(2)]


def wobble(x, t):
    return 0.3 * x.sin() + t / 5000


def test_decisions_are_those_of_the_sampler():
    noise = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(9))
    found, made = sample_decisions(wobble, noise, ABAR, 6, 0.7, generators())
    wanted = ddim_sample(wobble, noise, ABAR, 6, eta=0.7, generators=generators())
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(made[0].x, noise) and torch.equal(made[-1].drawn, found)
    assert all(torch.equal(a.drawn, b.x) for a, b in zip(made, made[1:], strict=False))


def test_no_noise_no_decision():
    with pytest.raises(ValueError, match="without noise"):
        sample_decisions(wobble, torch.zeros(1, 4, 2, 2), ABAR, 2, 0.0, generators())


def test_log_probability_is_the_gaussians():
    x, mean, sigma = torch.randn(3, 2, 4), torch.randn(3, 2, 4), 0.6
    exact = torch.distributions.Normal(mean, sigma).log_prob(x).flatten(1).mean(dim=1)
    constant = -math.log(sigma) - 0.5 * math.log(2 * math.pi)
    assert torch.allclose(log_probability(x, mean, sigma) + constant, exact, atol=1e-5)


def test_drawn_steps_scatter_by_sigma():
    x = torch.randn(4000, 1, 1, 1)
    mean, sigma = step_moments(torch.zeros_like(x), x, 0.4, 0.6, 1.0)
    assert sigma == pytest.approx(((1 - 0.6) / (1 - 0.4) * (1 - 0.4 / 0.6)) ** 0.5)
    assert torch.allclose(mean, 0.6**0.5 * x / 0.4**0.5, atol=1e-5), "no noise predicted: x0 is x rescaled"


def test_policy_gradient_raises_what_was_rewarded():
    """The network's output moves so that the mean step comes closer to the rewarded image and leaves the other."""
    x = torch.zeros(2, 1, 2, 2)
    drawn = torch.stack([torch.ones(1, 2, 2), -torch.ones(1, 2, 2)])
    decision = Decision(500, x, drawn, 0.4, 0.6)
    output = torch.zeros(2, 1, 2, 2, requires_grad=True)
    policy_loss(output, decision, torch.tensor([1.0, -1.0]), 1.0).backward()
    after, _ = step_moments(output.detach() - output.grad, x, 0.4, 0.6, 1.0)
    before, _ = step_moments(output.detach(), x, 0.4, 0.6, 1.0)
    nearer = (drawn - after).abs() < (drawn - before).abs()
    assert nearer[0].all() and not nearer[1].any()


def test_policy_gradient_is_the_gradient_of_the_expected_reward():
    """One Gaussian step and the reward r(x) = x: d E[r] / d mean = 1."""
    count, drawn_from = 40_000, torch.Generator().manual_seed(0)
    output = torch.zeros(1, 1, 1, 1, requires_grad=True)
    x = torch.zeros(count, 1, 1, 1)
    mean, sigma = step_moments(output.expand(count, -1, -1, -1), x, 0.4, 0.6, 1.0)
    drawn = (mean + sigma * torch.randn(count, 1, 1, 1, generator=drawn_from)).detach()
    loss = policy_loss(output.expand(count, -1, -1, -1), Decision(0, x, drawn, 0.4, 0.6), drawn.flatten(), 1.0)
    (found,) = torch.autograd.grad(loss, output)
    (slope,) = torch.autograd.grad(mean.mean(), output)
    assert found.item() == pytest.approx(-slope.item(), rel=0.05)


def test_advantages_compare_within_a_scene():
    found = group_advantages(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    assert torch.allclose(found, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]), atol=1e-3)


def test_rewards_are_read_scene_by_scene():
    class Fixed:
        def read(self, crops):
            return ["CAT", "CAR", "DOG", ""][: len(crops)]

    quads = torch.tensor([[[0.0, 0], [30, 0], [30, 20], [0, 20]]]).expand(2, -1, -1)
    lines = TextLines(torch.tensor([0, 1]), quads, ["CAT", "DOG"], ["Latin"] * 2)
    found = ned_rewards(torch.zeros(4, 3, 32, 64), lines, Fixed(), 2)
    assert torch.allclose(found, torch.tensor([[1.0, 2 / 3], [1.0, 0.0]]), atol=1e-4)


@pytest.fixture(scope="module")
def reader():
    return PPOCRv3Recognizer.from_pretrained()


def test_several_layers_count_alike(reader):
    generator = torch.Generator().manual_seed(0)
    true, other = (torch.rand(2, 3, 48, 64, generator=generator) * 2 - 1 for _ in range(2))
    a, b = reader.feature_maps(other), reader.feature_maps(true)
    wanted = sum((a[s] - b[s]).square().flatten(1).mean(dim=1) / b[s].square().mean() for s in STAGES) / len(STAGES)
    assert torch.allclose(layered_ocr_loss(a, b, STAGES), wanted, rtol=1e-4)
    scales = {name: 2 * float(b[name].square().mean()) for name in STAGES}
    assert torch.allclose(layered_ocr_loss(a, b, STAGES, scales), wanted / 2, rtol=1e-4)
    with pytest.raises(LayerError, match="no layer 'block99': choose from .*neck"):
        layered_ocr_loss(a, b, ("block99",))


def test_matched_weights_pull_alike():
    ladder = [{"t": t, "neck": 1 + t / 10, "multi": 2 + t / 5} for t in (5, 300, 700, 950)]
    found = beyond.matched_alphas(ABAR, ladder, 0.25)
    assert found["abar"] == pytest.approx(0.25) and found["multi"] == pytest.approx(0.125)
    times, lengths = [row["t"] for row in ladder], [row["neck"] for row in ladder]
    for name, weighting in beyond.WEIGHTINGS.items():
        pull = found[name] * beyond.root_mean_square(weighting(ABAR.double()).numpy(), times, lengths)
        assert pull == pytest.approx(0.25 * beyond.root_mean_square(ABAR.numpy(), times, lengths), rel=1e-4)
    assert found["snr"] < found["abar"] < found["min_snr"], "a larger weighting needs a smaller factor"


def test_mean_over_timesteps_is_exact_for_a_constant():
    assert beyond.root_mean_square(np.full(1000, 2.0), [0, 999], [3.0, 3.0]) == pytest.approx(6.0)


def test_trials_are_unique_lists_of_terms():
    known = {"alphas": dict.fromkeys((*beyond.WEIGHTINGS, "multi"), 0.5), "mean_squares": dict.fromkeys(STAGES, 1.0)}
    made = {trial.name: trial.terms(beyond.SIZES, known) for trial in beyond.TRIALS}
    assert len(made) == len(beyond.TRIALS) and list(made)[0] == "none"
    assert [term.name for term in made["reader_only"] if term.weight_at(None)] == ["ocr", "ctc"]
    assert made["gate"][1].weighting is beyond.WEIGHTINGS["gate"] and made["multi"][1].per_line
    assert weights_row(made["region_20"])["region_weight"] == 20
    assert next(t for t in beyond.TRIALS if t.name == "reader_long").steps(beyond.SIZES, known) == 160


def test_unknown_profile_is_refused(tmp_path):
    with pytest.raises(CourseError, match="no profile 'huge'"):
        beyond.main("huge", tmp_path, None, "cpu", 1)


@pytest.mark.slow
def test_the_command_runs(tmp_path, monkeypatch):
    """Four trials and the reward, one seed, one step, on a tiny random model."""
    AnyText2Model.from_config("tiny", tokenizer="bytes").save_pretrained(tmp_path / "tiny")
    sizes = replace(beyond.SIZES, seeds=1, steps=1, batch=2, scenes=2, words=2, probes=1, sampling_steps=2,
                    ladder=(100, 900), pictures=1, updates=1, groups=1, per_scene=2, reward_steps=2,
                    reward_trained=1, starts=(("random", str(tmp_path / "tiny")),))
    monkeypatch.setitem(beyond.PROFILES, "test", sizes)
    kept = [trial for trial in beyond.TRIALS if trial.name in ("none", "multi", "region_5", "reader_only")]
    monkeypatch.setattr(beyond, "TRIALS", kept)
    monkeypatch.setattr(ExperimentPlan, "run_all", in_this_process)
    assert beyond.main("test", tmp_path / "out", None, "cpu", 1) == 0
    rows, origin = read_table(tmp_path / "out" / "runs.parquet")
    by_arm = {row["arm"]: row for row in rows}
    assert set(by_arm) == {"start", "reward", *(trial.name for trial in kept)}
    assert by_arm["multi"]["loss_alpha"] > 0 and by_arm["region_5"]["region_weight"] == 5
    assert by_arm["none"]["loss_alpha"] == by_arm["region_5"]["loss_alpha"] == 0
    assert origin["experiment"] == "beyond" and all(0 <= row["trainer_ned"] <= 1 for row in rows)
    ladder, _ = read_table(tmp_path / "out" / "ladder.parquet")
    assert [row["t"] for row in ladder] == [100, 900] and all(row["neck"] > 0 < row["multi"] for row in ladder)
    rewards, _ = read_table(tmp_path / "out" / "rewards.parquet")
    pictures, _ = read_table(tmp_path / "out" / "pictures.parquet")
    assert len(rewards) == 1 and {row["arm"] for row in pictures} == {"start", "none", "reader_only", "reward"}
