"""Pre-training of a small label encoder on rendered words, in a few minutes on a laptop.

    python -m anytext_lib.recipes.udifftext_label_encoder OUTPUT.safetensors

Each batch holds whole families of near-identical words, so that the contrast between them is asked for at every step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.fonts import fonts_for
from anytext_lib.errors import OptionError
from anytext_lib.recipes.loop import fit
from anytext_lib.scenes.lettering import render_line
from anytext_lib.scenes.words import LETTERS, draw_word, split_of
from anytext_lib.udifftext.contrastive import ImageTokens, PretrainingHeads, PretrainingTerms, retrieval_accuracy
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig

# words with near-identical companions, and pictures of them

SIZE = (48, 160)
"""Height and width of the pictures in pixels: seven letters at the height that PP-OCRv3 reads."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def near_word(word: str, rng: np.random.Generator) -> str:
    """A word one mistake away: a letter exchanged, two neighbours swapped, a letter dropped or doubled.

    Its length stays within that of the course's words; the spelling of the letter's place (upper or lower) is kept.
    """
    while True:
        i = int(rng.integers(len(word)))
        letter = ALPHABET[rng.integers(26)]
        changed = (word[:i] + (letter.upper() if word[i].isupper() else letter) + word[i + 1 :],
                   word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
                   word[:i] + word[i + 1 :], word[: i + 1] + word[i:])[rng.integers(4)]
        if changed.lower() != word.lower() and LETTERS[0] <= len(changed) <= LETTERS[1]:
            return changed


def draw_families(count: int, split: str, near: int, rng: np.random.Generator) -> list[list[str]]:
    """Families of words that differ everywhere: a word of a split first, then ``near`` words one mistake away.

    Args:
        split: see ``scenes.words``; companions belong to the same split by their hash, so that no held-out word is
            trained on. Half of the words of "train" are made up.

    Raises:
        ValueError: the split has fewer words than asked for.
    """
    families, taken, failed = [], set(), 0
    while len(families) < count:
        family = [draw_word(rng, split, 0.5 if split == "train" else 0.0)]
        if family[0].lower() in taken:
            failed += 1
            if failed > 3000:
                raise OptionError(f"the split {split!r} has no {count} different words: it gave {len(families)}")
            continue
        failed = 0
        taken.add(family[0].lower())
        while len(family) <= near:
            companion = near_word(family[0], rng)
            if split_of(companion) == split and companion.lower() not in taken:
                taken.add(companion.lower())
                family.append(companion)
        families.append(family)
    return families


def draw_word_images(words: Sequence[str], rng: np.random.Generator, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A picture of each word (N, 3, H, W) in [-1, 1]: any font of the course, dark on light, some tilt and noise."""
    pictures = []
    for word in words:
        names = fonts_for(word)
        ink, ground = rng.uniform(0, 90, 3), rng.uniform(180, 255, 3)
        pictures.append(render_line(word, names[rng.integers(len(names))], size, color=ink, background=ground,
                                    rotation=rng.uniform(-2, 2), offset=tuple(rng.uniform(-2, 2, 2)),
                                    blur=rng.uniform(0, 0.7), noise=rng.uniform(0, 8), seed=int(rng.integers(2**31))))
    return to_tensor(pictures)


@torch.no_grad()
def encode_images(images: torch.Tensor, encode: Callable[[torch.Tensor], torch.Tensor],
                  batch_size: int = 32) -> torch.Tensor:
    """Tokens (N, T, D) of pictures (N, 3, H, W) by a frozen encoder such as ``PPOCRv3Recognizer.features``."""
    return torch.cat([encode(part) for part in images.split(batch_size)])


# training

ImageEncoder = Callable[[torch.Tensor], torch.Tensor]
DEFAULTS = {"families": 1500, "near": 3, "views": 1, "steps": 500, "batch_families": 24, "learning_rate": 2e-3,
            "width": 128, "seed": 0}


@dataclass(frozen=True)
class WordData:
    """Families of words with the image tokens of their pictures: ``tokens`` (V, F, N, T, D), V views of each word."""

    families: list[list[str]]
    tokens: torch.Tensor

    @property
    def image(self) -> ImageTokens:
        return ImageTokens(*self.tokens.shape[-2:])


@dataclass(frozen=True)
class Scores:
    """How well words and pictures find each other.

    Attributes:
        text_to_image, image_to_text: retrieval accuracy among all words of the data, companions included.
        near: share of pictures whose word is the nearest of its family of near-identical words.
        words: how many words there are. ``chance``: of ``near`` by guessing.
    """

    text_to_image: float
    image_to_text: float
    near: float
    words: int
    chance: float


def make_word_data(count: int, split: str, near: int, encode: ImageEncoder, seed: int, views: int = 1) -> WordData:
    """Draw families and their pictures, and look at these once; the same for the same seed."""
    rng = np.random.default_rng([seed, 31])
    families = draw_families(count, split, near, rng)
    words = [word for family in families for word in family]
    seen = [encode_images(draw_word_images(words, rng), encode) for _ in range(views)]
    return WordData(families, torch.stack(seen).unflatten(1, (count, near + 1)))


def batches(data: WordData, size: int, seed: int) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Endless batches of ``size`` whole families: words, and tokens of one of their views."""
    rng = np.random.default_rng([seed, 32])
    views, families = data.tokens.shape[:2]
    while True:
        chosen = rng.choice(families, min(size, families), replace=False)
        view = int(rng.integers(views))
        yield [word for i in chosen for word in data.families[i]], data.tokens[view, chosen].flatten(0, 1)


def pretrain(encoder: LabelEncoder, data: WordData, steps: int = 500, batch_families: int = 24,
             learning_rate: float = 2e-3, width: int = 128, seed: int = 0,
             log: Callable[[str], None] = print) -> PretrainingHeads:
    """Train an encoder by the objective of ``contrastive`` with AdamW and one cycle.

    Args:
        encoder: trained in place; in evaluation mode afterwards. ``width``: of the common space.

    Returns:
        the heads, for ``evaluate``.
    """
    torch.manual_seed(seed)
    heads = PretrainingHeads(encoder.config, data.image, width)
    encoder.train()
    start, source = time.perf_counter(), batches(data, batch_families, seed)

    def terms_of_batch() -> PretrainingTerms:
        words, tokens = next(source)
        classes = encoder.classes(words)
        return heads(encoder(classes), tokens, classes)

    for step, terms in fit([*encoder.parameters(), *heads.parameters()], terms_of_batch, steps, learning_rate):
        if step % max(1, steps // 10) == 0:
            log(f"step {step} of {steps}: contrast {terms.contrast:.3f}, characters "
                f"{terms.character_accuracy:.3f} and places {terms.place_accuracy:.3f} right, "
                f"{time.perf_counter() - start:.0f} s")
    encoder.eval()
    heads.eval()
    return heads


@torch.no_grad()
def evaluate(encoder: LabelEncoder, heads: PretrainingHeads, data: WordData) -> Scores:
    """Retrieval on words that the data hold, such as held-out ones."""
    words = [word for family in data.families for word in family]
    text = torch.nn.functional.normalize(heads.text(encoder(words)), dim=1)
    image = torch.nn.functional.normalize(heads.image(data.tokens[0].flatten(0, 1)), dim=1)
    count = len(data.families)
    scores = image.unflatten(0, (count, -1)) @ text.unflatten(0, (count, -1)).mT  # (families, pictures, words)
    near = float((scores.argmax(dim=2) == torch.arange(scores.shape[2])).float().mean())
    return Scores(*retrieval_accuracy(text, image), near, len(words), 1 / scores.shape[2])


def train_label_encoder(families: int = 1500, near: int = 3, views: int = 1, steps: int = 500,
                        batch_families: int = 24, learning_rate: float = 2e-3, width: int = 128, seed: int = 0,
                        config: LabelEncoderConfig | None = None, encode: ImageEncoder | None = None,
                        held_out: int = 40, log: Callable[[str], None] = print) -> tuple[LabelEncoder, Scores]:
    """The whole recipe: draw words, look at them, train, and measure on words held out.

    Args:
        config: of the encoder, by default mini. ``encode``: the image encoder, by default PP-OCRv3's frozen features.
        held_out: families of the split "test" (with ``near`` companions each) to measure on.
    """
    if encode is None:
        from anytext_lib.ocr import PPOCRv3Recognizer

        encode = PPOCRv3Recognizer.from_pretrained().features
    start = time.perf_counter()
    data = make_word_data(families, "train", near, encode, seed, views)
    held = make_word_data(held_out, "test", near, encode, seed + 1)
    log(f"drew and looked at {(families * views + held_out) * (near + 1)} pictures in "
        f"{time.perf_counter() - start:.0f} s")
    torch.manual_seed(seed)
    encoder = LabelEncoder(config or LabelEncoderConfig.mini())
    heads = pretrain(encoder, data, steps, batch_families, learning_rate, width, seed, log)
    scores = evaluate(encoder, heads, held)
    log(f"{scores.words} held-out words: own picture found {scores.text_to_image:.3f}, own word found "
        f"{scores.image_to_text:.3f}; near-identical words told apart {scores.near:.3f} (chance {scores.chance:.3f})")
    return encoder.freeze(), scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file for the encoder, such as label_encoder.safetensors")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default,
                            help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    encoder, _ = train_label_encoder(**options, log=lambda text: print(text, flush=True))
    encoder.save(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
