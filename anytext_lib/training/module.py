"""AnyText2's training step as a LightningModule; options have upstream's names."""

from __future__ import annotations

from typing import Any, Literal

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.errors import OptionError
from anytext_lib.losses import Instruments, LossWeightSchedule, Objective, Step, Term, process_of
from anytext_lib.losses.objective import key_of
from anytext_lib.models import freezing
from anytext_lib.models.conditions import Conditions
from anytext_lib.randomness import draw_noise
from anytext_lib.training.assembly import load_model
from anytext_lib.training.cache import TensorCache, digests
from anytext_lib.training.diffusion_training import DiffusionTraining
from anytext_lib.training.loss_options import chosen_weighting, logged, training_terms
from anytext_lib.training.reference import ReferenceCache
from anytext_lib.training.schedules import require_rate, require_timesteps
from anytext_lib.training.storage import require_same_model


class AnyText2Training(DiffusionTraining):
    """Trains WriteNet, the text embedding and AttnX of an AnyText2Model.

    Args:
        model: a folder written by ``save_pretrained``, an upstream checkpoint (.ckpt, .safetensors), or the name or
            file of a model configuration ("mini", "sd15", "tiny": random weights).
        learning_rate: of AdamW with torch's defaults, as upstream.
        lr_schedule: "constant" (upstream), "linear", "cosine" or "one_cycle".
        warmup_steps: optimizer steps of warm-up.
        terms: the losses one by one, as '[{name: ocr, weight: 0.003, weighting: min_snr}, {name: region, weight: 4}]';
            see ``losses.terms.make_term``. The diffusion loss is added with weight 1 unless the list names `simple`.
            It stands in the place of loss_alpha, loss_beta and region_weight, which are short for the usual lists.
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
        monitor_every: every so many steps terms whose weight is 0 are computed and logged without gradient, the OCR
            and CTC terms among them (t/ocr_raw, t/ctc_raw); 0 never, but those that ``terms`` names at every step.
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
                 warmup_steps: int = 0, terms: list[str | dict[str, Any]] | None = None, loss_alpha: float = 0.0,
                 loss_beta: float = 0.0, loss_start: int = 0, loss_ramp: int = 0, latin_weight: float = 1.0,
                 with_step_weight: bool = True, weighting: str | dict[str, Any] | None = None,
                 region_weight: float = 1.0, monitor_every: int = 0, reference_cache: float = 0.0,
                 encoder_cache: float = 0.0,
                 sd_locked: bool = True, unlock_qkv: bool = False, style_ocr_trainable: bool = True,
                 cond_stage_trainable: bool = False, train_all: bool = False,
                 prediction_type: Literal["epsilon", "sample", "v_prediction"] | None = None,
                 min_timestep: int = 0, gradient_checkpointing: bool = False, compile: bool = False,
                 val_timesteps: list[int] = [100, 300, 500, 700, 900],  # noqa: B006
                 seed: int = 0):
        super().__init__()
        objects = {"model": isinstance(model, torch.nn.Module), "terms": any(isinstance(t, Term) for t in terms or [])}
        self.save_hyperparameters(ignore=[name for name, is_object in objects.items() if is_object])
        self.objective = Objective(training_terms(
            terms, loss_alpha=LossWeightSchedule(loss_alpha, loss_start, loss_ramp),
            loss_beta=LossWeightSchedule(loss_beta, loss_start, loss_ramp), region_weight=region_weight,
            weighting=chosen_weighting(weighting, with_step_weight), monitored=monitor_every > 0))
        require_rate(learning_rate, warmup_steps)
        self.model = load_model(model)
        require_timesteps(len(self.model.alphas_cumprod), min_timestep=[min_timestep], val_timesteps=val_timesteps)
        switches = ("sd_locked", "unlock_qkv", "style_ocr_trainable", "cond_stage_trainable", "train_all")
        self.trained = freezing.apply(self.model, **{name: self.hparams[name] for name in switches})
        if gradient_checkpointing:
            self.model.set_gradient_checkpointing()
        self.prediction_type = prediction_type or self.model.prediction_type
        self.instruments: Instruments | None = None
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
        """Take the frozen parts that losses look through, once the model is on its device."""
        if self.instruments is None or self.instruments.process.alphas_cumprod.device != self.device:
            process = process_of(self.model.alphas_cumprod, self.prediction_type)
            mib = self.hparams.reference_cache
            self.instruments = Instruments(process, self.model.decode, self.model.reader, self.hparams.latin_weight,
                                           "count", ReferenceCache(mib) if mib > 0 else None)

    def training_step(self, batch: AnyTextBatch, batch_idx: int) -> torch.Tensor:
        """One micro-batch; logs t/sim, t/ocr, t/ctc, t/loss."""
        latents, noise, timesteps = self.draw(batch, batch_idx)
        step = self.predict(batch, latents, noise, timesteps)
        self.last_inputs["output"] = step.output.detach()
        values = self.objective(step, self.global_step, watch=self.watches(self.global_step))
        self.log_dict({f"t/{key}": value for key, value in logged(step, values).items()}, batch_size=len(batch))
        weights = {name: self.objective.weight(name, self.global_step) for name in ("ocr", "ctc")}
        self.log_dict({"t/loss_alpha": weights["ocr"], "t/loss_beta": weights["ctc"]}, batch_size=len(batch))
        return values.loss * self.accumulation_factor(batch_idx)

    def watches(self, step: int) -> bool:
        """Whether terms of weight 0 are computed at an optimizer step."""
        every = self.hparams.monitor_every or int("terms" in self.hparams and self.hparams.terms is not None)
        return every > 0 and step % every == 0

    def predict(self, batch: AnyTextBatch, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                conditions=None) -> Step:
        """Run the network at the noisy latents of a batch; noise and timesteps may be on the CPU."""
        self.prepare()
        noise, timesteps = noise.to(latents), timesteps.to(latents.device)
        conditions = self.conditions(batch) if conditions is None else conditions
        with self.objective.watch(self.model) as watched:
            output = self.model(self.instruments.process.add_noise(latents, noise, timesteps), timesteps, conditions)
        return Step(latents, noise, timesteps, output, batch, self.instruments, network=self.model, watched=watched)

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
            found.append({key: float(value) for key, value in logged(step, self.objective(step)).items()})
            self._log_validation({f"{key}/t{t}": found[-1].get(key) for key in ("sim", *self._raw_keys)}, batch)
        for key in dict.fromkeys(("sim", *self._added_keys, "loss", *self._raw_keys)):
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
        short = {"ocr": "loss_alpha", "ctc": "loss_beta"}
        return {f"v/{key}": f"{name} is 0{raw}" for key, name in short.items() if self.objective.weight(key) == 0}

    @property
    def _added_keys(self) -> list[str]:
        """What terms with a weight add, by the names that ``Values.log`` gives them."""
        return [key_of(name) for name in self.objective.terms if self.objective.weight(name) != 0]

    @property
    def _raw_keys(self) -> list[str]:
        """Unweighted terms that validation measures, the same in every process."""
        return [f"{key_of(name)}_raw" for name, term in self.objective.terms.items()
                if term.per_line or term.weight_at(None) == 0]

    def _log_validation(self, values: dict[str, float | None], batch: AnyTextBatch) -> None:
        """Log means over the samples, or for raw terms over the lines; None counts for nothing.

        Every process logs the same keys, or the others would wait for it.
        """
        for key, value in values.items():
            count = len(batch.lines) if "_raw" in key else len(batch)
            self.log(f"v/{key}", 0.0 if value is None else value, batch_size=0 if value is None else count,
                     on_epoch=True, sync_dist=True)
