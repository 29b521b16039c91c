"""Captions: windows, placeholders, the tokenizer that needs no file, and CLIP itself."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.models.caption_encoder import (
    CaptionEncoder,
    PlaceholderError,
    TokenizerError,
    build_text_encoder,
    byte_tokenizer,
    load_tokenizer,
    place_lines,
    placeholder_id,
    split_windows,
)

SIZES = {"vocab_size": 514, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 2}


@pytest.fixture(scope="module")
def encoder() -> CaptionEncoder:
    torch.manual_seed(0)
    return CaptionEncoder(build_text_encoder(SIZES), byte_tokenizer(514))


def test_byte_tokenizer_has_clips_ids():
    tokenizer = byte_tokenizer()
    assert placeholder_id(tokenizer) == 265
    assert tokenizer("a")["input_ids"] == [49406, 320, 49407]  # as in CLIP's vocabulary
    assert tokenizer.decode(tokenizer("Grün * 字")["input_ids"], skip_special_tokens=True) == "grün * 字"
    with pytest.raises(ValueError, match="at least 514"):
        byte_tokenizer(100)


@torch.no_grad()
def test_without_placeholders_it_is_clip(encoder):
    ids = torch.tensor([[512, *encoder.tokens("plain"), 513] + [513] * 70])[:, :77]
    torch.testing.assert_close(encoder.encode_text_captions(["plain"]), encoder.model(ids).last_hidden_state)


@torch.no_grad()
def test_a_long_image_caption_has_several_windows(encoder):
    long, short = "x " * 100, "y"
    context, mask = encoder.encode_image_captions([long, short])
    assert context.shape == (2, 154, 8) and mask[0].all() and mask[1].tolist() == [True] * 77 + [False] * 77
    alone, none = encoder.encode_image_captions([short])
    assert none is None
    torch.testing.assert_close(context[1:, :77], alone)
    assert encoder.encode_image_captions([long])[1] is None
    assert encoder.encode_image_captions([""])[0].shape == (1, 77, 8)


def test_windows_of_little():
    assert split_windows(torch.tensor([[8, 9]]), 5, 8, 9).tolist() == [[[8, 9, 9, 9, 9]]]
    assert split_windows(torch.tensor([[8, 1, 2, 3, 4, 9]]), 5, 8, 9).tolist() == [[[8, 1, 2, 3, 9]], [[8, 4, 9, 9, 9]]]


def test_lines_take_the_place_of_stars_and_get_gradients(encoder):
    lines = torch.randn(3, 8, requires_grad=True)
    index = torch.tensor([0, 0, 1])
    captions = ["Texts are * , *", "says * here"]
    plain = encoder.encode_text_captions(captions)
    out = encoder.encode_text_captions(captions, lines, index)
    assert not torch.allclose(plain, out)
    (gradient,) = torch.autograd.grad(out[0].sum() + out[0].square().sum(), lines)
    assert gradient[:2].any(dim=1).all() and not gradient[2].any()


def test_fewer_stars_than_lines_are_fine(encoder):
    lines, index = torch.randn(2, 8, requires_grad=True), torch.tensor([0, 0])
    torch.testing.assert_close(encoder.encode_text_captions([""], lines, index), encoder.encode_text_captions([""]))
    one = encoder.encode_text_captions(["*"], lines, index)
    torch.testing.assert_close(one, encoder.encode_text_captions(["*"], lines[:1], index[:1]))


def test_stars_of_an_image_caption_go_on_over_its_windows(encoder):
    lines, index = torch.randn(2, 8), torch.tensor([0, 0])
    caption = "* " + "x " * 80 + "*"
    context, _ = encoder.encode_image_captions([caption], lines, index)
    swapped, _ = encoder.encode_image_captions([caption], lines[[0, 0]], index)
    torch.testing.assert_close(context[:, :77], swapped[:, :77])
    assert not torch.allclose(context[:, 77:], swapped[:, 77:])


@pytest.mark.parametrize(("caption", "message"), [("* and *", "has 2 '\\*' but its image has 1"),
                                                  ("**", "a space on both sides"),
                                                  ("x " * 80 + "*", "make it shorter")])
def test_stars_that_do_not_fit(encoder, caption, message):
    with pytest.raises(PlaceholderError, match=message):
        encoder.encode_text_captions([caption], torch.randn(1, 8), torch.tensor([0]))


def test_lines_in_disorder():
    with pytest.raises(ValueError, match="image by image"):
        place_lines(torch.ones(2, 1) > 0, torch.zeros(2, 1, 4), torch.zeros(2, 4), torch.tensor([1, 0]))


def test_no_lines_at_all_stay_in_the_graph():
    lines = torch.zeros(0, 4, requires_grad=True)
    out = place_lines(torch.zeros(2, 3) > 0, torch.ones(2, 3, 4), lines, torch.zeros(0, dtype=torch.int64))
    out.sum().backward()
    assert lines.grad is not None and (out == 1).all()


def test_tokenizer_from_a_folder(tmp_path):
    byte_tokenizer(514).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path, 514)
    assert loaded("a *")["input_ids"] == byte_tokenizer(514)("a *")["input_ids"]
    with pytest.raises(TokenizerError, match="ids up to 513"):
        load_tokenizer(tmp_path, 500)
    with pytest.raises(TokenizerError, match="no CLIP tokenizer in .*missing"):
        load_tokenizer(tmp_path / "missing", 514)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path, 514)
