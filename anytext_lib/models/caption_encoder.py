"""Captions through CLIP, with the embeddings of lines in place of their ``*``.

The image caption may be long: it is cut into windows of 77 tokens (75 and the two markers), each is encoded alone,
and the outputs are joined along the tokens.  The text caption has one window.
Source: AnyText2 ``cldm/embedding_manager.py``, ``ldm/modules/encoders/modules.py`` (``FrozenCLIPEmbedderT3``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.masking_utils import create_causal_mask

from anytext_lib.errors import AnyTextError
from anytext_lib.files import find_sample

PLACEHOLDER = "*"
BYTES = "bytes"


class PlaceholderError(AnyTextError, ValueError):
    """The ``*`` of a caption do not fit the lines of text."""


class TokenizerError(AnyTextError, ValueError):
    """The tokenizer's files are missing or do not fit the text encoder."""


class CaptionEncoder:
    """A CLIP text model and its tokenizer; holds no weights of its own.

    Args:
        model: CLIP's text transformer. ``tokenizer``: its tokenizer.

    Raises:
        PlaceholderError: the tokenizer has no token for ``*`` alone.
    """

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.window = model.config.max_position_embeddings
        self.placeholder = placeholder_id(tokenizer)

    def tokens(self, caption: str) -> list[int]:
        """Ids of a caption without the markers of start and end."""
        return self.tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"]

    def encode_image_captions(self, captions: Sequence[str], embeddings: torch.Tensor | None = None,
                              image_index: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Contexts for the UNet.

        Args:
            captions: B captions of any length. ``embeddings``: (L, D), ``image_index``: (L,), see ``place_lines``.

        Returns:
            (B, N 77, D), and a mask (B, N 77) of the tokens that count, or None if all do.  A caption with fewer
            windows than the longest has empty ones, which do not count, so that a caption's effect does not depend on
            the others in its batch.
        """
        rows = [self.tokens(caption) for caption in captions]
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        longest = max(len(row) for row in rows)
        ids = torch.tensor([[start, *row, end] + [end] * (longest - len(row)) for row in rows])
        windows = split_windows(ids, self.window, start, end)
        inside = self.window - 2
        used = [max(1, -(-len(row) // inside)) for row in rows]
        context = self._encode(windows.transpose(0, 1).flatten(1), embeddings, image_index, captions)
        if min(used) == len(windows):
            return context, None
        mask = torch.arange(len(windows))[None] < torch.tensor(used)[:, None]
        return context, mask.repeat_interleave(self.window, dim=1).to(context.device, non_blocking=True)

    def encode_text_captions(self, captions: Sequence[str], embeddings: torch.Tensor | None = None,
                             image_index: torch.Tensor | None = None) -> torch.Tensor:
        """Contexts for WriteNet: (B, 77, D); arguments as above.

        Raises:
            PlaceholderError: a ``*`` of a caption is no token of its own, or is beyond the end of the window.
        """
        start, end, room = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.window - 2
        rows = [self.tokens(caption) for caption in captions]
        for caption, row in zip(captions, rows, strict=True):
            wanted, found = caption.count(PLACEHOLDER), row[:room].count(self.placeholder)
            if found < wanted:
                reason = (f"only the first {room} tokens are read: make it shorter" if len(row) > room else
                          "write a space on both sides of each")
                raise PlaceholderError(f"the text caption {caption!r} has {wanted} '*', but {found} of them are read "
                                       f"as one; {reason}")
        ids = torch.tensor([[start, *row[:room], end] + [end] * (room - len(row)) for row in rows])
        return self._encode(ids, embeddings, image_index, captions)

    def _encode(self, ids: torch.Tensor, embeddings, image_index, captions) -> torch.Tensor:
        """Ids (B, N 77) -> (B, N 77, D), each window alone."""
        batch = len(ids)
        tokens = self.model.embeddings.token_embedding(ids.to(self.model.device, non_blocking=True))
        if embeddings is not None and image_index is not None:
            tokens = place_lines(ids == self.placeholder, tokens, embeddings, image_index, captions)
        hidden = run_clip(self.model, tokens.unflatten(1, (-1, self.window)).flatten(0, 1))
        return hidden.unflatten(0, (batch, -1)).flatten(1, 2)


def placeholder_id(tokenizer: CLIPTokenizer) -> int:
    """Id of the token for ``*`` alone (265 in CLIP's own vocabulary)."""
    ids = tokenizer(PLACEHOLDER, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        raise PlaceholderError(f"the tokenizer reads '*' as {ids}, expected one token of its own: train it with '*' "
                               "in its texts")
    return ids[0]


def split_windows(ids: torch.Tensor, window: int, start: int, end: int) -> torch.Tensor:
    """Cut tokens into windows, each with its own markers: (B, n) -> (windows, B, window).

    Args:
        ids: captions of one length, the first token the start marker and the last the end marker or padding.
        window: tokens of a window with its markers. ``start``, ``end``: the markers; ``end`` also fills up.
    """
    pieces = ids[:, 1:-1].split(window - 2, dim=1) if ids.shape[1] > 2 else (ids[:, :0],)
    windows = torch.full((len(pieces), len(ids), window), end, dtype=ids.dtype, device=ids.device)
    windows[:, :, 0] = start
    for place, piece in zip(windows, pieces, strict=True):
        place[:, 1 : 1 + piece.shape[1]] = piece
    return windows


def place_lines(where: torch.Tensor, tokens: torch.Tensor, embeddings: torch.Tensor, image_index: torch.Tensor,
                captions: Sequence[str] | None = None) -> torch.Tensor:
    """Put the embeddings of lines in place of the placeholders, in order.

    The first ``*`` of a caption gets the first line of its image, and so on.  Lines beyond the last ``*`` are left
    out (an empty or negative caption has none); a ``*`` without a line is an error, as upstream.

    Args:
        where: (B, n) bool, the placeholders; on the CPU, or the host waits for them.
        tokens: (B, n, D), their embeddings so far.
        embeddings: (L, D), lines image by image. ``image_index``: (L,), whose line it is, in ascending order.
        captions: B texts for the message of an error.

    Returns:
        (B, n, D); gradients flow to ``tokens`` and ``embeddings``.

    Raises:
        PlaceholderError: more placeholders than lines.
        ValueError: the lines are not sorted by image, or their number is not that of ``image_index``.
    """
    image_index = image_index.cpu()
    if len(embeddings) != len(image_index) or (image_index.diff() < 0).any():
        raise ValueError("embeddings of lines must come image by image, one for each entry of image_index; got "
                         f"{len(embeddings)} for {image_index.tolist()}")
    counts = where.sum(dim=1).tolist()
    lines = [(image_index == image).nonzero().flatten() for image in range(len(where))]
    for image, (count, own) in enumerate(zip(counts, lines, strict=True)):
        if count > len(own):
            text = f" {captions[image]!r}" if captions else ""
            raise PlaceholderError(f"caption {image}{text} has {count} '*' but its image has {len(own)} lines of text")
    rows = torch.cat([own[:count] for own, count in zip(lines, counts, strict=True)])
    rows, where = (part.to(tokens.device, non_blocking=True) for part in (rows, where))
    return tokens.masked_scatter(where[..., None], embeddings[rows].to(tokens.dtype))


def run_clip(model: CLIPTextModel, tokens: torch.Tensor) -> torch.Tensor:
    """CLIP's text transformer from the embeddings of tokens on: (W, 77, D) -> (W, 77, D).

    ``CLIPTextModel.forward`` takes ids only; this is the rest of it.
    """
    hidden = model.embeddings(inputs_embeds=tokens)
    mask = create_causal_mask(model.config, hidden, None, None)  # by place: the last one's name differs by version
    hidden = model.encoder(inputs_embeds=hidden, attention_mask=mask, is_causal=True).last_hidden_state
    return model.final_layer_norm(hidden)


def build_text_encoder(config: dict) -> CLIPTextModel:
    """CLIP's text model with random weights; the markers are the last two tokens of the vocabulary, as in CLIP's."""
    size = config.get("vocab_size", 49408)
    markers = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    return CLIPTextModel(CLIPTextConfig(**(markers | config))).eval()


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


def byte_tokenizer(vocab_size: int = 49408) -> CLIPTokenizer:
    """CLIP's tokenizer without its merges: one token a byte, with the ids of CLIP's own vocabulary.

    It needs no file. ``*`` has id 265 as in CLIP; ordinary words take one token a letter.
    """
    if vocab_size < 514:
        raise ValueError(f"single bytes and two markers need a vocabulary of at least 514, got {vocab_size}")
    vocabulary = {letter: i for i, letter in enumerate(_letters())}
    vocabulary |= {f"{letter}</w>": i + 256 for letter, i in vocabulary.items()}
    vocabulary |= {"<|startoftext|>": vocab_size - 2, "<|endoftext|>": vocab_size - 1}
    return CLIPTokenizer(vocab=vocabulary, merges=[])


def _letters() -> list[str]:
    """The 256 letters that stand for bytes, in the order of CLIP's vocabulary: printable bytes as they are, then the
    others as letters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
