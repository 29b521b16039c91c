r"""One training step as a value: input of the network, its output, and all that is computed from them, once.

.. math:: x_t \to \hat x_0 \to decode(\hat x_0) \to crops \to (features, logits)

Each of these is computed when a loss asks for it, and at most once, however many losses look at it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from anytext_lib.data.lines import BadLineWarning, TextLines
from anytext_lib.diffusion import Process
from anytext_lib.errors import AnyTextError
from anytext_lib.losses.weights import language_weights
from anytext_lib.ocr.crops import crop_lines, crop_widths, readable_rows

LOOK = "Look at this sample's inputs, at the learning rate and at half precision before you lower the loss weights"
BLIND = ("This prediction says nothing about the picture at this noise level, as that of the noise at abar = 0 (a "
         "schedule with zero terminal SNR): predict v or the sample, or leave this timestep out")


@dataclass(frozen=True)
class Instruments:
    """What steps are measured with; frozen, and the same for all of them.

    Attributes:
        process: of the noise, see ``anytext_lib.diffusion``.
        decode: latents (B, C, h, w) -> images (B, 3, H, W), differentiable; clamped to [-1, 1] by the step.  One that
            has ``only_lines``, as ``models.patch_decoder.PatchDecoder``, is given the lines as well and need not show
            anything else.
        recognizer: ``recognizer(crops)`` has ``.features`` (L, T, D) and ``.logits`` (L, T, K);
            ``recognizer.charset.encode(text)`` gives class ids.  None for losses that do not read.
        latin_weight: weight of lines in 'Latin'; every other language has 1.
        on_bad_line: lines that cannot be cut out "raise" a BadLineError, are left out with a warning ("skip"), or
            without one ("count").
        cache: keeps features of true lines; see ``training.reference.ReferenceCache``.
    """

    process: Process
    decode: Callable[..., torch.Tensor] | None = None
    recognizer: Any = None
    latin_weight: float = 1.0
    on_bad_line: str = "raise"
    cache: Any = None

    def read(self, crops: torch.Tensor, lines: TextLines, size: tuple[int, int]):
        """What the recogniser makes of crops (L, 3, 48, 320) of the lines of images of a size (H, W).

        One that ``skips_padding`` is told how much of each crop is text.
        """
        if getattr(self.recognizer, "skips_padding", False):
            return self.recognizer(crops, crop_widths(lines, size))
        return self.recognizer(crops)

    def show(self, latents: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Pictures (B, 3, H, W) of latents (B, C, h, w), right at least where the lines stand."""
        assert self.decode is not None
        return self.decode(latents, lines) if getattr(self.decode, "only_lines", False) else self.decode(latents)

    @torch.no_grad()
    def features(self, images: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Features (L, T, D) of the true lines; all lines must be readable."""
        return self.read(crop_lines(images, lines), lines, images.shape[-2:]).features


@dataclass(frozen=True)
class Chosen:
    """Samples drawn by lot to be read, each with its own chance; the others cost no decoding and no reading.

    A term that reads divides by the chance, so that its expectation over the lot is that of reading all samples.

    Attributes:
        samples: (B,) bool, on the CPU. ``chances``: (B,) in (0, 1] for chosen samples, on the CPU.
    """

    samples: torch.Tensor
    chances: torch.Tensor

    @classmethod
    def draw(cls, weights: torch.Tensor, uniform: torch.Tensor) -> Chosen:
        """Choose each sample with the probability min(1, weight).

        Args:
            weights: (B,), of the step weighting, at least 0. ``uniform``: (B,) in [0, 1).
        """
        chances = weights.cpu().clamp(0, 1)
        return cls(uniform < chances, chances)

    def factor(self) -> torch.Tensor:
        """(B,) 1 / chance of the chosen samples, 0 of the others."""
        return torch.where(self.samples, 1 / self.chances.clamp(min=torch.finfo(self.chances.dtype).tiny), 0)


@dataclass(frozen=True)
class Pictures:
    """The least that losses must know of a batch; an ``AnyTextBatch`` has all of it, and more.

    Attributes:
        images: (B, 3, H, W) in [-1, 1], RGB, the true images. ``lines``: the lines to read, flat.
        invalid_mask: (B, 1, H, W) in [0, 1], or None.
    """

    images: torch.Tensor
    lines: TextLines
    invalid_mask: torch.Tensor | None = None


def once(method: Callable) -> property:
    """A property that is computed once; and once more if it is wanted with gradient but was computed without."""
    def get(self):
        graph = torch.is_grad_enabled()
        if (method, True) not in self.memo and (graph or (method, False) not in self.memo):
            self.memo[method, graph] = method(self)
        return self.memo[method, True] if (method, True) in self.memo else self.memo[method, False]
    return property(get, doc=method.__doc__)


@dataclass(frozen=True)
class Step:
    """One answer of the network. Of B samples, U have lines that can be read, K lines in all.

    Attributes:
        latents, noise: (B, C, h, w), x0 and the noise that was added. ``timesteps``: (B,), whole or fractional.
        output: (B, C, h, w), what the network said at x_t; the gradient goes here.
        batch: an AnyTextBatch, or ``Pictures``. ``instruments``: what the step is measured with.
        reference: (L, T, D) features of all true lines, if they are at hand.
        chosen: which samples are read, by lot; None reads all.
        network: the network that answered, and ``watched``, what was recorded inside it, for losses that look there.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    output: torch.Tensor
    batch: Any
    instruments: Instruments
    reference: torch.Tensor | None = None
    chosen: Chosen | None = None
    network: Any = None
    watched: Mapping[str, Any] = field(default_factory=dict)
    memo: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.output)

    # precision

    @cached_property
    def autocast(self) -> torch.dtype | None:
        """The dtype of the autocast around the step, in which it decodes; None without one."""
        kind = self.output.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Within the block all but the decoder computes in float32 at least.

        A decoder in bfloat16 or float16 keeps the direction of the OCR loss's gradient: its cosine with that of
        float32 is .989 or more, .9995 in float16 (the trained auto-encoder of the mini model, timesteps 50 to 400).
        """
        _ = self.autocast
        with torch.autocast(self.output.device.type, enabled=False):
            yield

    # noise

    @cached_property
    def t(self) -> torch.Tensor:
        """(B,) timesteps on the device of the output."""
        return self.timesteps.to(self.output.device, non_blocking=True)

    @cached_property
    def abar(self) -> torch.Tensor:
        """(B,) share of signal, see ``Process.signal_share``."""
        return self.instruments.process.signal_share(self.t)

    @once
    def x_t(self) -> torch.Tensor:
        """(B, C, h, w), the noisy latents."""
        return self.instruments.process.add_noise(self.latents, self.noise, self.t)

    @once
    def target(self) -> torch.Tensor:
        """(B, C, h, w), what the network should have said."""
        return self.instruments.process.target(self.latents, self.noise, self.t)

    @once
    def x0(self) -> torch.Tensor:
        """(B, C, h, w), the clean latents that the output implies."""
        return self.estimate(slice(None))

    def estimate(self, samples) -> torch.Tensor:
        """``x0`` of some samples."""
        return self.instruments.process.predict_x0(self.output[samples], self.x_t[samples], self.t[samples])

    # text

    @cached_property
    def rows(self) -> list[int]:
        """Indices of the lines that are read: those that can be cut out of their image, of the chosen samples."""
        if self.chosen is None:
            return self.readable
        return [row for row in self.readable if self.chosen.samples[self.batch.lines.image_index[row]]]

    @cached_property
    def readable(self) -> list[int]:
        """Indices of the lines that can be cut out of their image."""
        choice = self.instruments.on_bad_line
        with warnings.catch_warnings():
            if choice == "count":
                warnings.simplefilter("ignore", BadLineWarning)
            return readable_rows(self.batch.lines, self.batch.images, "skip" if choice == "count" else choice)

    @cached_property
    def lines(self) -> TextLines:
        """These K lines, with the index of their sample."""
        return self.batch.lines.select(self.rows)

    @cached_property
    def image_index(self) -> torch.Tensor:
        """(K,) sample of each line, on the device of the output."""
        return self.lines.image_index.to(self.output.device, non_blocking=True)

    @cached_property
    def language_weight(self) -> torch.Tensor:
        """(K,) weight of each line."""
        weights = language_weights(self.lines.languages, self.instruments.latin_weight)
        return weights.to(self.output.device, non_blocking=True)

    @cached_property
    def places(self) -> tuple[torch.Tensor, TextLines]:
        """(U,) samples with lines, and the K lines with an index into these."""
        kept = self.lines
        samples, row_of = torch.unique(kept.image_index, return_inverse=True)
        inside = TextLines(row_of, kept.quads, kept.texts, kept.languages)
        return samples.to(self.output.device, non_blocking=True), inside

    @once
    def decoded(self) -> torch.Tensor:
        """(U, 3, H, W) in [-1, 1]: the estimates of the samples with lines, as pictures; see ``Instruments.show``."""
        (samples, inside), images = self.places, self.batch.images
        self.checks.add("reading terms: images", images)
        gain = self.instruments.process.amplification(self.t[samples])
        self.checks.add("reading terms: amplification of the estimate of x0", gain, samples, BLIND)
        with torch.autocast(self.output.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            decoded = self.instruments.show(self.estimate(samples), inside)
        require_shape("decode(x0)", decoded, (len(samples), *images.shape[1:]))
        self.checks.add("reading terms: decoded x0", decoded, samples)
        return decoded.to(torch.promote_types(decoded.dtype, torch.float32)).clamp(-1, 1)

    @once
    def crops(self) -> torch.Tensor:
        """(K, 3, 48, 320) in [-1, 1], the lines of the estimate, upright."""
        return crop_lines(self.decoded, self.places[1])

    @once
    def seen(self):
        """What the recogniser makes of them: ``.features`` (K, T, D), ``.logits`` (K, T, classes)."""
        return self.instruments.read(self.crops, self.places[1], self.batch.images.shape[-2:])

    @cached_property
    def truth(self) -> torch.Tensor:
        """(K, T, D) features of the true lines, without gradient."""
        images, lines = self.batch.images, self.lines
        if self.reference is not None:
            return self.reference[torch.tensor(self.rows).to(self.reference.device, non_blocking=True)]
        if self.instruments.cache is not None:
            return self.instruments.cache.features(self.instruments.features, images, lines,
                                                   self.batch.indices.tolist())
        samples, inside = self.places
        return self.instruments.features(images[samples], inside)

    @once
    def layers(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Maps of every stage of the recogniser, of the estimate's lines and of the true ones (no gradient)."""
        samples, inside = self.places
        with torch.no_grad():
            true = self.instruments.recognizer.feature_maps(crop_lines(self.batch.images[samples], inside))
        return self.instruments.recognizer.feature_maps(self.crops), true

    @cached_property
    def targets(self) -> list[Sequence[int]]:
        """Class ids of the K texts."""
        return [self.instruments.recognizer.charset.encode(text) for text in self.lines.texts]

    @cached_property
    def text_region(self) -> torch.Tensor:
        """(B, 1, H, W) in {0, 1}: the union of the position masks of each image."""
        return text_region(self.batch)

    # checks

    @property
    def checks(self) -> FiniteChecks:
        """Tensors to be tested for NaN and infinity when all losses are there."""
        return self.memo.setdefault("checks", FiniteChecks())

    def check_inputs(self) -> None:
        """Raise ValueError for shapes that do not agree; remember the inputs to be tested."""
        for name in ("latents", "noise"):
            require_shape(name, getattr(self, name), tuple(self.output.shape))
        require_shape("timesteps", self.timesteps, (len(self),))
        require_shape("images", self.batch.images, (len(self), 3, None, None))
        named = {"model_output": self.output, "latents": self.latents, "noise": self.noise,
                 "invalid_mask": self.batch.invalid_mask}
        for name, value in named.items():
            if value is not None:
                self.checks.add(f"simple term: {name}", value)


def text_region(batch) -> torch.Tensor:
    """(B, 1, H, W) in {0, 1}: the union of the position masks of each image of an AnyTextBatch."""
    region = torch.zeros_like(batch.images[:, :1])
    index = batch.lines.image_index.to(region.device, non_blocking=True)
    return region.index_add(0, index, batch.positions.to(region)).clamp(max=1)


# checks: errors that say which term of the objective, and which sample, is at fault

class NonFiniteError(AnyTextError, ValueError):
    """A tensor holds NaN or infinity; the message names the term of the objective, the tensor and the sample."""

    exit_status = 1


class FiniteChecks:
    """Tensors that must be finite, tested all at once: a GPU is waited for only once a step."""

    def __init__(self):
        self.kept: list[tuple[str, torch.Tensor, torch.Tensor | None, str]] = []

    def add(self, name: str, value: torch.Tensor, samples: torch.Tensor | None = None, remedy: str = LOOK) -> None:
        """Remember a tensor (R, ...) to be tested.

        Args:
            name: what the message calls it, such as "simple term: model_output".
            samples: (R,) index of the sample of each row; by default row i belongs to sample i.
            remedy: the end of the message.
        """
        self.kept.append((name, value.detach(), samples, remedy))

    def test(self) -> None:
        """Raise NonFiniteError for the first tensor, in the order of adding, that holds NaN or infinity."""
        kept, self.kept = self.kept, []
        if not kept or bool(torch.stack([torch.isfinite(value).all() for _, value, _, _ in kept]).all()):
            return
        for name, value, samples, remedy in kept:
            rows = value.reshape(len(value), -1)
            for row in (~torch.isfinite(rows)).any(dim=1).nonzero().flatten().tolist():
                bad = (~torch.isfinite(rows[row])).nonzero().flatten()
                sample = row if samples is None else int(samples[row])
                raise NonFiniteError(
                    f"{name} of sample {sample} has {len(bad)} of {rows.shape[1]} values not finite (the first is "
                    f"{rows[row, bad[0]].item()} at flat position {int(bad[0])}). {remedy}"
                )


def require_finite(named: dict[str, torch.Tensor], samples: torch.Tensor | None = None) -> None:
    """Raise NonFiniteError if a value of any tensor is NaN or infinite; see ``FiniteChecks``.

    Args:
        named: tensors (R, ...) under the words the message uses. ``samples``: (R,) their samples, by default 0..R-1.
    """
    checks = FiniteChecks()
    for name, value in named.items():
        checks.add(name, value, samples)
    checks.test()


def require_shape(name: str, value: torch.Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError unless ``value`` has ``shape``, where None stands for any size."""
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected ({wanted})")
