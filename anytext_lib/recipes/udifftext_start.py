"""The start of a UDiffText model: an auto-encoder, a pre-trained label encoder, and a UNet with random weights.

    python -m anytext_lib.recipes.udifftext_start OUTPUT --autoencoder data_samples/mini/before --label-encoder FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from anytext_lib.models.storage import WEIGHTS, load_part
from anytext_lib.udifftext.label_encoder import LabelEncoder
from anytext_lib.udifftext.model import UDiffTextModel


def starting_model(autoencoder: str | Path | None = None, label_encoder: str | Path | None = None, size: str = "mini",
                   seed: int = 0) -> UDiffTextModel:
    """A model to be trained.

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model")
    parser.add_argument("--autoencoder", type=Path, help="folder of a saved model with a trained auto-encoder")
    parser.add_argument("--label-encoder", type=Path,
                        help="file written by anytext_lib.recipes.udifftext_label_encoder")
    parser.add_argument("--size", default="mini", help="default mini")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights, default 0")
    options = parser.parse_args(arguments)
    starting_model(options.autoencoder, options.label_encoder, options.size, options.seed).save_pretrained(
        options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
