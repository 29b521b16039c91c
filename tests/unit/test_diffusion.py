"""The noise processes: closed forms, diffusers' schedulers, fractional timesteps, errors."""
from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from anytext_lib.losses import (
    AnyText2Objective,
    ProcessError,
    RectifiedFlow,
    VariancePreserving,
    add_noise,
    min_snr,
    process_of,
    snr,
)
from tests.unit.test_objective import inputs
from tests.unit.toy import ABAR, ToyReader, decode


def draws(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 4, 8, 8, generator=generator).double()


PROCESSES = [VariancePreserving(ABAR.double(), kind) for kind in ("epsilon", "sample", "v_prediction")] + [
    RectifiedFlow()]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.prediction_type)
@pytest.mark.parametrize("timesteps", [[0, 400, 999], [0.25, 431.5, 998.75]])
def test_a_perfect_answer_gives_back_x0(process, timesteps):
    (x0, noise), t = draws(), torch.tensor(timesteps).to(torch.int64 if timesteps[0] == 0 else torch.float64)
    found = process.predict_x0(process.target(x0, noise, t), process.add_noise(x0, noise, t), t)
    torch.testing.assert_close(found, x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.prediction_type)
def test_amplification_is_how_an_error_grows(process):
    (x0, noise), t = draws(), torch.tensor([20, 400, 900])
    x_t, right = process.add_noise(x0, noise, t), process.target(x0, noise, t)
    moved = (process.predict_x0(right + 1e-3, x_t, t) - process.predict_x0(right, x_t, t)).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(moved, 1e-3 * process.amplification(t).double(), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.prediction_type)
def test_the_share_of_signal_is_measured_on_noisy_pictures(process):
    """x0 and noise of variance 1: the regression of x_t on x0 gives the signal, the rest is noise."""
    (x0, noise), t = draws(2), torch.tensor([100, 700])
    plain, signal = process.add_noise(0 * x0, noise, t), process.add_noise(x0, 0 * noise, t)
    power = [(part / base).square().mean(dim=(1, 2, 3)) for part, base in ((signal, x0), (plain, noise))]
    torch.testing.assert_close(process.signal_share(t).double(), power[0] / (power[0] + power[1]), rtol=1e-5, atol=0)


def test_rectified_flow_in_closed_form():
    """sigma = t / 1000; x_t, u and x0 written out; share of signal 9 / 10 at sigma = 1/4."""
    (x0, noise), flow, t = draws(2), RectifiedFlow(), torch.tensor([250.0, 625.0], dtype=torch.float64)
    x_t = flow.add_noise(x0, noise, t)
    torch.testing.assert_close(x_t[0], 0.75 * x0[0] + 0.25 * noise[0])
    torch.testing.assert_close(flow.target(x0, noise, t), noise - x0)
    torch.testing.assert_close(flow.predict_x0(noise, x_t, t)[1], x_t[1] - 0.625 * noise[1])
    torch.testing.assert_close(flow.signal_share(t), torch.tensor([0.9, 0.375**2 / (0.375**2 + 0.625**2)]).double())
    ends = torch.tensor([0, 1000])
    assert flow.signal_share(ends).tolist() == [1, 0] and torch.isfinite(min_snr()(flow.signal_share(ends))).all()
    assert snr(flow.signal_share(ends))[1] == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_agrees_with_diffusers(shift):
    """The same noisy latents at the scheduler's own timesteps; its step to sigma = 0 lands on our estimate."""
    scheduler, (x0, noise) = FlowMatchEulerDiscreteScheduler(shift=shift), draws(2)
    process = process_of(scheduler)
    t = scheduler.timesteps[[100, 700]]
    assert process == RectifiedFlow(1000) and not (t == t.round()).all() or shift == 1
    x_t = process.add_noise(x0, noise, t)
    torch.testing.assert_close(x_t, scheduler.scale_noise(x0, t, noise), rtol=1e-5, atol=1e-6)
    scheduler.set_timesteps(1)
    last, output = scheduler.timesteps[0], torch.randn_like(x0)
    stepped = scheduler.step(output, last, x_t).prev_sample
    torch.testing.assert_close(process.predict_x0(output, x_t, last.expand(2)), stepped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_ddpm_agrees_with_diffusers(kind):
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=kind)
    process, t = process_of(scheduler), torch.tensor([10, 800])
    x0, noise = draws(2).float()
    assert process.prediction_type == kind and process_of(scheduler, "sample").prediction_type == "sample"
    torch.testing.assert_close(process.add_noise(x0, noise, t), scheduler.add_noise(x0, noise, t))
    if kind == "v_prediction":
        torch.testing.assert_close(process.target(x0, noise, t), scheduler.get_velocity(x0, noise, t))


def test_between_two_timesteps_abar_is_between():
    process = VariancePreserving(ABAR)
    whole, half = process.signal_share(torch.tensor([3, 999])), process.signal_share(torch.tensor([3.0, 999.0]))
    assert torch.equal(whole, half)
    assert process.signal_share(torch.tensor([3.5])).item() == pytest.approx((ABAR[3] + ABAR[4]).item() / 2)
    assert process.signal_share(torch.tensor([999.7])) == ABAR[999]


def test_the_objective_of_a_flow():
    """A perfect answer costs nothing but CTC; the loss by hand; fractional timesteps."""
    scheduler, batch = FlowMatchEulerDiscreteScheduler(shift=3.0), inputs()
    batch["timesteps"] = scheduler.timesteps[[950, 600, 200]]
    objective = AnyText2Objective(ToyReader(), scheduler, decode, loss_alpha=0.3, loss_beta=0.2)
    error = (batch["model_output"] - (batch["noise"] - batch["latents"])).square()
    keep = 1 - torch.nn.functional.interpolate(batch["invalid_mask"], (8, 8))
    torch.testing.assert_close(objective(**batch).samples.simple, (keep * error).mean(dim=(1, 2, 3)))
    sigma = batch["timesteps"] / 1000
    torch.testing.assert_close(objective(**batch).samples.step_weight,
                               (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2))
    batch["images"] = decode(batch["latents"]).clamp(-1, 1)
    perfect = objective(**{**batch, "model_output": batch["noise"] - batch["latents"]})
    assert perfect.simple == 0 and perfect.ocr < 1e-8 and perfect.ctc > 0


def test_the_objective_takes_a_scheduler_and_fractions():
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    by_tensor = AnyText2Objective(ToyReader(), scheduler.alphas_cumprod, decode)
    by_scheduler = AnyText2Objective(ToyReader(), scheduler, decode)
    batch = inputs()
    assert torch.equal(by_tensor(**batch).loss, by_scheduler(**batch).loss)
    floats = by_scheduler(**{**batch, "timesteps": batch["timesteps"].float()})
    assert torch.equal(floats.loss, by_tensor(**batch).loss)
    assert torch.isfinite(by_scheduler(**{**batch, "timesteps": batch["timesteps"] + 0.5}).loss)


def test_errors_name_what_is_missing():
    with pytest.raises(ProcessError, match="flow has no alphas_cumprod: give RectifiedFlow"):
        AnyText2Objective(ToyReader(), ABAR, decode, prediction_type="flow")
    with pytest.raises(ProcessError, match="EDMEulerScheduler has no alphas_cumprod, which 'epsilon' needs"):
        process_of(EDMEulerScheduler())
    with pytest.raises(ProcessError, match="invert_sigmas"):
        process_of(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    with pytest.raises(ProcessError, match="predicts 'flow', not 'epsilon'"):
        process_of(RectifiedFlow(), "epsilon")
    with pytest.raises(ProcessError, match="'flow'.*not 'v_prediction'"):
        RectifiedFlow(prediction_type="v_prediction")
    with pytest.raises(ProcessError, match="prediction_type is one of"):
        VariancePreserving(ABAR, "eps")
    with pytest.raises(ProcessError, match=r"tensor \(T,\)"):
        VariancePreserving(ABAR[None])
    with pytest.raises(ProcessError, match="no num_train_timesteps"):
        process_of(type("FlowMatchOther", (), {"config": {}})())


def test_formulas_have_one_home():
    (x0, noise), t, schedule = draws(2), torch.tensor([10, 800]), ABAR.double()
    assert torch.equal(VariancePreserving(schedule).add_noise(x0, noise, t), add_noise(x0, noise, schedule[t]))
