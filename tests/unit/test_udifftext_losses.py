"""The losses of UDiffText: what they are, where they pull, and what they are blind to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.losses import add_noise, diffusion_loss
from anytext_lib.udifftext import (
    Characters,
    UDiffTextObjective,
    UnknownCharacterError,
    add_sigma_noise,
    attention_focus_loss,
    c_in,
    denoised,
    denoising_loss,
    gaussian_kernel,
    head_mean,
    local_attention_loss,
    pick_tokens,
    sampling_timesteps,
    sequence_loss,
    sigma_levels,
    smooth,
)
from tests.unit.toy import ABAR


def some_maps(batch=2, tokens=4, size=16, seed=0) -> torch.Tensor:
    """(B, tokens, size, size): at each position the tokens share 1."""
    scores = torch.randn(batch, tokens, size, size, generator=torch.Generator().manual_seed(seed))
    return (3 * scores).softmax(dim=1)


def halves(batch=2, size=16) -> tuple[torch.Tensor, torch.Tensor]:
    """Two characters, one in the left half, one in the right; a third that is not there."""
    segments = torch.zeros(batch, 3, size, size)
    segments[:, 0, :, : size // 2] = 1
    segments[:, 1, :, size // 2 :] = 1
    return segments, torch.tensor([[1.0, 1, 0]]).repeat(batch, 1)


def by_hand(layer, segments, valid, kernel):
    """L_loc of one layer, one character after the other."""
    values = []
    for b in range(len(layer)):
        gaps = [(smoothed := smooth(layer[b : b + 1, j : j + 1], kernel)[0, 0], segments[b, j]) for j in
                range(valid.shape[1]) if valid[b, j]]
        values.append(sum((a * (1 - s)).max() - (a * s).max() for a, s in gaps) / len(gaps))
        assert smoothed.shape == layer.shape[2:]
    return torch.stack(values)


class TestLocalLoss:
    def test_equals_the_formula(self):
        (segments, valid), layers = halves(), [some_maps(seed=s) for s in (0, 1)]
        wanted = sum(by_hand(layer, segments, valid, gaussian_kernel()) for layer in layers) / 2
        torch.testing.assert_close(local_attention_loss(layers, segments, valid), wanted)

    def test_the_right_places_are_better_than_the_wrong_ones(self):
        segments, valid = halves()
        right = segments * 0.9
        wrong = right[:, [1, 0, 2]]
        assert (local_attention_loss([right], segments, valid) < -0.6).all()  # smoothing leaks over the edge
        assert (local_attention_loss([wrong], segments, valid) > 0.6).all()

    @given(st.integers(0, 10**6))
    def test_lies_between_minus_one_and_one(self, seed):
        loss = local_attention_loss([some_maps(seed=seed)], *halves())
        assert (loss.abs() <= 1).all()

    def test_gradient_touches_only_the_pixels_around_the_maxima(self):
        segments, valid = halves(batch=1)
        maps = some_maps(batch=1).requires_grad_(True)
        local_attention_loss([maps], segments, valid).sum().backward()
        touched = (maps.grad[0] != 0).flatten(1).sum(dim=1).tolist()
        assert all(0 < count <= 2 * 9 for count in touched[:2])  # two 3 x 3 patches a character
        assert touched[2:] == [0, 0]

    def test_a_sample_without_characters_is_0_and_pulls_nothing(self):
        segments, valid = halves()
        valid[1] = 0
        maps = some_maps().requires_grad_(True)
        loss = local_attention_loss([maps], segments, valid)
        loss.sum().backward()
        assert loss[1] == 0 and (maps.grad[1] == 0).all() and torch.isfinite(maps.grad).all()

    def test_small_maps_are_left_out_and_wide_ones_count_by_their_area(self):
        segments, valid = halves()
        large, small = some_maps(size=16), some_maps(size=8)
        torch.testing.assert_close(local_attention_loss([small, large], segments, valid),
                                   local_attention_loss([large], segments, valid))
        with pytest.raises(ValueError, match="no attention map has 16 x 16 positions.*lower min_size"):
            local_attention_loss([small], segments, valid)
        assert local_attention_loss([torch.rand(2, 4, 8, 32)], segments, valid).shape == (2,)

    def test_shapes_that_do_not_agree(self):
        segments, valid = halves()
        with pytest.raises(ValueError, match="segments has shape"):
            local_attention_loss([some_maps()], segments[:, :2], valid)
        with pytest.raises(ValueError, match="knows 2 tokens, but there are 3 characters"):
            local_attention_loss([some_maps(tokens=2)], segments, valid)


class TestFocusLoss:
    mask = torch.zeros(2, 1, 64, 64)
    mask[:, :, 16:48, :32] = 1

    def test_the_weakest_character_decides(self):
        maps = torch.zeros(2, 3, 16, 16)
        maps[:, 0, 8, 4], maps[:, 1, 6, 2] = 1.0, 0.5
        kernel = gaussian_kernel()[1, 1]
        valid = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
        torch.testing.assert_close(attention_focus_loss([maps], self.mask, valid), -kernel * torch.tensor([1, 0.5]))

    def test_lower_is_better_and_only_attention_inside_the_mask_counts(self):
        valid, inside, outside = torch.ones(2, 1), torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
        inside[:, :, 8, 4], outside[:, :, 8, 12] = 1, 1
        focus = [attention_focus_loss([maps], self.mask, valid) for maps in (inside, 0.5 * inside, outside)]
        assert (focus[0] < focus[1]).all() and (focus[1] < focus[2]).all() and (focus[2] == 0).all()

    @given(st.integers(0, 10**6))
    def test_lies_between_minus_one_and_zero(self, seed):
        loss = attention_focus_loss([some_maps(seed=seed)], self.mask, torch.ones(2, 4))
        assert (loss <= 0).all() and (loss >= -1).all()

    def test_no_character_gives_0(self):
        assert (attention_focus_loss([some_maps()], self.mask, torch.zeros(2, 4)) == 0).all()


def test_head_mean_and_its_errors():
    probabilities = torch.rand(2 * 4, 8 * 16, 5)
    maps = head_mean(probabilities, 4, (8, 16))
    torch.testing.assert_close(maps[1, 3, 2, 7], probabilities[4:, 2 * 16 + 7, 3].mean())
    with pytest.raises(ValueError, match="not that of 3 heads"):
        head_mean(probabilities, 3, (8, 16))


def test_tokens_that_stand_elsewhere_in_the_context():
    maps, tokens = some_maps(tokens=5), torch.tensor([[3, 1], [0, 4]])
    picked = pick_tokens([maps], tokens)[0]
    for b in range(2):
        torch.testing.assert_close(picked[b], maps[b, tokens[b]])


@pytest.mark.parametrize("size, sigma", [(2, 1.0), (0, 1.0), (3, 0.0)])
def test_kernels_that_are_none(size, sigma):
    with pytest.raises(ValueError, match="odd size and a positive sigma"):
        gaussian_kernel(size, sigma)


def spelled(words: list[str], slots: int = 10, strength: float = 8.0) -> torch.Tensor:
    """Logits of a reader that sees ``words``."""
    characters = Characters()
    logits = torch.zeros(len(words), slots, len(characters))
    for row, word in enumerate(words):
        for slot, c in enumerate([*characters.encode(word), 0]):
            logits[row, slot, c] = strength
    return logits


class TestSequenceLoss:
    def test_order_counts_and_extra_letters_hardly(self):
        right, reversed_, longer, shorter = sequence_loss(spelled(["HELLO", "OLLEH", "HELLOO", "HELL"]), ["HELLO"] * 4)
        assert reversed_ > 10 * right and shorter > 2 * right
        torch.testing.assert_close(longer, right)  # nothing is asked of the slots after the word

    def test_the_clamp_silences_the_words_that_are_most_wrong(self):
        grads = []
        for clamp in (None, 1.0):
            logits = spelled(["HELLO", "HELLA", "WORLD"]).requires_grad_(True)
            sequence_loss(logits, ["HELLO"] * 3, clamp).sum().backward()
            grads.append(logits.grad.abs().sum(dim=(1, 2)))
        free, clamped = grads
        assert (free > 0).all() and free[2] > free[0]
        assert clamped[2] == 0 and clamped[0] == free[0]  # WORLD is past help, HELLO is still polished

    def test_classes_or_texts(self):
        logits, characters = torch.randn(2, 6, 95), Characters()
        torch.testing.assert_close(sequence_loss(logits, ["ab", "C1"]),
                                   sequence_loss(logits, [characters.encode("ab"), characters.encode("C1")]))

    def test_an_empty_word_costs_nothing(self):
        logits = torch.randn(2, 6, 95, requires_grad=True)
        loss = sequence_loss(logits, ["", "a"])
        loss.sum().backward()
        assert loss[0] == 0 and (logits.grad[0] == 0).all()
        assert sequence_loss(torch.zeros(0, 6, 95), []).shape == (0,)

    @pytest.mark.parametrize("targets, message", [
        (["a"], "1 words do not agree"), (["abc", "abcdefg"], "word 1 has 7 characters, the reader 6 slots"),
        ([[1], [95]], "word 1 has a class outside 1..94"), ([[0], [1]], "word 0 has a class outside")])
    def test_wrong_words(self, targets, message):
        with pytest.raises(ValueError, match=message):
            sequence_loss(torch.zeros(2, 6, 95), targets)

    def test_unknown_characters_are_named(self):
        with pytest.raises(UnknownCharacterError, match="'é中'"):
            sequence_loss(torch.zeros(1, 6, 95), ["é中a"])


class TestDenoising:
    x0, noise = torch.randn(3, 4, 6, 6, dtype=torch.float64), torch.randn(3, 4, 6, 6, dtype=torch.float64)
    abar = ABAR.double()[[3, 400, 990]]

    def test_sigma_noise_is_ddpm_noise_but_for_c_in(self):
        sigma = ((1 - self.abar) / self.abar).sqrt()
        x = add_sigma_noise(self.x0, self.noise, sigma)
        torch.testing.assert_close(c_in(sigma)[:, None, None, None] * x, add_noise(self.x0, self.noise, self.abar))

    def test_the_weighted_loss_is_the_plain_one_on_eps(self):
        sigma, eps = ((1 - self.abar) / self.abar).sqrt(), torch.randn_like(self.x0)
        x = add_sigma_noise(self.x0, self.noise, sigma)
        torch.testing.assert_close(denoising_loss(denoised(x, eps, sigma), self.x0, sigma),
                                   diffusion_loss(eps, self.noise))

    def test_and_so_is_its_gradient(self):
        sigma = ((1 - self.abar) / self.abar).sqrt()
        x, grads = add_sigma_noise(self.x0, self.noise, sigma), []
        for loss in (lambda e: denoising_loss(denoised(x, e, sigma), self.x0, sigma),
                     lambda e: diffusion_loss(e, self.noise)):
            eps = torch.ones_like(self.x0).requires_grad_(True)
            loss(eps).sum().backward()
            grads.append(eps.grad)
        torch.testing.assert_close(*grads)

    def test_levels_ascend_over_the_range_of_the_schedule(self):
        levels = sigma_levels(ABAR)
        assert (levels.diff() > 0).all()
        assert levels[[0, -1]].tolist() == pytest.approx([0.0292, 14.615], abs=1e-3)

    def test_timesteps_of_the_sampler(self):
        assert sampling_timesteps(2) == [999, 499]
        assert sampling_timesteps(1000) == list(range(999, -1, -1))
        for steps in (1, 7, 50, 999):
            times = sampling_timesteps(steps)
            assert len(times) == steps and times[0] == 999 and times == sorted(set(times), reverse=True)
        with pytest.raises(ValueError, match="1..1000, got 0"):
            sampling_timesteps(0)


class TestObjective:
    def terms(self, **options):
        x0, sigma = torch.randn(2, 4, 16, 16), torch.tensor([0.5, 2.0])
        return UDiffTextObjective(**options)(x0 + 0.1, x0, sigma, [some_maps()], *halves(), spelled(["ab", "cd"]),
                                             ["ab", "xy"])

    def test_the_sum_and_what_is_logged(self):
        terms = self.terms(local_weight=0.01, sequence_weight=0.001)
        wanted = terms.diffusion.mean() + 0.01 * terms.local.mean() + 0.001 * terms.sequence.mean()
        torch.testing.assert_close(terms.loss, wanted)
        assert set(terms.log("t")) == {"t/diff", "t/local", "t/str", "t/loss"}

    def test_defaults_are_those_that_were_shipped(self):
        terms = self.terms()
        assert terms.sequence is None and set(terms.log("v")) == {"v/diff", "v/local", "v/loss"}
        torch.testing.assert_close(terms.loss, terms.diffusion.mean() + 0.01 * terms.local.mean())

    def test_a_reader_that_is_missing(self):
        x0 = torch.randn(2, 4, 16, 16)
        with pytest.raises(ValueError, match="needs word_logits"):
            UDiffTextObjective(sequence_weight=1.0)(x0, x0, torch.ones(2), [some_maps()], *halves())
