"""AnyText2's training step as a LightningModule; options have upstream's names."""

from __future__ import annotations

from typing import Any, Literal

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.errors import OptionError
from anytext_lib.losses import WeightingError, add_noise, make_weighting
from anytext_lib.models import freezing
from anytext_lib.models.conditions import Conditions
from anytext_lib.randomness import draw_noise
from anytext_lib.training.assembly import load_model
from anytext_lib.training.cache import TensorCache, digests
from anytext_lib.training.diffusion_training import DiffusionTraining
from anytext_lib.training.schedules import LossWeightSchedule, require_rate, require_timesteps
from anytext_lib.training.step_loss import NoisyStep, build_step_loss
from anytext_lib.training.storage import require_same_model


class AnyText2Training(DiffusionTraining):
    """Trains WriteNet, the text embedding and AttnX of an AnyText2Model.

    Args:
        model: a folder written by ``save_pretrained``, an upstream checkpoint (.ckpt, .safetensors), or the name or
            file of a model configuration ("mini", "sd15", "tiny": random weights).
        learning_rate: of AdamW with torch's defaults, as upstream.
        lr_schedule: "constant" (upstream), "linear", "cosine" or "one_cycle".
        warmup_steps: optimizer steps of warm-up.
        loss_alpha: weight of the OCR term; 0 switches it off.
        loss_beta: weight of the CTC term; 0 switches it off.
        loss_start: optimizer step at which both weights are switched on.
        loss_ramp: optimizer steps over which they rise to their full value; 0 switches them on at once.
        latin_weight: weight of Latin lines in both terms.
        with_step_weight: weight both terms by the share of signal left at the timestep; false is the weighting
            "uniform".
        weighting: step weighting of both terms in the place of that one: abar, uniform, snr, min_snr or gate, with
            parameters as in '{name: min_snr, gamma: 5}' or '{name: gate, least: 0.5}'.
        region_weight: weight of the diffusion loss inside the text, the cheap baseline; 1 is upstream's loss.
        monitor_every: every so many steps the OCR and CTC terms are computed and logged without gradient although
            their weight is 0 (t/ocr_raw, t/ctc_raw); 0 never.
        reference_cache: MiB of true features to keep between epochs, for a finite data set; 0 keeps none.
        encoder_cache: likewise, MiB of latents and of features of the glyph lines (12 + 10 KiB a mini scene). With
            either cache a resumed run agrees with an uninterrupted one to float precision only.
        sd_locked: keep the decoder of the UNet frozen.
        unlock_qkv: train q, k and v of the UNet's cross-attention.
        style_ocr_trainable: train the style recogniser.
        cond_stage_trainable: train the CLIP text encoder.
        train_all: train everything but the auto-encoder and the recognisers (a model from scratch).
        prediction_type: what the network predicts; by default what the model's configuration says.
        min_timestep: the smallest timestep to train at; 0 trains at all, as upstream. A high one asks only for what
            is decided in noise: layout, brightness, colours.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        compile: torch.compile the UNet and WriteNet.
        val_timesteps: timesteps at which validation is measured, each with fixed noise.
        seed: of timesteps, noise and dropout; linked to seed_everything on the command line.
    """

    def __init__(self, model: str | torch.nn.Module = "mini", learning_rate: float = 2e-5,
                 lr_schedule: Literal["constant", "linear", "cosine", "one_cycle"] = "constant",
                 warmup_steps: int = 0, loss_alpha: float = 0.0, loss_beta: float = 0.0, loss_start: int = 0,
                 loss_ramp: int = 0, latin_weight: float = 1.0, with_step_weight: bool = True,
                 weighting: str | dict[str, Any] | None = None, region_weight: float = 1.0, monitor_every: int = 0,
                 reference_cache: float = 0.0, encoder_cache: float = 0.0,
                 sd_locked: bool = True, unlock_qkv: bool = False, style_ocr_trainable: bool = True,
                 cond_stage_trainable: bool = False, train_all: bool = False,
                 prediction_type: Literal["epsilon", "sample", "v_prediction"] | None = None,
                 min_timestep: int = 0, gradient_checkpointing: bool = False, compile: bool = False,
                 val_timesteps: list[int] = [100, 300, 500, 700, 900],  # noqa: B006
                 seed: int = 0):
        super().__init__()
        self.save_hyperparameters(ignore=["model"] if isinstance(model, torch.nn.Module) else [])
        self.alpha = LossWeightSchedule(loss_alpha, loss_start, loss_ramp)
        self.beta = LossWeightSchedule(loss_beta, loss_start, loss_ramp)
        if weighting is not None and not with_step_weight:
            raise WeightingError(f"with_step_weight false is the weighting uniform, but weighting is {weighting!r}: "
                                 "give one of the two")
        self.weighting = make_weighting(weighting or ("abar" if with_step_weight else "uniform"))
        require_rate(learning_rate, warmup_steps)
        self.model = load_model(model)
        require_timesteps(len(self.model.alphas_cumprod), min_timestep=[min_timestep], val_timesteps=val_timesteps)
        switches = ("sd_locked", "unlock_qkv", "style_ocr_trainable", "cond_stage_trainable", "train_all")
        self.trained = freezing.apply(self.model, **{name: self.hparams[name] for name in switches})
        if gradient_checkpointing:
            self.model.set_gradient_checkpointing()
        self.prediction_type = prediction_type or self.model.prediction_type
        self.step_loss = None
        self.cache = TensorCache(encoder_cache) if encoder_cache > 0 else None

    def setup(self, stage: str) -> None:
        """Refuse pictures that the UNet cannot halve as often as it does."""
        grid = self.model.latent_factor * 2 ** (len(self.model.unet.config.block_out_channels) - 1)
        size = getattr(self.trainer.datamodule, "hparams", {}).get("image_size", (grid, grid))
        if any(side % grid for side in size):
            raise OptionError(f"image_size {list(size)} does not suit the model: height and width are multiples of "
                              f"{grid}")

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Refuse the state of another model before torch lists every tensor."""
        require_same_model(self, checkpoint, self.trainer.state.fn == "fit")

    def on_fit_start(self) -> None:
        self.prepare()
        if self.hparams.compile:
            self.model.unet.compile()
            self.model.writenet.compile()

    def on_validation_start(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """Build the objective around the model's frozen recogniser, once the model is on its device."""
        h = self.hparams
        if self.step_loss is None:
            self.step_loss = build_step_loss(self.model.reader, self.model.alphas_cumprod, self.model.decode,
                                             self.prediction_type, h.latin_weight, self.weighting,
                                             h.region_weight, h.reference_cache)

    def training_step(self, batch: AnyTextBatch, batch_idx: int) -> torch.Tensor:
        """One micro-batch; logs t/sim, t/ocr, t/ctc, t/loss."""
        latents, noise, timesteps = self.draw(batch, batch_idx)
        step = self.predict(batch, latents, noise, timesteps)
        self.last_inputs["output"] = step.output.detach()
        alpha, beta = self.alpha(self.global_step), self.beta(self.global_step)
        loss, values = self.step_loss(step, batch, alpha, beta)
        every = self.hparams.monitor_every
        if every and self.global_step % every == 0 and not (alpha > 0 and beta > 0):
            values.update(self.step_loss.watch(step, batch))
        self.log_dict({f"t/{key}": value for key, value in values.items()}, batch_size=len(batch))
        self.log_dict({"t/loss_alpha": alpha, "t/loss_beta": beta}, batch_size=len(batch))
        return loss * self.accumulation_factor(batch_idx)

    def predict(self, batch: AnyTextBatch, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                conditions=None) -> NoisyStep:
        """Run the network at the noisy latents of a batch; noise and timesteps may be on the CPU."""
        noise, timesteps = noise.to(latents), timesteps.to(latents.device)
        abar = self.model.alphas_cumprod.to(latents.device)[timesteps]
        conditions = self.conditions(batch) if conditions is None else conditions
        output = self.model(add_noise(latents, noise, abar), timesteps, conditions)
        return NoisyStep(latents, noise, timesteps, output)

    def validation_step(self, batch: AnyTextBatch, batch_idx: int) -> None:
        """The training loss at fixed timesteps and fixed noise: v/sim, v/ocr, v/ctc, v/loss, and v/sim by timestep.

        Terms that have no weight are not computed, and not logged: see ``not_computed``.
        """
        at = [int(i) if i >= 0 else 10**6 * batch_idx + k for k, i in enumerate(batch.indices.tolist())]
        torch.manual_seed(self.hparams.seed)
        latents, conditions = self.encode(batch), self.model.conditions(batch)
        found = []
        for t in self.hparams.val_timesteps:
            noise = draw_noise(self.hparams.seed, t, at, latents.shape[1:])
            step = self.predict(batch, latents, noise, torch.full((len(batch),), t), conditions)
            values = self.step_loss(step, batch, self.alpha.value, self.beta.value)[1]
            if self.hparams.monitor_every:
                values.update(self.step_loss.watch(step, batch))
            found.append({key: float(value) for key, value in values.items()})
            self._log_validation({f"{key}/t{t}": found[-1].get(key) for key in ("sim", *self._raw_keys)}, batch)
        for key in ("sim", *self._weighted_keys, "loss", *self._raw_keys):
            values = [v[key] for v in found if key in v]
            self._log_validation({key: sum(values) / len(values) if values else None}, batch)

    def encode(self, batch: AnyTextBatch) -> torch.Tensor:
        """Latents (B, 4, h, w) of the batch's images, at least float32, without gradient."""
        images, encode = batch.images, self.model.encode
        if self.training and self.cache is not None:
            latents = self.cache.rows(digests(images), lambda rows: encode(images[rows]), images.device)
        else:
            latents = encode(images)
        return latents.to(torch.promote_types(latents.dtype, torch.float32))

    def conditions(self, batch: AnyTextBatch) -> Conditions:
        """What the networks are told about the batch."""
        lines, read, features = batch.glyph_lines, self.model.glyph_features, None
        if self.training and self.cache is not None and len(lines) and self.model.text_embedding.config.glyph:
            features = self.cache.rows(digests(lines), lambda rows: read(lines[rows]), lines.device)
        return self.model.conditions(batch, glyph_features=features)

    def not_computed(self) -> dict[str, str]:
        """The figures of validation that are left out, with the reason."""
        raw = "" if self.hparams.monitor_every else "; --monitor_every 1 shows the unweighted term"
        weights = {"ocr": ("loss_alpha", self.alpha), "ctc": ("loss_beta", self.beta)}
        return {f"v/{key}": f"{name} is 0{raw}" for key, (name, weight) in weights.items() if weight.value == 0}

    @property
    def _weighted_keys(self) -> list[str]:
        return ["ocr"] * (self.alpha.value > 0) + ["ctc"] * (self.beta.value > 0)

    @property
    def _raw_keys(self) -> list[str]:
        """Unweighted terms that validation measures, the same in every process."""
        watched = bool(self.hparams.monitor_every)
        return ["ocr_raw"] * (watched or self.alpha.value > 0) + ["ctc_raw"] * (watched or self.beta.value > 0)

    def _log_validation(self, values: dict[str, float | None], batch: AnyTextBatch) -> None:
        """Log means over the samples, or for raw terms over the lines; None counts for nothing.

        Every process logs the same keys, or the others would wait for it.
        """
        for key, value in values.items():
            count = len(batch.lines) if "_raw" in key else len(batch)
            self.log(f"v/{key}", 0.0 if value is None else value, batch_size=0 if value is None else count,
                     on_epoch=True, sync_dist=True)
