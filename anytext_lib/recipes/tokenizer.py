"""A small byte-level BPE for the mini model, in the form of an ordinary CLIPTokenizer.

    python -m anytext_lib.recipes.tokenizer OUTPUT

CLIP's own vocabulary has 49408 entries, most of them never seen by a model that knows a few hundred words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from anytext_lib.scenes.palette import BACKGROUNDS
from anytext_lib.scenes.words import CHINESE_WORDS, draw_caption, draw_word

START, END = "<|startoftext|>", "<|endoftext|>"
PHRASES = ("Texts that say * ,", "Some words: * ,", "An image with the content of * .", "Writing * and * .")
_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # as CLIP


def course_captions(count: int = 4000, seed: int = 0) -> list[str]:
    """Captions of rendered scenes with words of the training split, phrases with ``*``, and some Chinese."""
    rng = np.random.default_rng([seed, 77])
    kinds = list(BACKGROUNDS)
    captions = [draw_caption(rng, kinds[rng.integers(len(kinds))], [draw_word(rng, "train", 0.3)])
                for _ in range(count)]
    return captions + list(PHRASES) * 20 + list(CHINESE_WORDS)


def train_tokenizer(captions: Iterable[str], vocab_size: int = 1024) -> CLIPTokenizer:
    """Train on ``captions``; any text can be encoded (single bytes are in the vocabulary), ``*`` is one token."""
    bpe = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
                                           normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, end_of_word_suffix="</w>",
                                  show_progress=False)
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]][: vocab_size - 2 * 256 - 2]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters), *("".join(m) for m in merges)])
    vocab = {token: i for i, token in enumerate([*tokens, START, END])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=END)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the tokenizer")
    tokenizer = train_tokenizer(course_captions())
    tokenizer.save_pretrained(parser.parse_args(arguments).output)
    print(f"{len(tokenizer)} tokens")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
