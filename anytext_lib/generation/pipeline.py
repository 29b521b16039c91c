"""Write words into a picture: generation and editing with AnyText2, as a pipeline of diffusers.

    conditions (captions, glyphs, positions, masked image)  once for a picture, however many seeds
    WriteNet                                                once for each condition: with and without the caption
    UNet                                                    at every step of the scheduler, guided
    auto-encoder                                            once for each image

Source: AnyText2 ``ms_wrapper.py``, ``cldm/ddim_hacked.py``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput

from anytext_lib.adapters.adaptation import Adaptation, Adapter
from anytext_lib.data.batch import to_uint8
from anytext_lib.device import DeviceError
from anytext_lib.generation import stages
from anytext_lib.generation.denoise import Progress, check_scheduler, denoise, guided, make_scheduler, read_scheduler
from anytext_lib.generation.metadata import make_record
from anytext_lib.generation.prepare import Prepared, prepare
from anytext_lib.generation.request import Defaults, Line, Request, RequestError, RequestWarning, Settings
from anytext_lib.generation.stages import Job, PartPlacement, make_jobs
from anytext_lib.generation.translation import Translator, translated
from anytext_lib.models.anytext2 import AnyText2Model

OutputType = Literal["pil", "np", "pt"]
SCHEDULER_FILE = "scheduler/scheduler_config.json"


@dataclass
class AnyText2Output(BaseOutput):
    """What a run made, image by image.

    Attributes:
        images: N ``PIL.Image`` ("pil") or arrays (H, W, 3) uint8 ("np"), or one tensor (N, 3, H, W) in [-1, 1] ("pt":
            at the size at which the model works, nothing composited).
        seeds: N seeds; None where a generator was given.
        pictures: N indices of the requests. ``records``: N dictionaries with all settings, see ``metadata``.
    """

    images: Any
    seeds: list
    pictures: list
    records: list


class AnyText2Pipeline(DiffusionPipeline):
    """An AnyText2Model and a scheduler.

    Args:
        model: any size. ``scheduler``: of diffusers; None takes upstream's DDIM; see ``schedulers.make_scheduler``.
        defaults: what suits the model; None takes upstream's.

    Attributes:
        translator: a function from a prompt in another script than Latin to English, or None; see ``translation``.

    ``to(device, dtype)`` moves and converts it; half precision (float16, bfloat16) leaves the recogniser and the
    latents between the steps in float32.
    """

    _optional_components = ["scheduler"]

    def __init__(self, model: AnyText2Model, scheduler: SchedulerMixin | None = None,
                 defaults: Defaults | None = None):
        super().__init__()
        self.register_modules(model=model.eval(), scheduler=scheduler or make_scheduler("ddim", model))
        self.defaults, self.placement, self.folder = defaults or Defaults(), PartPlacement(model), None
        self.adapter = Adapter(model)
        self.translator: Translator | None = None

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, device: torch.device | str = "cpu",
                        dtype: torch.dtype = torch.float32, scheduler: SchedulerMixin | str | None = None
                        ) -> AnyText2Pipeline:
        """A pipeline from a folder of ``AnyText2Model.save_pretrained`` or of this class's own.

        Args:
            scheduler: an object, or "ddim", "dpmsolver++" or "unipc"; None takes the stored one, else DDIM.
        """
        model, stored = AnyText2Model.from_pretrained(folder, device, dtype), Path(folder) / SCHEDULER_FILE
        if isinstance(scheduler, str):
            scheduler = make_scheduler(scheduler, model)
        elif scheduler is None and stored.is_file():
            scheduler = read_scheduler(stored)
        pipeline = cls(model, scheduler, Defaults.read(folder))
        pipeline.folder = Path(folder)
        return pipeline

    def save_pretrained(self, folder: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
        """Write model (its weights as they are now, with what was loaded into them), scheduler and defaults."""
        self.model.save_pretrained(folder, dtype)
        self.scheduler.save_pretrained(Path(folder) / "scheduler")
        self.defaults.write(folder)

    def to(self, *where: torch.device | str | torch.dtype, device: torch.device | str | None = None,
           dtype: torch.dtype | None = None) -> AnyText2Pipeline:
        """Move and convert all parts; ends offloading."""
        for value in where:
            device, dtype = (device, value) if isinstance(value, torch.dtype) else (value, dtype)
        self.placement.move(device, dtype)
        return self

    def enable_model_cpu_offload(self, gpu_id: int = 0, device: torch.device | str | None = None) -> None:
        """Keep the parts on the CPU, each on the device only while it computes: less memory, a little slower."""
        if device is None and not torch.cuda.is_available():
            raise DeviceError("offloading needs a GPU, and PyTorch sees none: leave it out")
        self.placement.start_offload(f"cuda:{gpu_id}" if device is None else device)

    def adapt(self, adaptation: Adaptation) -> list[str]:
        """Bring the weights to what ``adaptation`` asks, whatever it was before; returns one line about each file.

        Raises:
            LoraError, CheckpointError: a file cannot be used; the weights are as they were.
        """
        return self.adapter.apply(adaptation)

    def load_lora(self, file: str | os.PathLike, ratio: float = 1.0) -> list[str]:
        """Add a LoRA file to those that are there, or change its ratio; returns and raises as ``adapt``.

        Args:
            file: for Stable Diffusion 1.5, under the names of kohya, diffusers or peft, or one of `anytext fit`.
            ratio: 1 as trained; negative takes away.
        """
        return self.adapt(self.adapter.adaptation.with_lora(file, ratio))

    def unload_lora(self, file: str | os.PathLike | None = None) -> list[str]:
        """Take a LoRA file out, or, without a name, all; the weights are then as if it had never been there."""
        return self.adapt(self.adapter.adaptation.without_lora(file))

    def load_base(self, path: str | os.PathLike, vae: bool = False) -> list[str]:
        """Take Stable Diffusion's layers from another model, see ``adapters.base_model``; LoRA files stay on top.

        Args:
            path: one file or a folder in diffusers' layout. ``vae``: take the auto-encoder as well.
        """
        return self.adapt(replace(self.adapter.adaptation, base=str(path), base_vae=vae))

    def unload_base(self) -> list[str]:
        """Go back to the model's own layers."""
        return self.adapt(replace(self.adapter.adaptation, base=None, base_vae=False))

    def __call__(self, *arguments, **options) -> AnyText2Output:
        """``generate``."""
        return self.generate(*arguments, **options)

    def generate(self, prompt: str = "", lines: Sequence[Line | str] = (), *, width: int | None = None,
                 height: int | None = None, mask: Any = None, order: Literal["rows", "columns"] = "rows",
                 negative_prompt: str | None = None, added_prompt: str | None = None, glyph_font: str | None = None,
                 font_hint: Literal["filled", "hollow", "outline"] | None = None, revise_positions: bool = False,
                 ddim_steps: int | None = None, cfg_scale: float | None = None, attnx_scale: float = 1.0,
                 strength: float = 1.0, eta: float = 0.0, images: int = 1, seed: int | Sequence[int] | None = None,
                 generator: torch.Generator | Sequence[torch.Generator] | None = None, batch_size: int = 4,
                 callback: Callable[[Progress], None] | None = None, output_type: OutputType = "pil"
                 ) -> AnyText2Output:
        """Generate new pictures; for the content see ``Request`` and ``Line``, for the sampler ``Settings``.

        Args:
            prompt: words in double quotes become lines. ``lines``: further lines, strings or ``Line``.
            width, height: multiples of 64 (of the model's own grid, see ``prepare.picture_grid``).
            images: how many. ``seed``: of the first, the others follow; or one for each; None draws one at random.
            generator: in place of seeds, one for each image, on the CPU.
            batch_size: images that are sampled together.
            callback: is given a ``Progress`` after every step.

        Raises:
            RequestError: names the line that is wrong, and what to do.
        """
        request = Request(prompt, lines, mask, order, None, negative_prompt, added_prompt, width, height, glyph_font,
                          font_hint=font_hint, revise_positions=revise_positions)
        settings = self.default_settings().changed(ddim_steps=ddim_steps, cfg_scale=cfg_scale,
                                                   attnx_scale=attnx_scale, strength=strength, eta=eta)
        return self.run([request], settings, images, seed, generator, batch_size, callback, output_type)

    def edit(self, image: Any, prompt: str = "", lines: Sequence[Line | str] = (), *, mask: Any = None,
             order: Literal["rows", "columns"] = "rows", negative_prompt: str | None = None,
             added_prompt: str | None = None, glyph_font: str | None = None,
             font_hint: Literal["filled", "hollow", "outline"] | None = None, revise_positions: bool = False,
             ddim_steps: int | None = None,
             cfg_scale: float | None = None, attnx_scale: float = 1.0, strength: float = 1.0, eta: float = 0.0,
             composite: bool = False, blend: bool = False, images: int = 1, seed: int | Sequence[int] | None = None,
             generator: torch.Generator | Sequence[torch.Generator] | None = None, batch_size: int = 4,
             callback: Callable[[Progress], None] | None = None, output_type: OutputType = "pil") -> AnyText2Output:
        """Write lines into ``image``, whose regions they take; blank lines erase. Arguments as of ``generate``.

        The regions are hidden from the model, and the surroundings are made anew in the likeness of the image, as
        upstream does.

        Args:
            image: (H, W, 3) uint8 RGB, a ``PIL.Image`` or a file, of any size: it is edited at the nearest multiple of
                the model's grid, at most 1024 pixels, and comes back at its own size.
            composite: put the pixels outside of the regions back exactly.
            blend: keep the latents outside of the regions at every step: for models that were not trained to edit.
        """
        request = Request(prompt, lines, mask, order, image, negative_prompt, added_prompt, glyph_font=glyph_font,
                          font_hint=font_hint, revise_positions=revise_positions)
        settings = self.default_settings().changed(
            ddim_steps=ddim_steps, cfg_scale=cfg_scale, attnx_scale=attnx_scale, strength=strength, eta=eta,
            composite=composite, blend=blend)
        return self.run([request], settings, images, seed, generator, batch_size, callback, output_type)

    @torch.no_grad()
    def run(self, requests: Sequence[Request], settings: Settings | None = None, images: int = 1,
            seed: int | Sequence[int] | None = None,
            generator: torch.Generator | Sequence[torch.Generator] | None = None, batch_size: int = 4,
            callback: Callable[[Progress], None] | None = None, output_type: OutputType = "pil") -> AnyText2Output:
        """``images`` images of each of several requests, of one size; seeds and generators run on through all."""
        if self.translator is not None:
            requests = [translated(request, self.translator) for request in requests]
        prepared = [prepare(request, self.model, self.defaults) for request in requests]
        return self.run_prepared(prepared, settings, images, seed, generator, batch_size, callback, output_type)

    @torch.no_grad()
    def run_prepared(self, prepared: Sequence[Prepared], settings: Settings | None = None, images: int = 1,
                     seed: int | Sequence[int] | None = None,
                     generator: torch.Generator | Sequence[torch.Generator] | None = None, batch_size: int = 4,
                     callback: Callable[[Progress], None] | None = None, output_type: OutputType = "pil"
                     ) -> AnyText2Output:
        """``run`` of requests that were prepared for this pipeline's model and defaults."""
        settings = settings or self.default_settings()
        self._check(settings, batch_size, output_type)
        self._check_requests(prepared, settings)
        jobs = make_jobs(len(prepared), images, seed, generator)
        made, records = [], []
        with stages.sampling_state(self.model, settings, self.placement.device):
            for group in stages.groups(jobs, batch_size):
                pictures = list(dict.fromkeys(job.picture for job in group))
                branches = stages.encode(self.model, self.placement, [prepared[i] for i in pictures], settings)
                for start in range(0, len(group), batch_size):
                    batch = group[start : start + batch_size]
                    rows = [pictures.index(job.picture) for job in batch]
                    items = [prepared[job.picture] for job in batch]
                    here = [branch.rows(rows) for branch in branches]
                    made.append(self._sample(batch, items, here, settings, jobs, callback))
                    records += [make_record(self, items, settings, batch, place) for place in range(len(batch))]
        found = self._output(made, [prepared[job.picture] for job in jobs], settings, output_type)
        return AnyText2Output(images=found, seeds=[job.seed for job in jobs], pictures=[job.picture for job in jobs],
                              records=records)

    def _sample(self, batch: list[Job], items: list[Prepared], branches, settings: Settings, jobs: list[Job],
                callback) -> torch.Tensor:
        """Images (B, 3, H, W) in [-1, 1] of one batch, on the CPU."""
        noise = stages.draw_noise(batch, branches[0].conditions.masked_latents)
        kept = stages.kept_latents(self.model, self.placement, items, noise) if settings.blend else None
        places = [jobs.index(job) for job in batch]

        def told(step, steps, t, latents, estimate):
            callback(Progress(step, steps, t, places, latents, estimate, self._preview))

        slow = [] if branches[0].control is not None or settings.strength == 0 else ["writenet"]
        with self.placement.using("unet", *slow):
            latents = denoise(guided(branches, settings.cfg_scale), noise, self.scheduler, settings.ddim_steps,
                              self.model.alphas_cumprod.cpu(), settings.eta, [job.generator for job in batch], kept,
                              told if callback else None)
        return stages.decode(self.model, self.placement, latents).cpu()

    def _preview(self, latents: torch.Tensor) -> list:
        from PIL import Image

        images = stages.decode(self.model, self.placement, latents)
        return [Image.fromarray(image) for image in to_uint8(images)]

    @staticmethod
    def _output(made: list[torch.Tensor], items: list[Prepared], settings: Settings, output_type: OutputType):
        from PIL import Image

        images = torch.cat(made)
        if output_type == "pt":
            return images
        arrays = stages.finish(images, items, settings.composite)
        return arrays if output_type == "np" else [Image.fromarray(array) for array in arrays]

    def default_settings(self) -> Settings:
        """What suits the model."""
        return Settings(self.defaults.ddim_steps, self.defaults.cfg_scale)

    def _check(self, settings: Settings, batch_size: int, output_type: str) -> None:
        check_scheduler(self.scheduler, self.model, settings.eta)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise RequestError(f"batch_size is at least 1, got {batch_size!r}")
        if output_type not in ("pil", "np", "pt"):
            raise RequestError(f"output_type is 'pil', 'np' or 'pt', got {output_type!r}")

    def _check_requests(self, prepared: Sequence[Prepared], settings: Settings) -> None:
        sizes = sorted({item.sample.image.shape[:2] for item in prepared})
        if len(sizes) != 1:
            raise RequestError(f"the pictures of one run have one size, got {sizes} (height, width): run them apart")
        if (settings.composite or settings.blend) and any(item.original is None for item in prepared):
            raise RequestError("composite and blend keep parts of a picture that is edited: give an image")
        wanted = [line.text for item in prepared for line in item.request.lines
                  if line.imitates]
        if wanted and not self.model.text_embedding.config.style:
            warnings.warn(f"this model was built without styles: the fonts and style images of {wanted} have no effect "
                          "(glyph_font changes the letters that it is shown)", RequestWarning, stacklevel=3)
