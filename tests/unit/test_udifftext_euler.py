"""Noise selection, refinement and sampling: every sample of a batch on its own, and c_in where it belongs."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.udifftext import Denoiser, Refinement, Target, euler_sample, refine_latents, select_noise, sigma_levels
from tests.unit.toy import ABAR

TOKENS, SIZE = 3, 8


class ToyNetwork:
    """Attention of fixed random queries on the context; eps is a blur of the input. Remembers what it was shown."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.query = torch.randn(4, 6, generator=generator)
        self.inputs: list[torch.Tensor] = []

    def __call__(self, x, timesteps, context):
        assert len(x) == len(timesteps) == len(context)
        self.inputs.append(x.detach())
        scores = torch.einsum("bchw,cd,btd->bthw", x, self.query, context)
        return 0.8 * x + 0.1 * x.flip(-1), [scores.softmax(dim=1)]


def denoiser(batch: int, network=None, **options) -> Denoiser:
    context = torch.randn(4, TOKENS, 6, generator=torch.Generator().manual_seed(1))[:batch]
    return Denoiser(network or ToyNetwork(), ABAR, context, **options)


def target(batch: int) -> Target:
    mask = torch.zeros(batch, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    return Target(mask, torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]])[:batch], min_size=SIZE)


def noises(count: int, batch: int) -> list[torch.Tensor]:
    return [torch.randn(batch, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(i)) for i in range(count)]


def single(value: torch.Tensor, i: int) -> torch.Tensor:
    return value[i : i + 1]


def alone(i: int) -> tuple[Denoiser, Target]:
    one, aim = denoiser(4), target(4)
    one.context, one.unconditional = single(one.context, i), single(one.unconditional, i)
    return one, Target(single(aim.mask, i), single(aim.valid, i), min_size=SIZE)


class TestNoise:
    def test_each_sample_has_its_own_choice(self):
        candidates = noises(6, 4)
        choice = select_noise(denoiser(4), candidates, target(4))
        assert choice.losses.shape == (6, 4) and len(set(choice.chosen[:3].tolist())) > 1
        for b in range(4):
            assert int(choice.chosen[b]) == int(choice.losses[:, b].argmin())
            torch.testing.assert_close(choice.noise[b], candidates[int(choice.chosen[b])][b])

    def test_equals_the_choice_of_each_sample_alone(self):
        candidates = noises(5, 4)
        together = select_noise(denoiser(4), candidates, target(4))
        for i in range(4):
            one, aim = alone(i)
            choice = select_noise(one, [single(noise, i) for noise in candidates], aim)
            torch.testing.assert_close(choice.losses[:, 0], together.losses[:, i])

    def test_an_iterator_will_do_and_nothing_will_not(self):
        assert select_noise(denoiser(2), iter(noises(2, 2)), target(2), steps=1).losses.shape == (2, 2)
        with pytest.raises(ValueError, match="at least one noise"):
            select_noise(denoiser(2), [], target(2))

    def test_guidance_looks_at_the_maps_of_the_label(self):
        candidates = noises(2, 4)
        guided = select_noise(denoiser(4, guidance=5.0), candidates, target(4), steps=1)
        plain = select_noise(denoiser(4, guidance=1.0), candidates, target(4), steps=1)
        torch.testing.assert_close(guided.losses, plain.losses)  # the first step's maps do not know the guidance


class TestRefinement:
    def test_a_small_step_lowers_the_loss_of_every_sample_that_has_characters(self):
        x, aim, network = noises(1, 4)[0] * 10, target(4), denoiser(4)
        moved = refine_latents(network, x, 900, aim, 0.5)
        after = aim.loss(network.maps(moved.x, 900))
        assert (after[:3] < moved.first[:3]).all()
        torch.testing.assert_close(moved.x[3], x[3])  # nothing to look at, nothing to move
        assert moved.updates.tolist() == [1, 1, 1, 1]

    def test_a_batch_is_refined_as_each_sample_alone(self):
        x = noises(1, 4)[0] * 3
        together = refine_latents(denoiser(4), x, 500, target(4), 2.0, threshold=-0.3, most=6)
        assert len(set(together.updates.tolist())) > 1  # some stop earlier
        for i in range(4):
            one, aim = alone(i)
            found = refine_latents(one, single(x, i), 500, aim, 2.0, threshold=-0.3, most=6)
            torch.testing.assert_close(found.x[0], together.x[i])
            assert int(found.updates) == int(together.updates[i])

    def test_c_in_is_there_unless_upstreams_way_is_asked_for(self):
        x, shown = noises(1, 2)[0], []
        for scale_input in (True, False):
            network = ToyNetwork()
            refine_latents(denoiser(2, network), x, 999, target(2), 1.0, scale_input=scale_input)
            shown.append(network.inputs[0])
        factor = float((1 + sigma_levels(ABAR)[999] ** 2).sqrt())
        assert factor == pytest.approx(14.65, abs=0.01)
        torch.testing.assert_close(shown[0] * factor, x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shown[1], x)

    def test_the_schedule_of_updates(self):
        rule = Refinement(target(1))
        assert rule.step_size(0, 50) == 20 and rule.step_size(49, 50) == pytest.approx(20 * 0.02**0.5)
        assert rule.thresholds == {5: -0.5, 9: -0.56, 13: -0.62, 17: -0.68, 21: -0.74, 25: -0.8}
        assert (rule(denoiser(1), noises(1, 1)[0], 500, 4, 50).updates == 1).all()
        never = Refinement(target(1), thresholds={5: -2.0}, most=3)
        assert (never(denoiser(1), noises(1, 1)[0], 500, 5, 50).updates == 3).all()


class TestSampling:
    def test_an_exact_denoiser_gives_the_picture_back(self):
        x0 = torch.randn(2, 4, SIZE, SIZE)

        def network(x, t, context):  # knows x0: eps = (x_t - sqrt(abar) x0) / sqrt(1 - abar)
            a = ABAR[t][:, None, None, None]
            return (x - a.sqrt() * x0) / (1 - a).sqrt(), []

        found = euler_sample(denoiser(2, network, guidance=1.0), noises(1, 2)[0], steps=8)
        torch.testing.assert_close(found, x0, atol=1e-3, rtol=1e-3)

    def test_refinement_on_and_off_and_what_is_watched(self):
        seen = []
        plain = euler_sample(denoiser(2), noises(1, 2)[0], 6)
        refined = euler_sample(denoiser(2), noises(1, 2)[0], 6, Refinement(target(2)),
                               watch=lambda i, x, maps: seen.append((i, x.shape, maps[0].shape)))
        assert not torch.allclose(plain, refined) and torch.isfinite(refined).all()
        assert seen == [(i, (2, 4, SIZE, SIZE), (2, TOKENS, SIZE, SIZE)) for i in range(6)]

    def test_guidance_needs_no_second_pass_at_1(self):
        network = ToyNetwork()
        euler_sample(denoiser(2, network, guidance=1.0), noises(1, 2)[0], 2)
        assert {len(x) for x in network.inputs} == {2}
        network = ToyNetwork()
        euler_sample(denoiser(2, network), noises(1, 2)[0], 2)
        assert {len(x) for x in network.inputs} == {4}
