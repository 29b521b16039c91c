r"""UDiffText's losses as terms of AnyText2's objective: look at the right place, be read slot by slot.

L_loc: the tokens of a line shall look at the line.

.. math:: E = \frac{1}{2} \big( L_{loc}(\text{WriteNet}, \texttt{*}) + L_{loc}(\text{UNet}, \text{quoted word}) \big)

UDiffText gives every character a token of its own.  AnyText2 has one ``*`` for a whole line, and only in the text
caption, which WriteNet attends to; the region of a ``*`` is its line's position mask.  The UNet reads the image
caption, which quotes the word: each of its (byte-pair) tokens gets its share of the line's box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isqrt

import torch
import torch.nn.functional as F

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.lines import polygon_mask
from anytext_lib.losses.step import Step
from anytext_lib.losses.terms import per_line, watching
from anytext_lib.models import AnyText2Model
from anytext_lib.udifftext.attention import (
    AttentionMaps,
    capture_attention,
    cross_attention_names,
    local_attention_loss,
    pick_tokens,
)
from anytext_lib.udifftext.label_encoder import PRINTABLE, Characters
from anytext_lib.udifftext.model import character_quads
from anytext_lib.udifftext.word_losses import sequence_loss
from anytext_lib.udifftext.word_slots import WordReader

Looked = list[list[tuple[int, torch.Tensor]]]
"""For each image its tokens: place in the context, and region (H, W) in {0, 1}."""


@contextmanager
def watch_attention(model: AnyText2Model) -> Iterator[dict[str, dict[str, AttentionMaps]]]:
    """Within the block a pass of the model leaves its attention maps: {"attention": {"writenet": , "unet": }}."""
    with capture_attention(model.writenet) as writenet, capture_attention(model.unet) as unet:
        yield {"attention": {"writenet": writenet, "unet": unet}}


@watching(watch_attention)
def local(step: Step) -> torch.Tensor:
    """(B,) L_loc of WriteNet's ``*`` and of the UNet's quoted word, the mean of both; 0 where no caption names a line.

    `anytext fit --terms '[{name: anytext_lib.udifftext.attention_term.local, weight: 0.01}]'`.
    """
    return local_of(step.network, step.batch, step.watched["attention"])


def local_of(model: AnyText2Model, batch: AnyTextBatch, maps: Mapping[str, AttentionMaps]) -> torch.Tensor:
    """``local`` of the maps of one pass."""
    looked = {"writenet": star_tokens(model, batch), "unet": word_tokens(model, batch)}
    losses = [local_loss(finest(maps[name].layers()), rows) for name, rows in looked.items()]
    return torch.stack(losses).mean(dim=0)


def local_loss(maps: list[torch.Tensor], looked: Looked) -> torch.Tensor:
    """(B,) L_loc of maps (B, tokens, h, w) of one size; 0 for images without tokens."""
    tokens, segments, valid = stack_tokens(looked, maps[0].shape[-2:])
    tokens, segments, valid = (part.to(maps[0].device, non_blocking=True) for part in (tokens, segments, valid))
    return local_attention_loss(pick_tokens(maps, tokens), segments, valid, min_size=isqrt(maps[0][0, 0].numel()))


@per_line
def sequence(step: Step, reader: Callable[[torch.Tensor], torch.Tensor] | None = None,
             clamp: float | None = 1.0) -> torch.Tensor:
    """(K,) L_str of the lines of the estimate, see ``sequence_loss``; a clamp of null clamps not.

    `anytext fit --terms '[{name: anytext_lib.udifftext.attention_term.sequence, weight: 0.001, clamp: null}]'`.

    Args:
        reader: crops -> scores (K, slots, C), of texts of the 94 printable characters. None takes PP-OCRv3
            (``word_slots``), and the space as well; lines with other characters then cost nothing.
    """
    if reader is not None:
        return sequence_loss(reader(step.crops), step.lines.texts, clamp)
    characters = Characters(PRINTABLE + " ")
    texts = [text if set(text) <= set(characters.characters) else "" for text in step.lines.texts]
    longest = max([len(text) for text in texts] + [1])
    slots = WordReader(step.instruments.recognizer, characters, longest).slots_of(step.seen.logits)
    return sequence_loss(slots, texts, clamp, characters)


def finest(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """The maps of the largest size: as upstream, which leaves out those too coarse to tell characters apart."""
    most = max(layer.shape[-2] * layer.shape[-1] for layer in maps)
    return [layer for layer in maps if layer.shape[-2] * layer.shape[-1] == most]


def star_tokens(model: AnyText2Model, batch: AnyTextBatch) -> Looked:
    """The ``*`` of every text caption, in the order of the image's lines, with the lines' position masks."""
    captions, positions, found = model.captions, batch.positions.cpu(), []
    for image, caption in enumerate(batch.text_captions):
        places = [i for i, token in enumerate(captions.tokens(caption)) if token == captions.placeholder]
        lines = (batch.lines.image_index == image).nonzero().flatten().tolist()
        found.append([(1 + place, positions[line, 0]) for place, line in zip(places, lines, strict=False)])
    return found


def word_tokens(model: AnyText2Model, batch: AnyTextBatch) -> Looked:
    """The tokens of the words that the image captions quote, each with the part of the box where its letters stand."""
    size, found = tuple(batch.images.shape[-2:]), [[] for _ in range(len(batch))]
    for image, quad, text in zip(batch.lines.image_index.tolist(), batch.lines.quads, batch.lines.texts, strict=True):
        begin = batch.captions[image].find(f'"{text}"') + 1
        if begin == 0:
            continue
        letters = character_quads(quad, text)
        for place, (first, last) in token_spans(model, batch.captions[image]):
            own = range(max(first - begin, 0), min(last - begin, len(text)))
            if len(own):
                masks = [torch.as_tensor(polygon_mask(letters[j].numpy(), size) > 0).float() for j in own]
                found[image].append((place, torch.stack(masks).sum(dim=0).clamp(max=1)))
    return found


def token_spans(model: AnyText2Model, caption: str) -> list[tuple[int, tuple[int, int]]]:
    """Place in the context and (first, last + 1) character of every token of a caption; markers are left out."""
    read = model.tokenizer(caption, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    window = model.captions.window
    return [(i // (window - 2) * window + 1 + i % (window - 2), span) for i, span in enumerate(read["offset_mapping"])]


def stack_tokens(looked: Looked, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places (B, J), regions (B, J, h, w) at the size of the maps, and which there are (B, J); on the CPU.

    A position of a map belongs to a region if any of its pixels does, so that no region is empty.
    """
    most = max([len(row) for row in looked] + [1])
    tokens, valid = torch.zeros(len(looked), most, dtype=torch.int64), torch.zeros(len(looked), most)
    segments = torch.zeros(len(looked), most, *size)
    for image, row in enumerate(looked):
        for j, (place, region) in enumerate(row):
            tokens[image, j], valid[image, j] = place, 1
            segments[image, j] = F.adaptive_max_pool2d(region[None], size)[0]
    return tokens, segments, valid


def layers_of(model: AnyText2Model) -> dict[str, list[str]]:
    """Names of the text cross-attentions of both networks."""
    return {"writenet": cross_attention_names(model.writenet), "unet": cross_attention_names(model.unet)}
