"""Words on a grid: what is drawn, where its cells are, and that a network learns from it."""

import numpy as np
import pytest
import torch

from anytext_lib.data import data_folder
from anytext_lib.recipes.udifftext_grid import (
    ALPHABET,
    CELL,
    INK,
    SIZE,
    STEP,
    GridData,
    GridWord,
    cell_segments,
    draw_step,
    draw_words,
    fit,
    grid_batch,
    grid_conditions,
    grid_terms,
    look,
    real_words,
    render,
    take,
)
from anytext_lib.scenes.words import split_of
from anytext_lib.udifftext.attention import capture_attention
from anytext_lib.udifftext.model import UDiffTextModel
from anytext_lib.udifftext.word_losses import UDiffTextObjective, mean_over_characters, peak_hits


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UDiffTextModel("tiny").eval()


@pytest.fixture(scope="module")
def data(model):
    return look(model, 6, "train", 0, part=4)


class TestWords:
    def test_repeat_from_their_seed(self):
        assert draw_words(6, "train", 3) == draw_words(6, "train", 3) != draw_words(6, "train", 4)

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_belong_to_their_split(self, split):
        words = draw_words(20, split, 0, invented=0.5)
        assert {split_of(word.text) for word in words} == {split}
        assert all(3 <= len(word.text) <= 5 and set(word.text) <= set(ALPHABET) for word in words)

    def test_real_words_come_round_in_turn(self):
        known = real_words("test")
        assert sorted(word.text for word in draw_words(len(known), "test", 0, invented=0.0)) == sorted(known)

    def test_fit_their_picture_on_the_grid(self):
        for word in draw_words(40, "train", 1):
            x, y = word.corner
            assert x % STEP == y % STEP == 0
            assert 0 <= x <= SIZE[1] - CELL[1] * len(word.text) and 0 <= y <= SIZE[0] - CELL[0]


class TestPictures:
    def test_ink_stays_in_the_cells(self):
        word = GridWord("WQM", (8, 4), (200, 210, 220))
        picture = render(word)
        outside = cell_segments([word], 12)[0].sum(dim=0).numpy() == 0
        assert (picture[outside] == word.ground).all()
        assert picture.min() == INK and picture.shape == (*SIZE, 3) and picture.dtype == np.uint8

    def test_a_letter_looks_the_same_everywhere(self):
        first, second = (render(GridWord(text, (0, 0), (255, 255, 255))) for text in ("RAT", "TAR"))
        assert (first[:, 20:40] == second[:, 20:40]).all() and (first[:, :20] == second[:, 40:60]).all()

    def test_the_batch_knows_the_place(self):
        words = draw_words(3, "train", 2)
        batch = grid_batch(words)
        assert batch.lines.texts == [word.text for word in words]
        assert torch.equal(cell_segments(words, 12).sum(dim=1, keepdim=True), batch.positions)
        assert (batch.masked_images[batch.positions.expand(-1, 3, -1, -1) > 0] == -1).all()


class TestTraining:
    def test_data_are_what_the_model_is_told(self, model, data):
        told = grid_conditions(model, draw_words(6, "train", 0))
        latents, rows = data.rows(torch.tensor([5, 1]))
        for name in ("context", "place", "mask", "segments", "valid"):
            torch.testing.assert_close(getattr(rows, name), getattr(told, name)[[5, 1]])
        assert isinstance(data, GridData) and latents.shape == (2, 4, 8, 28) and len(data) == 6

    def test_steps_lower_the_loss_and_repeat(self, data):
        def run(seed):
            torch.manual_seed(0)
            network, losses = UDiffTextModel("tiny"), []
            weights = fit(network, data, 12, 4, 5e-3, warmup=1, decay=4, seed=seed,
                          watch=lambda step, terms: losses.append(float(terms["t/loss"])))
            return losses, weights, network

        (losses, weights, network), (again, _, _) = run(1), run(1)
        assert losses == again and np.mean(losses[-4:]) < np.mean(losses[:4])
        assert all(name.startswith("unet.") for name in weights)
        name = next(iter(weights))
        assert torch.equal(take(network, weights).get_parameter(name), weights[name])

    def test_only_text_attention_and_an_earlier_end(self, data):
        torch.manual_seed(0)
        network = UDiffTextModel("tiny")
        steps = []
        weights = fit(network, data, 50, 2, only_text_attention=True,
                      watch=lambda step, terms: steps.append(step) or (2 if step == 1 else None))
        assert steps == [1, 2] and weights and all(".attn2." in name for name in weights)

    def test_terms_at_any_timestep(self, model, data):
        latents, noise, timesteps, told = draw_step(data, 3, 1.0, torch.Generator().manual_seed(0))
        terms = grid_terms(model, UDiffTextObjective(0.1, min_size=4), latents, noise, timesteps, told)
        assert (told.context == 0).all() and (terms.local == 0).all() and torch.isfinite(terms.loss)


class TestShippedModel:
    folder = data_folder() / "udifftext_mini"

    def test_is_small(self):
        assert sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) <= 8 * 2**20

    def test_its_characters_look_into_their_cells(self):
        model, words = UDiffTextModel.from_pretrained(self.folder), draw_words(4, "test", 5, invented=1.0)
        told = grid_conditions(model, words)
        noise = torch.randn(4, 4, 8, 28, generator=torch.Generator().manual_seed(0))
        with capture_attention(model.unet) as maps, torch.no_grad():
            model(noise, torch.full((4,), 999), told.context, told.place)
        hits = [mean_over_characters(peak_hits(layer, told.segments).float(), told.valid) for layer in maps.layers()]
        assert max(hits) > 0.9 and np.mean(hits) > 0.5
