"""Writing words into pictures: noise search, refinement, sampling, and the maps to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.randomness import NOISE, generator
from anytext_lib.udifftext.capture import capture_attention
from anytext_lib.udifftext.model import UDiffTextModel, WordConditions
from anytext_lib.udifftext.sampling import Denoiser, NoiseChoice, Refinement, Target, euler_sample, select_noise

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
    """Within the block, the model as a denoiser of latents that knows what it is to write, and shows its maps.

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
