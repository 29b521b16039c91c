"""Where a model's tokenizer comes from."""

from __future__ import annotations

import os

from transformers import CLIPTokenizer

from anytext_lib.errors import AnyTextError
from anytext_lib.files import find_sample
from anytext_lib.models.caption_encoder import byte_tokenizer

BYTES = "bytes"


class TokenizerError(AnyTextError, ValueError):
    """The tokenizer's files are missing or do not fit the text encoder."""


def load_tokenizer(source: str | os.PathLike, vocab_size: int) -> CLIPTokenizer:
    """A tokenizer from a folder.

    Args:
        source: a folder with CLIP's tokenizer files (tokenizer.json, or vocab.json and merges.txt), or "bytes" for
            one that needs no file (see ``byte_tokenizer``).
        vocab_size: of the text encoder.

    Raises:
        TokenizerError: no such folder, no tokenizer in it, or ids that the text encoder does not have.
    """
    if str(source) == BYTES:
        return byte_tokenizer(vocab_size)
    folder = find_sample(source)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise TokenizerError(
            f"no CLIP tokenizer in {folder}: it needs tokenizer.json, or vocab.json and merges.txt. Stable Diffusion "
            "1.5 has them in its folder 'tokenizer'; pass tokenizer=FOLDER, or tokenizer='bytes' for a model that "
            "needs no real captions")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        raise TokenizerError(f"cannot read the tokenizer in {folder}: {error}") from error
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocab_size:
        raise TokenizerError(f"the tokenizer in {folder} has ids up to {largest}, the text encoder only {vocab_size} "
                             "tokens: they do not belong together")
    return tokenizer
