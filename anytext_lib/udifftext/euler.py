r"""Writing words by Euler sampling with guidance, and what UDiffText does with attention at that time.

Noise selection: of several noises, take the one whose first two steps attend best.  Refinement: before a step, move
the latents down the gradient of the attention,

.. math:: x \leftarrow x - a_i \nabla_x L_{aae}(x), \quad a_i = 20 \sqrt{1 - i/n}

once, and at a few steps again and again until L_aae is low enough.  Every sample of a batch has its own choice, its
own gradient and its own end, as if it were alone.  Source: UDiffText, ``sgm/modules/diffusionmodules/sampling.py``
(after Attend-and-Excite, Chefer et al. 2023).

Upstream's refinement shows the network the latents as they are, up to 14.6 times too large for it, because it leaves
c_in out; its noise selection and sampling do not.  ``scale_input=False`` is upstream's way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.diffusion import c_in, denoised, expand, sampling_timesteps, sigma_levels
from anytext_lib.randomness import NOISE, generator
from anytext_lib.udifftext.attention import MIN_SIZE, attention_focus_loss, capture_attention

if TYPE_CHECKING:
    from anytext_lib.udifftext.model import UDiffTextModel, WordConditions

Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, list[torch.Tensor]]]
"""(input (N, C, h, w), timesteps (N,), context (N, tokens, D)) -> eps (N, C, h, w) and maps, each (N, tokens, h, w)."""


class Denoiser:
    """An eps network with its noise schedule and its conditions.

    Args:
        network: see ``Network``.
        alphas_cumprod: (T,) of its schedule.
        context: (B, tokens, D) of the labels. ``unconditional``: likewise, for guidance; None means zeros, as upstream.
        guidance: D = D_u + g (D_c - D_u); 1 needs no unconditional pass.
    """

    def __init__(self, network: Network, alphas_cumprod: torch.Tensor, context: torch.Tensor,
                 unconditional: torch.Tensor | None = None, guidance: float = 5.0):
        self.network, self.context, self.guidance = network, context, guidance
        self.unconditional = torch.zeros_like(context) if unconditional is None else unconditional
        self.levels = sigma_levels(alphas_cumprod.cpu())

    def __call__(self, x: torch.Tensor, t: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Guided estimate of x0 for latents x (B, C, h, w) of the level of timestep t, and the label's maps."""
        sigma = self._sigma(x, t)
        scaled, count = expand(c_in(sigma), x) * x, len(x)
        if self.guidance == 1:
            eps, maps = self.network(scaled, self._times(x, t), self.context)
            return denoised(x, eps, sigma), maps
        both = torch.cat([self.unconditional, self.context])
        eps, maps = self.network(torch.cat([scaled, scaled]), self._times(x, t).repeat(2), both)
        plain, told = eps.chunk(2)
        return denoised(x, plain + self.guidance * (told - plain), sigma), [layer[count:] for layer in maps]

    def maps(self, x: torch.Tensor, t: int, scale_input: bool = True) -> list[torch.Tensor]:
        """Maps of one pass with the label; differentiable in x. ``scale_input``: see the module."""
        scaled = expand(c_in(self._sigma(x, t)), x) * x if scale_input else x
        return self.network(scaled, self._times(x, t), self.context)[1]

    def _sigma(self, x: torch.Tensor, t: int) -> torch.Tensor:
        return torch.full((len(x),), float(self.levels[t]), dtype=x.dtype, device=x.device)

    @staticmethod
    def _times(x: torch.Tensor, t: int) -> torch.Tensor:
        return torch.full((len(x),), t, dtype=torch.int64, device=x.device)


@dataclass(frozen=True)
class Target:
    """Where the text is to stand, ``mask`` (B, 1, H, W), and which characters there are, ``valid`` (B, J)."""

    mask: torch.Tensor
    valid: torch.Tensor
    kernel_size: int = 3
    sigma: float = 1.0
    min_size: int = MIN_SIZE

    def loss(self, maps: Iterable[torch.Tensor]) -> torch.Tensor:
        """L_aae of each sample, (B,); the lower the better."""
        return attention_focus_loss(maps, self.mask, self.valid, self.kernel_size, self.sigma, self.min_size)


@dataclass(frozen=True)
class NoiseChoice:
    """``noise`` (B, C, h, w), the best of each sample; ``losses`` (K, B) of all; ``chosen`` (B,) which it was."""

    noise: torch.Tensor
    losses: torch.Tensor
    chosen: torch.Tensor


@torch.no_grad()
def select_noise(denoiser: Denoiser, candidates: Iterable[torch.Tensor], target: Target, steps: int = 2) -> NoiseChoice:
    """For each sample the noise whose short sampling run ends with the most negative L_aae.

    Args:
        candidates: K standard normal noises (B, C, h, w), upstream 10; one after the other, so that an iterator saves
            memory. ``steps``: Euler steps of each run; the loss is that of the last one.

    Raises:
        ValueError: no candidate.
    """
    best, least, losses = None, None, []
    for noise in candidates:
        loss = _short_run(denoiser, noise, target, steps)
        losses.append(loss)
        if best is None:
            best, least = noise.clone(), loss
        better = loss < least
        best = torch.where(expand(better, best), noise, best)
        least = torch.where(better, loss, least)
    if best is None:
        raise ValueError("there is no candidate to choose among: give at least one noise")
    stacked = torch.stack(losses)
    return NoiseChoice(best, stacked, stacked.argmin(dim=0))


def _short_run(denoiser: Denoiser, noise: torch.Tensor, target: Target, steps: int) -> torch.Tensor:
    found: list[torch.Tensor] = []
    euler_sample(denoiser, noise, steps, watch=lambda i, x, maps: found.append(target.loss(maps)))
    return found[-1]


@dataclass(frozen=True)
class Refinement:
    """When and how far latents are moved.

    Attributes:
        target: what is to be attended.
        strength: a_i = strength sqrt(1 - i / steps).
        thresholds: for each step at which the move is repeated, the L_aae to be reached.
        most: updates at such a step at most.
        scale_input: False leaves c_in out, as upstream.
    """

    target: Target
    strength: float = 20.0
    thresholds: dict[int, float] = field(default_factory=lambda: dict(zip(
        (5, 9, 13, 17, 21, 25), (-0.50, -0.56, -0.62, -0.68, -0.74, -0.80), strict=True)))
    most: int = 21
    scale_input: bool = True

    def step_size(self, i: int, steps: int) -> float:
        """a_i of step i of ``steps``."""
        return self.strength * math.sqrt(1 - i / steps)

    def __call__(self, denoiser: Denoiser, x: torch.Tensor, t: int, i: int, steps: int) -> RefinedLatents:
        """The latents of step i, moved; see ``refine_latents``."""
        threshold = self.thresholds.get(i)
        return refine_latents(denoiser, x, t, self.target, self.step_size(i, steps), threshold,
                              self.most if threshold is not None else 1, self.scale_input)


@dataclass(frozen=True)
class RefinedLatents:
    """``x`` (B, C, h, w); L_aae of each sample before its first and before its last update (B,); ``updates`` (B,)."""

    x: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    updates: torch.Tensor


def refine_latents(denoiser: Denoiser, x: torch.Tensor, t: int, target: Target, step_size: float,
                   threshold: float | None = None, most: int = 1, scale_input: bool = True) -> RefinedLatents:
    """Move latents down the gradient of L_aae.

    A sample is moved at least once; then it stops as soon as the loss that its last move started from is not above
    ``threshold``, or after ``most`` moves (None: after one).

    Args:
        x: (B, C, h, w), not scaled by c_in. ``t``: its timestep. ``step_size``: a_i.
    """
    x, moving = x.detach(), torch.ones(len(x), dtype=torch.bool, device=x.device)
    updates, first, last = torch.zeros_like(moving, dtype=torch.int64), None, None
    for _ in range(most if threshold is not None else 1):
        loss, gradient = _focus_gradient(denoiser, x, t, target, scale_input)
        x = torch.where(expand(moving, x), x - step_size * gradient, x)
        updates = updates + moving
        first = loss if first is None else first
        last = loss if last is None else torch.where(moving, loss, last)
        moving = moving & (loss > (math.inf if threshold is None else threshold))
        if not moving.any():
            break
    return RefinedLatents(x, first, last, updates)


def _focus_gradient(denoiser: Denoiser, x: torch.Tensor, t: int, target: Target,
                    scale_input: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """L_aae of each sample (B,), and the gradient of each with respect to its own latents."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        loss = target.loss(denoiser.maps(leaf, t, scale_input))
        gradient = torch.autograd.grad(loss.sum(), leaf)[0]
    return loss.detach(), gradient


def euler_sample(denoiser: Denoiser, noise: torch.Tensor, steps: int = 50, refinement: Refinement | None = None,
                 watch: Callable[[int, torch.Tensor, list[torch.Tensor]], None] | None = None) -> torch.Tensor:
    """Latents (B, C, h, w) from standard normal noise of that shape, by Euler's method in sigma, as upstream.

    Args:
        steps: upstream 50, for which the steps of a refinement are meant.
        refinement: None leaves the latents alone.
        watch: told, for each step, its number, the latents it started from (after refinement) and the label's maps.
    """
    times = sampling_timesteps(steps, len(denoiser.levels))
    sigmas = [float(denoiser.levels[t]) for t in times] + [0.0]
    x = noise * math.sqrt(1 + sigmas[0] ** 2)
    for i, t in enumerate(times):
        if refinement is not None:
            x = refinement(denoiser, x, t, i, steps).x
        with torch.no_grad():
            estimate, maps = denoiser(x, t)
        if watch is not None:
            watch(i, x, maps)
        x = x + (sigmas[i + 1] - sigmas[i]) * (x - estimate) / sigmas[i]
    return x


# words

Watch = Callable[[int, torch.Tensor, list[torch.Tensor]], None]


@dataclass(frozen=True)
class Sampling:
    """How words are written; the defaults are upstream's.

    Attributes:
        steps, guidance: of Euler's method. ``candidates``: noises to choose among; 1 chooses nothing.
        refine: move the latents before each step. ``strength``, ``thresholds``, ``most``: see ``Refinement``; None
            takes its defaults, which are meant for 50 steps. ``scale_input``: False leaves c_in out of the
            refinement, as upstream.
        layers, min_size: maps that are looked at.
    """

    steps: int = 50
    guidance: float = 5.0
    candidates: int = 10
    refine: bool = False
    scale_input: bool = True
    strength: float = 20.0
    thresholds: dict[int, float] | None = None
    most: int = 21
    layers: Sequence[str] | None = None
    min_size: int = 16

    def refinement(self, target: Target) -> Refinement | None:
        """The rule for the latents, if there is to be one."""
        if not self.refine:
            return None
        chosen = {} if self.thresholds is None else {"thresholds": self.thresholds}
        return Refinement(target, self.strength, most=self.most, scale_input=self.scale_input, **chosen)


@dataclass(frozen=True)
class Written:
    """``images`` (B, 3, H, W) in [-1, 1]; ``choice`` of the noise, if there was one; L_aae of each step (steps, B)."""

    images: torch.Tensor
    choice: NoiseChoice | None
    focus: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


@contextmanager
def word_denoiser(model: UDiffTextModel, told: WordConditions, guidance: float = 5.0,
                  layers: Sequence[str] | None = None) -> Iterator[Denoiser]:
    """Within the block, give the model as a denoiser under a batch's conditions, with captured maps.

    Args:
        told: of the batch, see ``UDiffTextModel.conditions``. ``layers``: maps that are captured, all by default.
    """
    with capture_attention(model.unet, layers) as maps:
        def network(x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor):
            place = told.place.repeat(len(x) // len(told.place), 1, 1, 1)
            return model(x, timesteps, context, place), maps.layers()

        yield Denoiser(network, model.alphas_cumprod, told.context, guidance=guidance)


def write_words(model: UDiffTextModel, batch: AnyTextBatch, sampling: Sampling | None = None,
                labels: list[str] | None = None, seed: int = 100, places: Sequence[int] | None = None,
                watch: Watch | None = None) -> Written:
    """Write a word into the place of the text of each picture; nothing is pasted back around it, as upstream.

    Args:
        model: in evaluation mode. ``batch``: on the model's device, one word an image.
        labels: other words than the batch's.
        seed: candidate k of sample i is drawn from (seed, k, places[i]), whatever the other samples are.
        watch: see ``euler_sample``.
    """
    sampling = sampling or Sampling()
    told = model.conditions(batch, labels)
    target = Target(told.mask, told.valid, min_size=sampling.min_size)
    keys = range(len(batch)) if places is None else places
    focus: list[torch.Tensor] = []

    def look(i: int, x: torch.Tensor, maps: list[torch.Tensor]) -> None:
        focus.append(target.loss(maps).detach().cpu())
        if watch is not None:
            watch(i, x, maps)

    def noise(k: int) -> torch.Tensor:
        shape = (model.unet.config.out_channels, *told.place.shape[-2:])
        return torch.stack([torch.randn(shape, generator=generator(seed, NOISE, k, key)) for key in keys]).to(
            told.place)

    with word_denoiser(model, told, sampling.guidance, sampling.layers) as denoiser:
        choice = None
        if sampling.candidates > 1:
            choice = select_noise(denoiser, (noise(k) for k in range(sampling.candidates)), target)
        start = noise(0) if choice is None else choice.noise
        latents = euler_sample(denoiser, start, sampling.steps, sampling.refinement(target), look)
    with torch.no_grad():
        images = model.decode(latents).float().clamp(-1, 1)
    return Written(images, choice, torch.stack(focus))
