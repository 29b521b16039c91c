r"""A reward on what a judge reads: policy gradients through the steps of a sampler, no gradient through the reader.

With eta > 0 each step of DDIM is a draw from a Gaussian, so a whole image is a sequence of decisions with

.. math:: \log p_\theta(x_{t'} | x_t) = -\frac{\lVert x_{t'} - \mu_\theta(x_t) \rVert^2}{2 \sigma_t^2} + const

and the expected reward has the gradient of E[A sum_t log p].  A is the advantage: the reward, less the mean reward of
other images for the same scene.  Source: Black et al. 2023 (DDPO); the groups are those of GRPO (Shao et al. 2024).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from anytext_lib.data.batch import collate
from anytext_lib.diffusion import ddim_levels, step_moments
from anytext_lib.evaluation import edit_distance_score
from anytext_lib.experiments.fine_tuning import build_module, read_words, scores_of, training_scenes
from anytext_lib.experiments.plan import Sizes
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge, crop_lines
from anytext_lib.randomness import NOISE, generator
from anytext_lib.training.module import AnyText2Training

REWARDED = 77  # stream of random numbers


class Decision(NamedTuple):
    """One step of the sampler: from ``x`` (B, C, h, w) at timestep ``t`` to ``drawn``; abar before and after it."""

    t: int
    x: torch.Tensor
    drawn: torch.Tensor
    abar: float
    abar_next: float


def log_probability(drawn: torch.Tensor, mean: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return (B,) the samples' log density without its constant, as the mean over elements (as in DDPO's code)."""
    return -((drawn - mean).square() / (2 * sigma**2)).flatten(1).mean(dim=1)


@torch.no_grad()
def sample_decisions(predict: Callable[[torch.Tensor, int], torch.Tensor], noise: torch.Tensor, abar: torch.Tensor,
                     steps: int, eta: float, generators: Sequence[torch.Generator],
                     prediction_type: str = "epsilon") -> tuple[torch.Tensor, list[Decision]]:
    """Latents and the decisions that led to them; the same numbers as ``generation.sampling.ddim_sample``.

    Args:
        predict: (x_t, t) -> the network's output. ``generators``: one a sample, on the CPU.

    Raises:
        ValueError: eta is not in (0, 1]: without noise there is nothing to decide.
    """
    if not 0 < eta <= 1:
        raise ValueError(f"eta lies in (0, 1], got {eta}: a step without noise has no log probability")
    x, made = noise, []
    for t, before, after in ddim_levels(abar, steps):
        mean, sigma = step_moments(predict(x, t), x, before, after, eta, prediction_type)
        fresh = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
        drawn = mean + sigma * fresh
        made.append(Decision(t, x, drawn, before, after))
        x = drawn
    return x, made


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards (P, K) of K images for each of P scenes, each against the others of its scene, in standard deviations.

    A scene whose images all get the same reward teaches nothing: 0.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4)


def policy_loss(output: torch.Tensor, decision: Decision, advantages: torch.Tensor, eta: float,
                prediction_type: str = "epsilon") -> torch.Tensor:
    """Minus the mean over images of advantage (B,) times log probability of one decision."""
    mean, sigma = step_moments(output, decision.x, decision.abar, decision.abar_next, eta, prediction_type)
    return -(advantages.to(mean) * log_probability(decision.drawn, mean, sigma)).mean()


def ned_rewards(images: torch.Tensor, lines, judge, per_scene: int) -> torch.Tensor:
    """(P, K): similarity of what the judge reads to the wanted word, 1 for the word itself; lines: one a scene."""
    rows = lines.select([i for i in range(len(lines)) for _ in range(per_scene)])
    own = type(rows)(torch.arange(len(images)), rows.quads, rows.texts, rows.languages)
    read = judge.read(crop_lines(images, own))
    values = [edit_distance_score(found, wanted) for found, wanted in zip(read, rows.texts, strict=True)]
    return torch.tensor(values).reshape(-1, per_scene)


def sample_group(profile: Sizes, model: AnyText2Model, batch, seed: int, update: int):
    """Images (P K, 3, H, W) of K samples a scene, the decisions, and the conditions they were drawn for."""
    with torch.no_grad():
        told = model.conditions(batch).repeat(profile.per_scene).detach()
        control = model.control(told)
    generators = [generator(seed, NOISE, REWARDED, update, i) for i in range(len(told))]
    noise = torch.stack([torch.randn(told.masked_latents.shape[1:], generator=g) for g in generators]).to(model.device)

    def predict(x: torch.Tensor, t: int) -> torch.Tensor:
        return model(x, torch.full((len(x),), t, device=x.device), told, control=control)

    latents, made = sample_decisions(predict, noise, model.alphas_cumprod, profile.reward_steps, profile.eta,
                                     generators, model.prediction_type)
    with torch.no_grad():
        return model.decode(latents).float().clamp(-1, 1), made, told


def update_policy(profile: Sizes, model: AnyText2Model, optimizer, made, told, advantages: torch.Tensor,
                  update: int) -> None:
    """One optimizer step on some of the decisions, spread over the path; one decision at a time in memory."""
    chosen = made[update % 2::max(1, len(made) // profile.reward_trained)][:profile.reward_trained]
    optimizer.zero_grad(set_to_none=True)
    for decision in chosen:
        output = model(decision.x, torch.full((len(told),), decision.t, device=model.device), told)
        loss = policy_loss(output, decision, advantages, profile.eta, model.prediction_type)
        (loss / len(chosen)).backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()


def train_on_reward(profile: Sizes, module: AnyText2Training, seed: int, reader) -> list[dict[str, Any]]:
    """Train by policy gradients for ``profile.updates`` updates; the reward and its spread within scenes at each."""
    model = module.model.eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=profile.reward_rate)
    data, curve = training_scenes(profile), []
    for update in range(profile.updates):
        first = (seed * profile.updates + update) * profile.groups
        batch = collate([data[(first + i) % len(data)] for i in range(profile.groups)]).to(model.device)
        images, made, told = sample_group(profile, model, batch, seed, update)
        rewards = ned_rewards(images, batch.lines, reader, profile.per_scene)
        update_policy(profile, model, optimizer, made, told, group_advantages(rewards).flatten(), update)
        curve.append({"seed": seed, "update": update, "reward": float(rewards.mean()),
                      "spread": float(rewards.std(dim=1, unbiased=False).mean())})
    return curve


def reward_run(profile: Sizes, seed: int, reader_profile: Sizes,
               device: str) -> tuple[dict[str, Any], AnyText2Training]:
    """Train on what the first judge reads.

    Returns:
        scores of held-out words by the readers of ``reader_profile`` and the reward's curve; the module, trained.
    """
    module, begin = build_module(profile, seed, device), time.perf_counter()
    curve = train_on_reward(profile, module, seed, Judge.from_name(profile.judges[0]))
    seconds = time.perf_counter() - begin
    rows = read_words(reader_profile, module.model)
    return {"arm": "reward", "seed": seed, "steps": profile.updates, "seconds": seconds,
            **scores_of(rows, reader_profile), "rewards": curve}, module
