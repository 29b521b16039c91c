"""UDiffText's training step as a LightningModule; by default only the text cross-attention is trained."""

from __future__ import annotations

import math
from typing import Literal

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.lines import TextLines
from anytext_lib.diffusion import add_sigma_noise, denoised
from anytext_lib.errors import OptionError
from anytext_lib.losses import VariancePreserving
from anytext_lib.randomness import draw_noise, generator
from anytext_lib.training.cache import TensorCache
from anytext_lib.training.module import DiffusionTraining, require_rate, require_timesteps
from anytext_lib.training.run_files import require_same_model
from anytext_lib.udifftext.attention import capture_attention
from anytext_lib.udifftext.model import UDiffTextModel, WordConditions, labels_of
from anytext_lib.udifftext.word_losses import UDiffTextObjective, UDiffTextTerms
from anytext_lib.udifftext.word_slots import WordReader

LABELS = 11  # stream of random numbers: which labels are dropped


class UDiffTextTraining(DiffusionTraining):
    """Trains the text cross-attention of a UDiffTextModel on images with one word each.

    Args:
        model: a folder written by ``save_pretrained``, or a size ("mini", "tiny": random weights).
        learning_rate: of AdamW with torch's defaults.
        lr_schedule: "constant", "linear", "cosine" or "one_cycle".
        warmup_steps: optimizer steps of warm-up.
        local_weight: weight of L_loc; 0 switches it off, it is logged still.
        sequence_weight: weight of L_str, for which the estimate is decoded and read by PP-OCRv3 (``word_slots``);
            published .001, in the configuration that upstream ships 0. 0 switches it off, and it is not computed.
        sequence_clamp: largest L_str of a word, upstream 1.0; a word above it, which is badly wrong, pulls nothing.
            null clamps not.
        layers: names or patterns of the cross-attentions that L_loc looks at; all by default.
        min_size: maps of fewer than min_size x min_size positions are left out; upstream 16, at 512 pixels.
        label_dropout: probability that a word is not told, so that the model can be guided.
        train_norms: train the layer norms in front of the text cross-attention as well, as upstream.
        train_input: train the first convolution as well: for a base that has never seen a mask, whose channels for mask
            and masked picture are zeros (`recipes.udifftext_start --base`).
        train_all: train the whole UNet: a base model from scratch, or a base that was made without masks.
        masked_fill: black or grey, what stands in the place of the text in the masked picture; upstream's is grey. By
            default what the model was trained with.
        encoder_cache: MiB of latents, of pictures and masked pictures, to keep between the epochs of a finite data set
            (72 KiB a scene of the second mini model); 0 keeps none. With it a resumed run agrees with an uninterrupted
            one to float precision only.
        val_timesteps: timesteps at which validation is measured, each with fixed noise.
        seed: of timesteps, noise and dropped labels; linked to seed_everything on the command line.
    """

    def __init__(self, model: str | torch.nn.Module = "mini", learning_rate: float = 1e-4,
                 lr_schedule: Literal["constant", "linear", "cosine", "one_cycle"] = "constant",
                 warmup_steps: int = 0, local_weight: float = 0.01, sequence_weight: float = 0.0,
                 sequence_clamp: float | None = None, layers: list[str] | None = None, min_size: int = 16,
                 label_dropout: float = 0.1, train_norms: bool = False, train_input: bool = False,
                 train_all: bool = False,
                 masked_fill: Literal["black", "grey"] | None = None, encoder_cache: float = 0.0,
                 val_timesteps: list[int] = [100, 300, 500, 700, 900],  # noqa: B006
                 seed: int = 0):
        super().__init__()
        self.save_hyperparameters(ignore=["model"] if isinstance(model, torch.nn.Module) else [])
        if not 0 <= label_dropout <= 1:
            raise OptionError(f"label_dropout is a probability in [0, 1], got {label_dropout}")
        if not sequence_weight >= 0 or not math.isfinite(sequence_weight):
            raise OptionError(f"sequence_weight is a finite number of at least 0, got {sequence_weight}")
        if sequence_clamp is not None and not sequence_clamp > 0:
            raise OptionError(f"sequence_clamp is a positive number, or null for none, got {sequence_clamp}")
        require_rate(learning_rate, warmup_steps)
        self.model = UDiffTextModel.load(model)
        if masked_fill is not None:
            self.model.fill_masked(masked_fill)
        require_timesteps(len(self.model.alphas_cumprod), val_timesteps=val_timesteps)
        self.trained = self.model.train_only_text_attention(train_all, train_norms, train_input)
        self.objective = UDiffTextObjective(local_weight, sequence_weight, sequence_clamp, min_size=min_size,
                                            prediction_type=self.model.prediction_type)
        self.cache = TensorCache(encoder_cache) if encoder_cache > 0 else None
        encoder = self.model.label_encoder
        self.reader = WordReader(characters=encoder.characters, slots=encoder.config.max_length) if (
            sequence_weight > 0) else None

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Refuse the state of another model before torch lists every tensor."""
        require_same_model(self, checkpoint, self.trainer.state.fn == "fit")

    def encode(self, batch: AnyTextBatch) -> torch.Tensor:
        """Latents (B, C, h, w) of the batch's images, float32, without gradient."""
        return self.kept(batch.images, self.model.encode).float()

    def conditions(self, batch: AnyTextBatch) -> WordConditions:
        """Conditions of the UNet, the masked pictures' latents from the cache where there is one."""
        return self.model.conditions(batch, encode=lambda images: self.kept(images, self.model.encode))

    def training_step(self, batch: AnyTextBatch, batch_idx: int) -> torch.Tensor:
        """One micro-batch; logs t/diff, t/local, t/loss, and t/str where L_str has a weight."""
        latents, noise, timesteps = self.draw(batch, batch_idx)
        dropped = torch.cat([torch.rand(1, generator=generator(self.hparams.seed, LABELS, self.micro_step, i))
                             for i in self.places(len(batch))])
        told = self.conditions(batch).without_labels(
            (dropped < self.hparams.label_dropout).to(self.device, non_blocking=True))
        terms = self.evaluate(latents, noise, timesteps, told, batch.lines)
        weights = {"local": self.hparams.local_weight, "str": self.hparams.sequence_weight}
        self.last_parts = {key: (timesteps, values) for key, values in terms.parts(weights).items()}
        self.log_dict(terms.log("t"), batch_size=len(batch))
        return terms.loss * self.accumulation_factor(batch_idx)

    def evaluate(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                 told: WordConditions, lines: TextLines | None = None) -> UDiffTextTerms:
        """The objective at the noisy latents of a batch; noise and timesteps may be on the CPU.

        Args:
            lines: the words and where they stand, which L_str asks for; words that the network was not told count, as
                upstream.
        """
        noise, timesteps = noise.to(latents, non_blocking=True), timesteps.to(latents.device, non_blocking=True)
        process = VariancePreserving(self.model.alphas_cumprod)
        sigma = process.amplification(timesteps)
        with capture_attention(self.model.unet, self.hparams.layers) as maps:
            eps = self.model(process.add_noise(latents, noise, timesteps), timesteps, told.context, told.place).float()
        estimate = denoised(add_sigma_noise(latents, noise, sigma), eps, sigma)
        read, words = None, []
        if self.reader is not None and lines is not None:
            read, words = self.reader.of_words(self.model.decode(estimate), lines), labels_of(lines, len(latents))
        return self.objective(estimate, latents, sigma, maps.layers(), told.segments, told.valid, read, words)

    def validation_step(self, batch: AnyTextBatch, batch_idx: int) -> None:
        """v/diff, v/local, v/str (with a weight) and v/loss at fixed timesteps and fixed noise; all but the last by
        timestep too."""
        at = [int(i) if i >= 0 else 10**6 * batch_idx + k for k, i in enumerate(batch.indices.tolist())]
        latents, told, found = self.encode(batch), self.conditions(batch), []
        for t in self.hparams.val_timesteps:
            noise = draw_noise(self.hparams.seed, t, at, latents.shape[1:])
            values = self.evaluate(latents, noise, torch.full((len(batch),), t), told, batch.lines).log("v")
            found.append(values)
            by_step = {f"{key}/t{t}": values[key] for key in ("v/diff", "v/local", "v/str") if key in values}
            self.log_dict(by_step, batch_size=len(batch), on_epoch=True, sync_dist=True)
        means = {key: sum(float(values[key]) for values in found) / len(found) for key in found[0]}
        self.log_dict(means, batch_size=len(batch), on_epoch=True, sync_dist=True)

    def not_computed(self) -> dict[str, str]:
        """The figures of validation that are left out: none."""
        return {}
