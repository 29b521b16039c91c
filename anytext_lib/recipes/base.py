"""The base of the mini model: text to image, without glyphs, as Stable Diffusion is AnyText2's.

    python -m anytext_lib.recipes.base OUTPUT --autoencoder data_samples/mini2/vae --style STYLE

trains the UNet and the caption encoder to draw scenes from their captions, and writes a model in which AnyText2's
training begins: the extra attentions are copies of the base's own, WriteNet is a copy of its encoder, and the outputs
of WriteNet are zero as upstream's.  The text embedding is fresh, and neither its projections nor the layer that joins
WriteNet's hints start at zero: behind outputs that are zero there is nothing to protect.  STYLE is the style recogniser
that ``recipes.style_recogniser`` has trained.

The scenes are drawn and encoded once, into OUTPUT/latents.npy and OUTPUT/captions.json.  An interrupted run goes on
where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.data.hints import image_caption
from anytext_lib.diffusion import VariancePreserving
from anytext_lib.errors import OptionError
from anytext_lib.files import atomic_path, write_json
from anytext_lib.models import AnyText2Model
from anytext_lib.models.attnx import copy_attentions, set_attnx_scale
from anytext_lib.models.storage import load_part
from anytext_lib.recipes.autoencoder import WEIGHTS, mixed_scenes, reset_zero_layers
from anytext_lib.recipes.mini import renew_colors
from anytext_lib.recipes.training_state import lerp_average, resumable_steps
from anytext_lib.scenes.rendering import scene_batch
from anytext_lib.training.module import learning_rate_factor

PIECE = 200  # scenes that are drawn and encoded at a time


@dataclass(frozen=True)
class BaseRecipe:
    """How the base is trained: AdamW, a warm-up, then a cosine to zero.

    Attributes:
        steps, batch_size, learning_rate, warmup: of the optimiser. ``scenes``: how many different ones are drawn.
        caption_dropout: probability of an empty caption, so that the base can be guided.
        average: decay of the average of the weights, which is what remains.
        seed: of weights, scenes, noise and timesteps.
    """

    steps: int = 8000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    scenes: int = 16000
    caption_dropout: float = 0.1
    average: float = 0.999
    seed: int = 0


def fresh_model(autoencoder: Path, style: Path | None = None, config: str = "mini2", seed: int = 0) -> AnyText2Model:
    """A model with random weights around a trained auto-encoder (a folder ``vae``) and style recogniser (a file).

    The projection of colours starts with a small W and a large gain, for the reasons given in ``recipes.mini``.
    """
    torch.manual_seed(seed)
    model = AnyText2Model.from_config(config)
    load_part(model.vae, autoencoder / WEIGHTS)
    if style is not None:
        load_part(model.text_embedding.style_recognizer, style)
    renew_colors(model)
    return model


@torch.no_grad()
def encoded_scenes(folder: Path, model: AnyText2Model, count: int, seed: int,
                   log: Callable[[str], None] = print) -> tuple[np.ndarray, list[str]]:
    """Latents (count, C, h, w) float16 and captions of training scenes, kept in ``folder``.

    The latents are the posterior's means. Pieces that an earlier run has drawn are not drawn again.
    """
    whole, told, pieces = folder / "latents.npy", folder / "captions.json", folder / "pieces"
    if not whole.exists():
        pieces.mkdir(parents=True, exist_ok=True)
        firsts = range(0, count, PIECE)
        for first in firsts:
            if not (pieces / f"{first}.json").exists():
                scenes = mixed_scenes(min(PIECE, count - first), "train", seed * 1_000_000 + first)
                latents = torch.cat([model.encode(part, sample=False) for part in scene_batch(scenes)[0].split(20)])
                np.save(pieces / f"{first}.npy", latents.half().numpy())
                rng = np.random.default_rng([seed, first])
                write_json(pieces / f"{first}.json", [image_caption(scene.caption, rng) for scene in scenes])
                log(f"{first + len(scenes)} of {count} scenes drawn")
        write_json(told, [caption for first in firsts
                          for caption in json.loads((pieces / f"{first}.json").read_text(encoding="utf-8"))])
        with atomic_path(whole) as new, open(new, "wb") as out:
            np.save(out, np.concatenate([np.load(pieces / f"{first}.npy") for first in firsts]))
        shutil.rmtree(pieces)
    return np.load(whole, mmap_mode="r"), json.loads(told.read_text(encoding="utf-8"))


def require_same_recipe(file: Path, recipe: BaseRecipe) -> None:
    """Note the recipe of a folder, or see that it is the one that is noted.

    Raises:
        OptionError: the folder holds scenes and steps of another recipe.
    """
    wanted = asdict(recipe)
    noted = json.loads(file.read_text(encoding="utf-8")) if file.exists() else wanted
    other = [f"{name} {noted.get(name)}" for name, value in wanted.items() if noted.get(name) != value]
    if other:
        raise OptionError(f"{file.parent} was begun with {', '.join(other)}: give the same, or another folder")
    write_json(file, wanted)


class Base(nn.Module):
    """UNet and caption encoder of a model as a text-to-image model, without the extra attentions."""

    def __init__(self, model: AnyText2Model):
        super().__init__()
        self.unet, self.text_encoder = model.unet, model.text_encoder
        self.captions = model.captions
        self.text_encoder.requires_grad_(True)
        set_attnx_scale(self.unet, 0.0)

    def forward(self, noisy_latents: torch.Tensor, timesteps: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """What the network predicts, (B, C, h, w)."""
        context, mask = self.captions.encode_image_captions(captions)
        return self.unet(noisy_latents, timesteps, context, encoder_attention_mask=mask).sample


def train_base(model: AnyText2Model, latents: np.ndarray, captions: Sequence[str], recipe: BaseRecipe,
               state: Path | None = None, log: Callable[[str], None] = print) -> AnyText2Model:
    """Train UNet and caption encoder of ``model`` in place; the diffusion loss at uniform timesteps.

    Args:
        latents: (N, C, h, w). ``captions``: N.
        state: a file that a run which stops goes on from, written every two minutes and at the end.

    Returns:
        ``model`` with averaged weights, ready for AnyText2's training: see ``begin_anytext2``.
    """
    base = Base(model).train()
    average = copy.deepcopy(base)
    extra = {id(p) for name, p in base.named_parameters() if ".attn1x." in name or ".attn2x." in name}
    optimizer = torch.optim.AdamW((p for p in base.parameters() if id(p) not in extra), recipe.learning_rate)
    process = VariancePreserving(model.alphas_cumprod, model.prediction_type)
    generator = torch.Generator().manual_seed(recipe.seed)
    parts = {"base": base, "average": average, "optimizer": optimizer}
    losses: list[float] = []
    for step in resumable_steps(recipe.steps, parts, generator, losses, state, log, every=100):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * learning_rate_factor(
            step, "cosine", recipe.warmup, recipe.steps)
        rows = torch.randint(len(latents), (recipe.batch_size,), generator=generator).tolist()
        dropped = (torch.rand(len(rows), generator=generator) < recipe.caption_dropout).tolist()
        x = torch.from_numpy(latents[rows].astype(np.float32))
        told = ["" if drop else captions[i] for i, drop in zip(rows, dropped, strict=True)]
        noise = torch.randn(x.shape, generator=generator)
        t = torch.randint(len(model.alphas_cumprod), (len(x),), generator=generator)
        loss = F.mse_loss(base(process.add_noise(x, noise, t), t, told), process.target(x, noise, t))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        lerp_average(average, base, min(recipe.average, (1 + step) / (10 + step)))
        losses.append(loss.item())
    base.load_state_dict(average.state_dict())
    return begin_anytext2(model)


def begin_anytext2(model: AnyText2Model) -> AnyText2Model:
    """Make a trained base the start of AnyText2's training: copied attentions, WriteNet a copy of the encoder."""
    copy_attentions(model.unet)
    set_attnx_scale(model.unet, 1.0)
    model.writenet.copy_encoder(model.unet)
    reset_zero_layers(model.writenet.fuse_block, model.text_embedding)
    return model.requires_grad_(False).eval()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model, and for what an interrupted run goes on from")
    parser.add_argument("--autoencoder", type=Path, required=True, help="the folder vae of a trained model")
    parser.add_argument("--style", type=Path, help="weights of a style recogniser (default: those of PP-OCRv3)")
    parser.add_argument("--config", default="mini2", help="configuration of the model (default mini2)")
    for name, value in asdict(BaseRecipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(arguments))
    output, autoencoder, style, config = (options.pop(name) for name in ("output", "autoencoder", "style", "config"))
    recipe = BaseRecipe(**options)

    def log(text: str) -> None:
        print(text, flush=True)

    output.mkdir(parents=True, exist_ok=True)
    require_same_recipe(output / "recipe.json", recipe)
    model = fresh_model(autoencoder, style, config, recipe.seed)
    latents, captions = encoded_scenes(output, model, recipe.scenes, recipe.seed, log)
    train_base(model, latents, captions, recipe, output / "state.pt", log).save_pretrained(output / "model")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
