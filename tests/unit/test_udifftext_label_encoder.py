"""The label encoder, its sizes, its pre-training and its data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytext_lib.recipes import udifftext_label_encoder as pretraining
from anytext_lib.recipes.udifftext_label_encoder import draw_families, draw_word_images, near_word
from anytext_lib.scenes.words import split_of
from anytext_lib.udifftext import contrastive
from anytext_lib.udifftext.contrastive import ImageTokens, PretrainingHeads, contrastive_loss, retrieval_accuracy
from anytext_lib.udifftext.label_encoder import (
    PRINTABLE,
    LabelEncoder,
    LabelEncoderConfig,
    LabelEncoderError,
    UnknownCharacterError,
)

TINY = LabelEncoderConfig.mini(width=32, layers=1, feedforward=32, heads=2)


def count_parameters(config: LabelEncoderConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LabelEncoder(config).parameters())


class TestEncoder:
    def test_the_official_size_has_302_million_parameters(self):
        assert count_parameters(LabelEncoderConfig()) == 302_430_208

    def test_the_mini_size(self):
        assert count_parameters(LabelEncoderConfig.mini()) == 409_600

    def test_one_token_a_character_and_the_rest_padding(self):
        encoder = LabelEncoder(TINY)
        classes = encoder.classes(["ab", ""])
        assert classes.shape == (2, 12) and classes[0, :3].tolist() == [11, 12, 0] and not classes[1].any()
        assert encoder(["ab", ""]).shape == (2, 12, 32) and encoder([]).shape == (0, 12, 32)
        assert encoder.valid(["ab", ""]).sum(dim=1).tolist() == [2, 0]

    def test_order_is_seen(self):
        encoder = LabelEncoder(TINY).eval()
        one, other = encoder(["abc", "cba"])
        assert not torch.allclose(one, other, atol=1e-3)

    def test_labels_that_do_not_fit(self):
        encoder = LabelEncoder(TINY)
        with pytest.raises(LabelEncoderError, match="has 13 characters, the encoder takes at most 12"):
            encoder(["a" * 13])
        with pytest.raises(UnknownCharacterError, match="'é'"):
            encoder(["café"])
        with pytest.raises(LabelEncoderError, match="even, got 5"):
            LabelEncoder(LabelEncoderConfig.mini(width=5, heads=1))

    def test_ninety_four_characters(self):
        assert len(PRINTABLE) == 94 and len(LabelEncoder(TINY).characters) == 95

    def test_dropout_is_off_in_a_frozen_encoder_whatever_its_owner_is_told(self):
        encoder = LabelEncoder(LabelEncoderConfig.mini(width=32, layers=1, heads=2, dropout=0.5))
        assert not torch.equal(encoder(["word"]), encoder(["word"]))
        owner = torch.nn.ModuleList([encoder.freeze()]).train()
        assert owner.training and not encoder.training
        assert torch.equal(encoder(["word"]), encoder(["word"]))
        assert not any(p.requires_grad for p in encoder.parameters())

    def test_saved_and_loaded(self, tmp_path):
        encoder = LabelEncoder(TINY).eval()
        encoder.save(tmp_path / "encoder.safetensors")
        found = LabelEncoder.load(tmp_path / "encoder.safetensors")
        assert found.frozen and found.config == TINY
        torch.testing.assert_close(found(["Word"]), encoder(["Word"]).detach())

    def test_files_that_hold_no_encoder(self, tmp_path):
        from safetensors.torch import save_file

        with pytest.raises(FileNotFoundError, match="no label encoder"):
            LabelEncoder.load(tmp_path / "none.safetensors")
        (tmp_path / "cut.safetensors").write_bytes(b"\0" * 30)
        with pytest.raises(LabelEncoderError, match="no safetensors file, or cut off"):
            LabelEncoder.load(tmp_path / "cut.safetensors")
        save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
        with pytest.raises(LabelEncoderError, match="holds something else"):
            LabelEncoder.load(tmp_path / "other.safetensors")


class TestContrast:
    def test_pairs_in_order_are_best(self):
        vectors = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
        assert contrastive_loss(vectors, 3 * vectors, 20.0) < contrastive_loss(vectors, vectors.roll(1, 0), 20.0)
        assert retrieval_accuracy(vectors, vectors) == (1, 1)
        assert retrieval_accuracy(vectors, vectors.roll(1, 0)) == (0, 0)

    def test_equals_clips_loss_by_hand(self):
        text, image = torch.randn(5, 7), torch.randn(5, 7)
        scores = 2.0 * torch.nn.functional.cosine_similarity(text[:, None], image[None], dim=2)
        by_hand = -(scores.log_softmax(1).diagonal() + scores.log_softmax(0).diagonal()).mean() / 2
        torch.testing.assert_close(contrastive_loss(text, image, 2.0), by_hand)

    def test_rows_that_do_not_agree(self):
        with pytest.raises(ValueError, match=r"are \(B, D\) both"):
            contrastive_loss(torch.zeros(2, 3), torch.zeros(3, 3), 1.0)

    @pytest.mark.parametrize("frames", [True, False])
    def test_pools_see_the_order_of_what_they_are_given(self, frames):
        heads = PretrainingHeads(TINY, ImageTokens(6, 8, frames), 16)
        tokens = torch.randn(2, 6, 8)
        assert heads.image(tokens).shape == (2, 16)
        assert not torch.allclose(heads.image(tokens), heads.image(tokens.flip(1)), atol=1e-3)

    def test_the_parts_of_the_objective(self):
        encoder, heads = LabelEncoder(TINY), PretrainingHeads(TINY, ImageTokens(6, 8), 16)
        classes = encoder.classes(["abc", "xyz", "q"])
        terms = heads(encoder(classes), torch.randn(3, 6, 8), classes)
        torch.testing.assert_close(terms.loss, terms.contrast + 0.1 * terms.characters + 0.1 * terms.places)
        assert 0 <= terms.character_accuracy <= 1 and 0 <= terms.place_accuracy <= 1
        assert contrastive.CHARACTER_WEIGHT == contrastive.PLACE_WEIGHT == 0.1


class TestWords:
    def test_near_words_are_one_mistake_away(self):
        rng = np.random.default_rng(0)
        for word in ("apple", "TIGER", "Moon") * 20:
            near = near_word(word, rng)
            assert near.lower() != word.lower() and 3 <= len(near) <= 7 and abs(len(near) - len(word)) <= 1

    def test_families_keep_to_their_split_and_never_repeat(self):
        for split in ("train", "test"):
            families = draw_families(12, split, 2, np.random.default_rng(1))
            words = [word.lower() for family in families for word in family]
            assert len(words) == len(set(words)) == 36 and {split_of(word) for word in words} == {split}

    def test_a_split_that_is_too_small(self):
        with pytest.raises(ValueError, match="has no 2000 different words"):
            draw_families(2000, "validation", 0, np.random.default_rng(0))

    def test_pictures_repeat_from_the_seed(self):
        one, again = (draw_word_images(["Tiger", "MOON"], np.random.default_rng(5)) for _ in range(2))
        assert one.shape == (2, 3, 48, 160) and torch.equal(one, again) and -1 <= one.min() < one.max() <= 1


class TestPretraining:
    @staticmethod
    def spelled_out(words: list[str]) -> torch.Tensor:
        """Image tokens (N, 12, 95) of an ideal image encoder: one of each character, one-hot."""
        classes = LabelEncoder(TINY).classes(words)
        return torch.nn.functional.one_hot(classes, 95).float()

    def data(self, count: int, split: str, seed: int) -> pretraining.WordData:
        families = draw_families(count, split, 2, np.random.default_rng(seed))
        tokens = torch.stack([self.spelled_out(family) for family in families])
        return pretraining.WordData(families, tokens[None])

    def test_held_out_words_find_their_pictures_after_training_and_not_before(self):
        held, config = self.data(12, "test", 1), LabelEncoderConfig.mini(width=64, layers=1, heads=2, feedforward=64)
        torch.manual_seed(0)
        encoder = LabelEncoder(config)
        lines = []
        heads = PretrainingHeads(config, held.image, 32).eval()
        before = pretraining.evaluate(encoder.eval(), heads, held)
        heads = pretraining.pretrain(encoder, self.data(150, "train", 0), 80, 16, 4e-3, 64, log=lines.append)
        after = pretraining.evaluate(encoder, heads, held)
        assert before.text_to_image < 0.2 and after.text_to_image > 0.6 and after.near > before.near
        assert after.words == 36 and after.chance == pytest.approx(1 / 3)
        assert len(lines) == 10 and "characters" in lines[-1]

    def test_the_recipe_from_end_to_end(self, tmp_path):
        def encode(images):  # a picture as 20 columns of 8 pixels, in 6 bands
            return torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8).squeeze(1).transpose(1, 2)

        encoder, scores = pretraining.train_label_encoder(
            families=8, near=1, steps=3, batch_families=4, width=16, config=TINY, encode=encode, held_out=4,
            log=lambda text: None)
        assert encoder.frozen and scores.words == 8 and 0 <= scores.near <= 1

    def test_batches_hold_whole_families(self):
        data = self.data(6, "train", 3)
        words, tokens = next(pretraining.batches(data, 2, seed=0))
        assert len(words) == len(tokens) == 6
        torch.testing.assert_close(tokens, self.spelled_out(words))
