"""The pipeline on a tiny model with random weights: what runs how often, what an image depends on, editing, devices."""
from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from PIL import Image

from anytext_lib.generation import AnyText2Pipeline, Defaults, Line, Request, RequestError, Settings, make_scheduler
from anytext_lib.generation.prepare import default_size, picture_grid, prepare
from anytext_lib.generation.styles import StylePicture, style_ink
from tests.unit.generation_model import lively_model

BOX = [[6, 6], [80, 6], [80, 40], [6, 40]]
LOWER = [[6, 50], [100, 50], [100, 90], [6, 90]]
FEW = {"ddim_steps": 3, "width": 96, "height": 48}


@pytest.fixture(scope="module")
def pipe():
    return AnyText2Pipeline(lively_model())


@pytest.fixture
def fresh(pipe):
    """The same model in a pipeline of its own, whose scheduler may be exchanged."""
    return AnyText2Pipeline(pipe.model)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)


def counted(model):
    """Counts the calls of each part, and collects WriteNet's batch sizes."""
    calls, sizes = Counter(), []
    handles = [part.register_forward_hook(lambda *_, name=name: calls.update([name]))
               for name, part in (("unet", model.unet), ("writenet", model.writenet))]
    handles.append(model.writenet.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0]))))
    return calls, sizes, handles


def tensor(pipe, *arguments, **options):
    return pipe.generate(*arguments, **(FEW | {"output_type": "pt"} | options)).images


# what runs how often


@pytest.mark.parametrize("guidance, passes", [(7.5, 2), (1, 1)])
def test_writenet_runs_once_for_each_condition(pipe, guidance, passes):
    calls, sizes, handles = counted(pipe.model)
    pipe.generate('"Tea"', images=3, batch_size=2, seed=1, cfg_scale=guidance, **FEW)
    for handle in handles:
        handle.remove()
    assert calls == {"writenet": passes, "unet": passes * 3 * 2}  # 3 steps, two batches
    assert sizes == [1] * passes  # three seeds share it


def test_slow_control_runs_at_every_step():
    slow = AnyText2Pipeline(lively_model(writenet={"fast_control": False}))
    calls, _, _ = counted(slow.model)
    slow.generate('"Tea"', seed=1, **FEW)
    assert calls["writenet"] == calls["unet"] == 6
    slow.generate('"Tea"', seed=1, strength=0, **FEW)
    assert calls["writenet"] == 6


def test_without_strength_the_lines_do_not_matter(pipe):
    same = tensor(pipe, "a wall", ["Tea"], strength=0, seed=1, cfg_scale=1)
    assert torch.equal(same, tensor(pipe, "a wall", ["Milk"], strength=0, seed=1, cfg_scale=1))
    assert not torch.equal(tensor(pipe, "", ["Tea"], seed=1), tensor(pipe, "", ["Milk"], seed=1))


def test_a_picture_without_lines(pipe):
    assert tensor(pipe, "a wall", seed=1, negative_prompt="a * b").isfinite().all()


# what an image depends on


def test_an_image_depends_on_its_own_seed_only(pipe):
    three = tensor(pipe, '"Tea"', images=3, seed=4)
    assert torch.allclose(tensor(pipe, '"Tea"', seed=5)[0], three[1], atol=1e-4)
    assert torch.allclose(tensor(pipe, '"Tea"', images=2, seed=[6, 4])[1], three[0], atol=1e-4)
    generators = [torch.Generator().manual_seed(6), torch.Generator().manual_seed(5)]
    found = pipe.generate('"Tea"', images=2, generator=generators, output_type="pt", **FEW)
    assert torch.allclose(found.images[0], three[2], atol=1e-4) and found.seeds == [None, None]
    assert not torch.allclose(three[0], three[1], atol=0.01)


def test_requests_of_one_run_do_not_touch_each_other(pipe):
    settings = Settings(3)
    asked = [Request('"Tea"', width=96, height=48), Request("a long wall " * 30, ["Milk"], width=96, height=48)]
    both = pipe.run(asked, settings, 2, seed=[1, 2, 3, 4], output_type="pt")
    assert both.pictures == [0, 0, 1, 1] and both.images.shape == (4, 3, 48, 96)
    alone = pipe.run(asked[1:], settings, 2, seed=3, output_type="pt", batch_size=1)
    assert torch.allclose(alone.images, both.images[2:], atol=1e-3)


def test_a_run_without_seed_tells_the_one_it_drew(pipe):
    found = pipe.generate('"Tea"', output_type="pt", **FEW)
    assert torch.equal(found.images, tensor(pipe, '"Tea"', seed=found.seeds[0]))
    assert np.array(pipe.generate('"Tea"', output_type="np", **FEW).images[0]).shape == (48, 96, 3)


@pytest.mark.parametrize("changed", [
    {"attnx_scale": 0.0}, {"strength": 0.5}, {"cfg_scale": 1.0}, {"eta": 1.0}, {"negative_prompt": "dull"},
    {"added_prompt": "sharp"}, {"glyph_font": "Merienda"}, {"ddim_steps": 4},
    {"lines": [Line("Tea", color="red")]}, {"lines": [Line("Tea", font="Merienda")]},
    {"lines": [Line("Tea", [[10, 5], [90, 8], [88, 42], [9, 40]])]},
    {"lines": [Line("Tea", style_image=np.tile(np.arange(64, dtype=np.uint8) * 4, (24, 1)))]}])
def test_every_knob_has_an_effect(pipe, changed):
    lines = changed.pop("lines", ["Tea"])
    options = {"seed": 1} | changed
    assert not torch.equal(tensor(pipe, "a wall", lines, **options), tensor(pipe, "a wall", ["Tea"], seed=1))
    assert all(block.attnx_scale == 1 for block in pipe.model.unet.attnx_blocks())


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_strength_scales_the_control_from_the_first_timestep_on(pipe, strength):
    """It is no strength of editing as of image-to-image: every run starts at the last timestep, from noise."""
    from anytext_lib.diffusion import predict_x0
    from anytext_lib.generation import stages

    steps, model = [], pipe.model
    tensor(pipe, "a wall", ["Tea"], seed=1, ddim_steps=20, cfg_scale=1.0, strength=strength, callback=steps.append)
    assert [step.timestep for step in steps] == list(range(951, 0, -50))
    item = prepare(Request("a wall", ["Tea"], width=96, height=48), model)
    (branch,) = stages.encode(model, pipe.placement, [item], Settings(20, 1.0))
    noise = torch.randn(branch.conditions.masked_latents.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = model(noise, torch.tensor([951]), branch.conditions, control=branch.control.scaled(strength))
    wanted = predict_x0(output, noise, model.alphas_cumprod[951].expand(1), model.prediction_type)
    assert torch.allclose(steps[0].estimate, wanted, atol=1e-4)


def test_progress_and_previews(pipe):
    told = []
    last = pipe.generate('"Tea"', images=2, seed=1, callback=told.append, **FEW)
    assert [(p.step, p.steps, p.timestep) for p in told] == [(1, 3, 667), (2, 3, 334), (3, 3, 1)]
    assert told[0].pictures == [0, 1] and told[0].latents.shape == (2, 4, 6, 12)
    previews = told[-1].preview()
    assert previews[0].size == (96, 48) and len(previews) == 2
    difference = np.abs(np.asarray(previews[0], int) - np.asarray(last.images[0], int))
    assert difference.mean() < 12  # at t = 1 the estimate is nearly the result


# schedulers


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++", "unipc"])
def test_schedulers_by_name(fresh, name):
    fresh.scheduler = make_scheduler(name, fresh.model)
    assert tensor(fresh, '"Tea"', seed=1).isfinite().all()


def test_any_scheduler_of_diffusers(fresh):
    fresh.scheduler = EulerDiscreteScheduler.from_config(dict(fresh.scheduler.config))
    assert tensor(fresh, '"Tea"', seed=1).isfinite().all()
    with pytest.raises(RequestError, match="EulerDiscreteScheduler knows no eta"):
        tensor(fresh, '"Tea"', eta=0.5)


def test_a_scheduler_for_another_prediction_is_refused(fresh):
    fresh.scheduler = EulerDiscreteScheduler(prediction_type="v_prediction")
    with pytest.raises(RequestError, match="predicts 'v_prediction', this one predicts 'epsilon'"):
        tensor(fresh, '"Tea"')
    with pytest.raises(RequestError, match="no scheduler 'fast'"):
        make_scheduler("fast", fresh.model)


# editing


def test_editing_comes_back_at_its_own_size(pipe, photo):
    odd = photo[:90, :121]
    found = pipe.edit(odd, 'a sign "Tea"', [Line("Milk", LOWER[:2] + [[100, 80], [6, 80]])], ddim_steps=2, seed=1)
    assert found.images[0].size == (121, 90) and found.records[0]["request"]["width"] is None


def test_composite_puts_untouched_pixels_back_exactly(pipe, photo):
    found = np.array(pipe.edit(Image.fromarray(photo[:90, :121]), "", [Line("Tea", BOX)], ddim_steps=2, seed=1,
                               composite=True).images[0])
    changed = (found != photo[:90, :121]).any(axis=2)
    assert not changed[42:].any() and not changed[:, 82:].any() and changed[8:38, 8:78].mean() > 0.9
    plain = np.array(pipe.edit(photo, "", [Line("Tea", BOX)], ddim_steps=2, seed=1).images[0])
    assert (plain != photo).any(axis=2)[42:].mean() > 0.9  # upstream makes the surroundings anew


def test_blend_keeps_the_latents_outside(pipe, photo):
    found = pipe.edit(photo, "", [Line("Tea", BOX)], ddim_steps=2, seed=1, blend=True, output_type="pt")
    image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        kept = pipe.model.decode(pipe.model.encode(image.clamp(1 / 127.5 - 1, 1), sample=False)).clamp(-1, 1)
    far = (..., slice(72, None), slice(None))  # beyond the reach of the decoder's convolutions
    near = (..., slice(8, 38), slice(8, 78))
    assert (found.images[far] - kept[far]).abs().mean() < 0.5 * (found.images[near] - kept[near]).abs().mean()


def test_the_model_sees_the_image_without_the_regions(pipe, photo):
    sample = prepare(Request("", [Line("Tea", BOX)], image=photo), pipe.model).sample
    inside = sample.positions[0] == 1
    assert not sample.masked_image[inside].any() and sample.editing
    assert (sample.masked_image[~inside] == np.clip(photo, 1, 255)[~inside]).all()
    generated = prepare(Request('"Tea"', width=96, height=48), pipe.model).sample
    assert not generated.masked_image.any() and not generated.editing


# sizes and other errors


def test_sizes_are_multiples_of_the_grid(pipe):
    assert picture_grid(pipe.model) == 16 and default_size(pipe.model, Defaults()) == (64, 64)
    assert default_size(pipe.model, Defaults(width=192)) == (64, 192)
    with pytest.raises(RequestError, match="width is a multiple of 16 pixels for this model, got 100: take 96"):
        tensor(pipe, '"Tea"', width=100)


@pytest.mark.parametrize("options, pattern", [
    ({"images": 0}, "at least one"), ({"seed": [1, 2]}, "2 seeds for 1 images"), ({"seed": -1}, "at least 0"),
    ({"seed": 1, "generator": torch.Generator()}, "not both"), ({"batch_size": 0}, "batch_size"),
    ({"output_type": "jpg"}, "output_type"), ({"ddim_steps": 0}, "ddim_steps")])
def test_wrong_options(pipe, options, pattern):
    with pytest.raises(RequestError, match=pattern):
        tensor(pipe, '"Tea"', **options)


def test_wrong_edits(pipe, photo):
    with pytest.raises(RequestError, match="nothing to edit"):
        pipe.edit(photo, "a wall")
    with pytest.raises(RequestError, match="width and height are those of the picture"):
        pipe.run([Request('"Tea"', image=photo, width=64)])
    with pytest.raises(RequestError, match="composite and blend"):
        pipe.run([Request('"Tea"', width=96, height=48)], Settings(2, composite=True))
    with pytest.raises(RequestError, match="one size"):
        pipe.run([Request('"Tea"', width=96, height=48), Request('"Tea"', width=96, height=64)])


def test_a_model_without_styles_says_that_fonts_have_no_effect():
    plain = AnyText2Pipeline(lively_model(text_embedding={"style": False, "style_trainable": False}))
    with pytest.warns(UserWarning, match=r"fonts and style images of \['Tea'\] have no effect"):
        tensor(plain, "", [Line("Tea", font="Merienda")])


def test_style_ink_is_what_is_darker():
    picture = np.full((30, 60, 3), 220, np.uint8)
    picture[12:18, 10:50] = 20
    ink = style_ink(StylePicture(picture, None))
    assert ink[12:18, 12:48].mean() > 0.4 and ink[:6].sum() == 0


# parts, devices, dtypes, files


def test_it_is_a_diffusion_pipeline(pipe):
    assert isinstance(pipe, DiffusionPipeline) and set(pipe.components) == {"model", "scheduler"}
    assert pipe.device.type == "cpu" and torch.equal(pipe('"Tea"', seed=1, output_type="pt", **FEW).images,
                                                     tensor(pipe, '"Tea"', seed=1))


def test_saved_and_loaded(pipe, tmp_path):
    own = AnyText2Pipeline(pipe.model, make_scheduler("unipc", pipe.model), Defaults(96, 48, 3, 2.0, "sharp"))
    own.save_pretrained(tmp_path)
    again = AnyText2Pipeline.from_pretrained(tmp_path)
    assert again.defaults == own.defaults and type(again.scheduler) is type(own.scheduler)
    assert torch.equal(again.generate('"Tea"', seed=1, output_type="pt").images,
                       own.generate('"Tea"', seed=1, output_type="pt").images)
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    assert type(AnyText2Pipeline.from_pretrained(tmp_path).scheduler).__name__ == "UpstreamDDIMScheduler"
    assert "UniPC" in type(AnyText2Pipeline.from_pretrained(tmp_path, scheduler="unipc").scheduler).__name__


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype):
    half = AnyText2Pipeline(lively_model())
    full = tensor(half, '"Tea"', seed=1, cfg_scale=1.5)
    found = tensor(half.to(dtype), '"Tea"', seed=1, cfg_scale=1.5)
    assert half.model.dtype == dtype and next(half.model.recognizer.parameters()).dtype == torch.float32
    assert found.dtype == torch.float32 and (found - full).abs().mean() < 0.1 * full.std()


def test_offloading_moves_parts_in_and_out(monkeypatch, photo):
    from anytext_lib.generation import stages

    own = AnyText2Pipeline(lively_model())
    edited = {"lines": [Line("Tea", BOX)], "ddim_steps": 2, "seed": 1, "blend": True}
    wanted = own.edit(photo, **edited).images[0]
    moves, move = [], stages._to
    names = {id(getattr(own.model, name)): name for name in stages.PARTS}
    monkeypatch.setattr(stages, "_to", lambda part, device=None, dtype=None: (
        moves.append(names[id(part)]), move(part, device, dtype)))
    own.enable_model_cpu_offload(device="cpu")
    moves.clear()
    assert np.array_equal(own.edit(photo, **edited).images[0], wanted)
    order = list(dict.fromkeys(moves))
    assert order.index("text_encoder") < order.index("writenet") < order.index("unet")
    assert moves[-1] == "vae" and all(count % 2 == 0 for count in Counter(moves).values())
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="needs a GPU"):
            own.enable_model_cpu_offload()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    own = AnyText2Pipeline(lively_model())
    wanted = tensor(own, '"Tea"', seed=1, cfg_scale=1.5)
    found = tensor(own.to("cuda"), '"Tea"', seed=1, cfg_scale=1.5)
    assert torch.equal(found, tensor(own, '"Tea"', seed=1, cfg_scale=1.5))
    assert (found - wanted).abs().mean() < 0.02
    own.enable_model_cpu_offload()
    assert torch.allclose(tensor(own, '"Tea"', seed=1, cfg_scale=1.5), found, atol=1e-3)
    assert own.model.unet.device.type == "cpu"
