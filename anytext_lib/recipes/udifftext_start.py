"""The start of a UDiffText model: a pre-trained label encoder, an auto-encoder, and a UNet.

    python -m anytext_lib.recipes.udifftext_start OUTPUT --autoencoder data_samples/mini/before --label-encoder FILE
    python -m anytext_lib.recipes.udifftext_start OUTPUT --base MODEL --label-encoder FILE

The first makes a UNet with random weights.  The second takes that of a text-to-image base which ``recipes.base`` has
trained, with its auto-encoder, its schedule and what it predicts, so that UDiffText and AnyText2 can be compared on
equal ground.  As upstream does with Stable Diffusion 2's inpainting model, it leaves out the cross-attention to
captions and puts one to characters in its place, new and silent (output layers of zeros); AnyText2's extra attentions
are left out too.  But that model was made for inpainting, and this base has never seen a mask: its first convolution
gets channels of zeros for the mask and the masked picture.  So that convolution has to be trained as well, or the whole
UNet: see ``train_input`` and ``train_all`` of ``udifftext.word_training``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from anytext_lib.models import AnyText2Model
from anytext_lib.models.attnx import unet_arguments
from anytext_lib.models.storage import WEIGHTS, load_part
from anytext_lib.scenes.scene_dataset import SIZE
from anytext_lib.udifftext.label_encoder import LabelEncoder
from anytext_lib.udifftext.model import UDiffTextModel
from anytext_lib.udifftext.original_checkpoint import is_text_attention


def starting_model(autoencoder: str | Path | None = None, label_encoder: str | Path | None = None, size: str = "mini",
                   seed: int = 0) -> UDiffTextModel:
    """A model to be trained from random weights.

    Args:
        autoencoder: folder of a saved model whose auto-encoder is taken (AnyText2's mini model); None leaves it random.
        label_encoder: file of a pre-trained one; None leaves it random.

    Raises:
        FileNotFoundError, StorageError, LabelEncoderError: a part is missing, damaged or of another size.
    """
    torch.manual_seed(seed)
    model = UDiffTextModel(size, None if label_encoder is None else LabelEncoder.load(label_encoder))
    if autoencoder is not None:
        load_part(model.vae, Path(autoencoder) / "vae" / WEIGHTS["vae"])
    return model


def model_on_base(base: AnyText2Model, label_encoder: LabelEncoder, seed: int = 0) -> UDiffTextModel:
    """A model to be trained whose UNet is that of a text-to-image base.

    Args:
        base: its extra attentions, WriteNet, text embedding and caption encoder are not looked at.
        label_encoder: a pre-trained one; its width becomes that of the UNet's context.
        seed: of the new text cross-attention's queries, keys and values.

    Returns:
        a model whose pictures are 64 x 192 pixels, as the base's scenes.
    """
    torch.manual_seed(seed)
    channels = base.vae.config.latent_channels
    unet = {name: value for name, value in unet_arguments(base.config["unet"]).items() if "attnx" not in name}
    unet |= {"in_channels": 2 * channels + 1, "cross_attention_dim": label_encoder.config.width}
    model = UDiffTextModel({"unet": unet, "vae": base.config["vae"], "scheduler": base.config["scheduler"],
                            "image_size": list(SIZE)}, label_encoder)
    model.vae.load_state_dict(base.vae.state_dict())
    given = base.unet.state_dict()
    with torch.no_grad():
        for name, tensor in model.unet.state_dict().items():
            if name == "conv_in.weight":
                tensor.zero_()
                tensor[:, :channels] = given[name]
            elif not is_text_attention(name):
                tensor.copy_(given[name])
            elif ".to_out." in name:
                tensor.zero_()
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--autoencoder", type=Path, help="folder of a saved model with a trained auto-encoder")
    source.add_argument("--base", type=Path, help="folder `model` of anytext_lib.recipes.base: UNet, auto-encoder and "
                        "schedule are taken from it")
    parser.add_argument("--label-encoder", type=Path,
                        help="file written by anytext_lib.recipes.udifftext_label_encoder; --base needs it")
    parser.add_argument("--size", default="mini", help="without --base; default mini")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights, default 0")
    options = parser.parse_args(arguments)
    if options.base is None:
        model = starting_model(options.autoencoder, options.label_encoder, options.size, options.seed)
    elif options.label_encoder is None:
        parser.error("--base needs --label-encoder FILE, such as data_samples/udifftext_mini/label_encoder.safetensors")
    else:
        model = model_on_base(AnyText2Model.from_pretrained(options.base), LabelEncoder.load(options.label_encoder),
                              options.seed)
    model.save_pretrained(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
