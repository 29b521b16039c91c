"""The training step on Lightning, top to bottom: draw, encode, predict, weigh the losses; AdamW and its learning rate.

``DiffusionTraining`` is what every system's step shares, ``AnyText2Training`` is AnyText2's; options have upstream's
names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import nn

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.files import find_sample
from anytext_lib.losses import Instruments, LossWeightSchedule, Objective, Step, Term, process_of
from anytext_lib.losses.objective import Values, by_timestep, key_of
from anytext_lib.losses.step import Chosen
from anytext_lib.models import freezing
from anytext_lib.models.anytext2 import Conditions
from anytext_lib.models.patch_decoder import PatchDecoder
from anytext_lib.models.sharding import is_sharded, shard
from anytext_lib.models.text_embedding import style_crops
from anytext_lib.randomness import draw_chances, draw_noise, draw_timesteps, places, seed_step
from anytext_lib.training.cache import ReferenceCache, TensorCache, digests
from anytext_lib.training.low_rank_run import (
    complete_checkpoint,
    fingerprint,
    reduce_checkpoint,
    require_no_low_rank,
    train_low_rank,
)
from anytext_lib.training.run_files import require_same_model
from anytext_lib.training.run_terms import chosen_weighting, training_terms

LR_SCHEDULES = ("constant", "linear", "cosine", "one_cycle")


class DiffusionTraining(pl.LightningModule):
    """A training step on noisy latents; a subclass has ``model`` (with ``alphas_cumprod``), ``trained`` (groups of
    named parameters), ``encode(batch)``, and ``learning_rate``, ``lr_schedule``, ``warmup_steps`` and ``seed`` among
    its hyper-parameters.

    Attributes:
        last_inputs: inputs of the last step, for the report of a loss that is not finite.
        last_parts: timesteps and values of the terms of the last step, by key, see ``losses.objective.by_timestep``.
        cache: what frozen networks have computed before, or None.
    """

    def __init__(self):
        super().__init__()
        self.cache: TensorCache | None = None
        self.last_inputs: dict = {}
        self.last_parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def configure_model(self) -> None:
        """Share the model out where the strategy has a mesh (`--trainer.strategy fsdp2`)."""
        if self.device_mesh is not None and not is_sharded(self.model):
            if self.hparams.get("lora_rank"):
                raise OptionError("fsdp2 shares out weights that are trained, and low-rank ones are a few megabytes: "
                                  "leave out trainer.strategy, or lora_rank")
            shard(self.model, self.device_mesh["data_parallel"])
            own = dict(self.model.named_parameters())
            self.trained = {group: [(name, own[name]) for name, _ in members]
                            for group, members in self.trained.items()}

    def configure_optimizers(self):
        """AdamW over the trained parameters, and the learning rate of each optimizer step."""
        h = self.hparams
        optimizer = torch.optim.AdamW((p for group in self.trained.values() for _, p in group), lr=h.learning_rate)
        total = None if h.lr_schedule == "constant" else self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, h.lr_schedule, h.warmup_steps, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def micro_step(self) -> int:
        """Batches that this process has begun since the run's first, counted from 0; goes on when a run is resumed."""
        return max(0, self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def on_train_batch_start(self, batch: AnyTextBatch, batch_idx: int) -> None:
        """Seed everything that draws from torch's own generator, as dropout does."""
        seed_step(self.hparams.seed, self.micro_step, self.global_rank)

    def draw(self, batch: AnyTextBatch, batch_idx: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (B, 4, h, w) of the batch, its noise and its timesteps (B,), the last two on the CPU."""
        at = self.places(len(batch))
        seed, index = self.hparams.seed, self.micro_step
        timesteps = draw_timesteps(seed, index, at, len(self.model.alphas_cumprod),
                                   self.hparams.get("min_timestep", 0))
        self.last_inputs = {"batch": batch, "timesteps": timesteps, "step": self.global_step, "batch_idx": batch_idx}
        latents = self.encode(batch)
        noise = draw_noise(seed, index, at, latents.shape[1:])
        self.last_inputs.update(noise=noise, latents=latents)
        return latents, noise, timesteps

    def places(self, count: int) -> list[int]:
        """Place in the whole step of each of this process's ``count`` samples."""
        return places(count, self.global_rank, self.trainer.world_size)

    def kept(self, images: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """``compute(images)``, in training from the cache, if there is one, for the rows that have been seen before."""
        if not self.training or self.cache is None:
            return compute(images)
        return self.cache.rows(digests(images), lambda rows: compute(images[rows]), images.device)

    def accumulation_factor(self, batch_idx: int) -> float:
        """Factor on the loss of batch ``batch_idx`` of an epoch, so that every optimizer step follows a mean gradient.

        Lightning divides each loss by ``accumulate_grad_batches`` = N, and steps at the end of an epoch as well: n < N
        batches that are left over there would pull n / N as hard.  They get the factor N / n, all others 1.
        """
        trainer = self.trainer
        size, count = trainer.accumulate_grad_batches, trainer.num_training_batches
        if size == 1 or not math.isfinite(count) or trainer.strategy.handles_gradient_accumulation:
            return 1.0
        return size / min(size, count - batch_idx // size * size)


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
        ctc_unknown: what becomes, in the CTC term, of characters that the recogniser's dictionary lacks (most letters
            of other scripts than Chinese and English): space, as upstream, skip_characters or skip_lines; see
            ``losses.terms.ctc``.
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
        encoder_cache: likewise, MiB of latents, of the masked pictures' too, and of features of the glyph lines and, if
            their recogniser is frozen, of the font hints (about 80 KiB a scene of the mini models). With either cache a
            resumed run agrees with an uninterrupted one to float precision only.
        decode_patches: decode only around the lines for the terms that read, with a margin of so many cells of each
            level of the decoder: 2 lose little (see README). By default whole pictures are decoded, as upstream does.
        read_chance: read each picture with the probability that its step weight gives instead of weighting its loss by
            it, which costs as much less: the terms that read keep their expectation, with more noise.
        decode_background: share of the background that is decoded then, without gradient, to estimate the statistics
            of group norms; 1 takes them from the whole picture.
        decode_checkpointing: recompute the decoder's activations in the backward pass of the terms that read.
        sd_locked: keep the decoder of the UNet frozen.
        unlock_qkv: train q, k and v of the UNet's cross-attention.
        style_ocr_trainable: train the style recogniser.
        cond_stage_trainable: train the CLIP text encoder, 123 M parameters. Upstream's configurations say true and yet
            keep CLIP frozen: there it has captions encoded inside the step, so that gradients reach the text embedding,
            which is so here in any case. False is what upstream does.
        train_all: train everything but the auto-encoder and the recognisers (a model from scratch).
        lora_rank: train low-rank updates of this rank alone, and save nothing else: for small GPUs; see
            ``adapters.low_rank``. 0 trains the weights themselves.
        lora_alpha: strength of the updates, alpha / rank times their product; by default the rank.
        lora_targets: whose attentions get them: unet (Stable Diffusion's own), attnx, writenet, text_encoder.
        frozen_dtype: float32, bfloat16 or float16: of the frozen weights beneath low-rank ones, which are float32.
        prediction_type: what the network predicts; by default what the model's configuration says.
        min_timestep: the smallest timestep to train at; 0 trains at all, as upstream. A high one asks only for what
            is decided in noise: layout, brightness, colours.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        compile: torch.compile the UNet and WriteNet.
        val_timesteps: timesteps at which validation is measured, each with fixed noise.
        seed: of timesteps, noise and dropout; linked to seed_everything on the command line.
    """

    def __init__(self, model: str | nn.Module = "mini", learning_rate: float = 2e-5,
                 lr_schedule: Literal["constant", "linear", "cosine", "one_cycle"] = "constant",
                 warmup_steps: int = 0, terms: list[str | dict[str, Any]] | None = None, loss_alpha: float = 0.0,
                 loss_beta: float = 0.0,
                 ctc_unknown: Literal["space", "skip_characters", "skip_lines"] = "space",
                 loss_start: int = 0, loss_ramp: int = 0, latin_weight: float = 1.0,
                 with_step_weight: bool = True, weighting: str | dict[str, Any] | None = None,
                 region_weight: float = 1.0, monitor_every: int = 0, reference_cache: float = 0.0,
                 encoder_cache: float = 0.0, decode_patches: int | None = None, decode_background: float = 0.125,
                 decode_checkpointing: bool = False, read_chance: bool = False,
                 sd_locked: bool = True, unlock_qkv: bool = False, style_ocr_trainable: bool = True,
                 cond_stage_trainable: bool = False, train_all: bool = False, lora_rank: int = 0,
                 lora_alpha: float | None = None,
                 lora_targets: list[str] = ["unet", "attnx", "writenet"],  # noqa: B006
                 frozen_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
                 prediction_type: Literal["epsilon", "sample", "v_prediction"] | None = None,
                 min_timestep: int = 0, gradient_checkpointing: bool = False, compile: bool = False,
                 val_timesteps: list[int] = [100, 300, 500, 700, 900],  # noqa: B006
                 seed: int = 0):
        super().__init__()
        objects = {"model": isinstance(model, nn.Module), "terms": any(isinstance(t, Term) for t in terms or [])}
        self.save_hyperparameters(ignore=[name for name, is_object in objects.items() if is_object])
        self.weighting = chosen_weighting(weighting, with_step_weight)
        self.objective = Objective(training_terms(
            terms, loss_alpha=LossWeightSchedule(loss_alpha, loss_start, loss_ramp),
            loss_beta=LossWeightSchedule(loss_beta, loss_start, loss_ramp), region_weight=region_weight,
            weighting=self.weighting, monitored=monitor_every > 0,
            ctc_unknown=ctc_unknown))
        require_rate(learning_rate, warmup_steps)
        self.model = load_model(model)
        require_timesteps(len(self.model.alphas_cumprod), min_timestep=[min_timestep], val_timesteps=val_timesteps)
        switches = ("sd_locked", "unlock_qkv", "style_ocr_trainable", "cond_stage_trainable", "train_all")
        if lora_rank:
            self.trained = train_low_rank(self.model, self.hparams)
            self.frozen_mark = fingerprint(self.model)
        else:
            require_no_low_rank(self.hparams)
            self.trained = freezing.apply(self.model, **{name: self.hparams[name] for name in switches})
        if gradient_checkpointing:
            self.model.set_gradient_checkpointing()
        if decode_checkpointing:
            self.model.vae.enable_gradient_checkpointing()
        self.decode = (self.model.decode if decode_patches is None else
                       PatchDecoder(self.model.vae, decode_patches, decode_background))
        self.prediction_type = prediction_type or self.model.prediction_type
        self.instruments: Instruments | None = None
        self.prepared_on: torch.device | None = None
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
        if self.hparams.lora_rank:
            complete_checkpoint(checkpoint, self, self.frozen_mark)
        require_same_model(self, checkpoint, self.trainer.state.fn == "fit")

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Save low-rank weights without the frozen ones."""
        if self.hparams.lora_rank:
            reduce_checkpoint(checkpoint, self.frozen_mark)

    def on_fit_start(self) -> None:
        self.prepare()
        if self.hparams.compile:
            self.model.unet.compile()
            self.model.writenet.compile()

    def on_validation_start(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """Take the frozen parts that losses look through, once the model is on its device."""
        if self.prepared_on != self.device:
            process = process_of(self.model.alphas_cumprod, self.prediction_type)
            self.signal_share = process_of(self.model.alphas_cumprod.cpu(), self.prediction_type).signal_share
            mib = self.hparams.reference_cache
            self.instruments = Instruments(process, self.decode, self.model.reader, self.hparams.latin_weight,
                                           "count", ReferenceCache(mib) if mib > 0 else None)
            self.prepared_on = self.device

    def share_caches(self, encoded: TensorCache, reference: ReferenceCache) -> None:
        """Keep latents and features of glyph lines, and those of true lines, in caches that other runs use as well."""
        self.prepare()
        self.cache, self.instruments = encoded, replace(self.instruments, cache=reference)

    def training_step(self, batch: AnyTextBatch, batch_idx: int) -> torch.Tensor:
        """One micro-batch; logs t/sim, t/ocr, t/ctc, t/loss."""
        latents, noise, timesteps = self.draw(batch, batch_idx)
        step = self.predict(batch, latents, noise, timesteps, chosen=self.choose(timesteps))
        self.last_inputs["output"] = step.output.detach()
        values = self.objective(step, self.global_step, watch=self.watches(self.global_step))
        self.last_parts = by_timestep(step, values)
        self.log_dict({f"t/{key}": value for key, value in logged(step, values).items()}, batch_size=len(batch))
        weights = {name: torch.tensor(self.objective.weight(name, self.global_step)) for name in ("ocr", "ctc")}
        self.log_dict({"t/loss_alpha": weights["ocr"], "t/loss_beta": weights["ctc"]}, batch_size=len(batch))
        return values.loss * self.accumulation_factor(batch_idx)

    @property
    def reads(self) -> bool:
        """Whether a term looks at the recogniser's readings of lines."""
        return any(term.per_line for term in self.objective.terms.values())

    @property
    def unknown_remedy(self) -> str:
        """What becomes of characters that the recogniser cannot read, for a warning."""
        if self.objective.weight("ctc") == 0:
            return "The OCR loss compares what it makes of them all the same"
        told = {"space": "In the CTC term they become spaces (ctc_unknown: skip_lines leaves such lines out of it)",
                "skip_characters": "The CTC term is without them", "skip_lines": "The CTC term is without such lines"}
        return told[self.hparams.ctc_unknown] if self.hparams.terms is None else "See unknown of the term ctc"

    def choose(self, timesteps: torch.Tensor) -> Chosen | None:
        """With ``read_chance``, the samples of this step that are read; all (None) without."""
        if not self.hparams.read_chance:
            return None
        at = self.places(len(timesteps))
        self.prepare()
        weights = self.weighting(self.signal_share(timesteps))
        return Chosen.draw(weights, draw_chances(self.hparams.seed, self.micro_step, at))

    def watches(self, step: int) -> bool:
        """Whether terms of weight 0 are computed at an optimizer step."""
        every = self.hparams.monitor_every or int("terms" in self.hparams and self.hparams.terms is not None)
        return every > 0 and step % every == 0

    def predict(self, batch: AnyTextBatch, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                conditions=None, chosen: Chosen | None = None) -> Step:
        """Run the network at the noisy latents of a batch; noise and timesteps may be on the CPU.

        Args:
            conditions: of the batch, None computes them. ``chosen``: samples that are read, None reads all.
        """
        self.prepare()
        noise, timesteps = noise.to(latents, non_blocking=True), timesteps.to(latents.device, non_blocking=True)
        conditions = self.conditions(batch) if conditions is None else conditions
        with self.objective.watch(self.model) as watched:
            output = self.model(self.instruments.process.add_noise(latents, noise, timesteps), timesteps, conditions)
        return Step(latents, noise, timesteps, output, batch, self.instruments, chosen=chosen, network=self.model,
                    watched=watched)

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
        latents = self.kept(batch.images, self.model.encode)
        return latents.to(torch.promote_types(latents.dtype, torch.float32))

    def conditions(self, batch: AnyTextBatch) -> Conditions:
        """Conditions of both networks: captions, glyphs, positions and masked images."""
        if not self.training or self.cache is None:
            return self.model.conditions(batch)
        own, known = self.model.text_embedding.config, {}
        if own.glyph and len(batch.lines):
            known["glyph_features"] = self.kept(batch.glyph_lines, self.model.glyph_features)
        if own.style and "style_recognizer" not in self.trained and len(batch.lines):
            crops = style_crops(batch.font_hints, batch.lines)
            known["style_features"] = self.kept(crops, self.model.style_features)
        return self.model.conditions(batch, self.kept(batch.masked_images, self.model.encode), **known)

    def not_computed(self) -> dict[str, str]:
        """Validation metrics that are not computed, with the reason."""
        raw = "" if self.hparams.monitor_every else "; --monitor_every 1 shows the unweighted term"
        short = {"ocr": "loss_alpha", "ctc": "loss_beta"}
        return {f"v/{key}": f"{name} is 0{raw}" for key, name in short.items() if self.objective.weight(key) == 0}

    @property
    def _added_keys(self) -> list[str]:
        """Log keys of the terms that have a weight."""
        return [key_of(name) for name in self.objective.terms if self.objective.weight(name) != 0]

    @property
    def _raw_keys(self) -> list[str]:
        """Log keys of the unweighted terms, the same in every process."""
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


def logged(step: Step, values: Values) -> dict[str, torch.Tensor]:
    """Detached scalars without prefix: sim, ocr, ctc (0 where they are not computed), loss and those of the terms."""
    found = {key: torch.zeros(()) for key in ("sim", "ocr", "ctc")} | values.log()
    skipped = len(step.batch.lines) - len(step.readable)
    return found | ({"skipped_lines": torch.tensor(float(skipped))} if skipped else {})


def load_model(source: str | nn.Module) -> nn.Module:
    """An AnyText2Model: given, from a saved folder, from an upstream checkpoint, or by configuration.

    Raises:
        MissingFileError: ``source`` looks like a path and is none.
    """
    if isinstance(source, nn.Module):
        return source
    from anytext_lib.models import AnyText2Model

    path = find_sample(source)
    if path.is_dir():
        return AnyText2Model.from_pretrained(path)
    if path.is_file():
        return AnyText2Model.from_config(source) if path.suffix == ".json" else AnyText2Model.from_upstream(path)
    if path.suffix or len(path.parts) > 1:
        raise MissingFileError(f"no model {source}: give a folder written by save_pretrained, an upstream checkpoint "
                                "(.ckpt, .safetensors), or the name of a configuration such as mini or sd15")
    return AnyText2Model.from_config(source)


def learning_rate_factor(step: int, schedule: str = "constant", warmup: int = 0, total: int | None = None,
                         final: float = 0.0) -> float:
    """Factor on the learning rate at an optimizer step.

    Args:
        step: optimizer step, counted from 0.
        schedule: "constant" (upstream), "linear" or "cosine" decay to ``final`` at step ``total``, or "one_cycle":
            cosine from 1/25 up to 1 over ``warmup`` steps (0: 30% of ``total``), then cosine down to ``final``.
        warmup: steps of linear increase for the other schedules; step 0 has the factor 1 / warmup.
        total: number of steps of the run; needed by all but "constant".

    Raises:
        OptionError: unknown schedule, or no ``total``.
    """
    if schedule not in LR_SCHEDULES:
        raise OptionError(f"lr_schedule is one of {LR_SCHEDULES}, got {schedule!r}")
    if schedule != "constant" and (total is None or not math.isfinite(total)):
        raise OptionError(f"lr_schedule {schedule!r} needs the length of the run: set trainer.max_steps or max_epochs")
    if schedule == "one_cycle":
        warmup = warmup or max(1, round(0.3 * total))
        if step < warmup:
            return _cosine(step / warmup, 1 / 25, 1.0)
        return _cosine(_share(step, warmup, total), 1.0, final)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    share = _share(step, warmup, total)
    return _cosine(share, 1.0, final) if schedule == "cosine" else 1.0 + (final - 1.0) * share


def require_rate(learning_rate: float, warmup_steps: int) -> None:
    """OptionError if these cannot be a learning rate and its warm-up."""
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise OptionError(f"learning_rate is a number of at least 0, got {learning_rate}")
    if warmup_steps < 0:
        raise OptionError(f"warmup_steps is at least 0, got {warmup_steps}")


def require_timesteps(count: int, **named: Sequence[int]) -> None:
    """OptionError if a value of an option, given by its name, is no timestep of a model with ``count`` of them."""
    for name, values in named.items():
        wrong = [t for t in values if not 0 <= t < count]
        if wrong:
            raise OptionError(f"{name} {wrong[0]} is no timestep: the model has 0 to {count - 1}")


def _share(step: int, warmup: int, total: float) -> float:
    return min(1.0, (step - warmup) / max(1, total - warmup))


def _cosine(share: float, first: float, last: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
