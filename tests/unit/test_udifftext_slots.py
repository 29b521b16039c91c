"""L_str in training: slots of a CTC reader, the clamp, upstream's norms and its grey."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.data.batch import to_tensor
from anytext_lib.data.lines import TextLines
from anytext_lib.errors import OptionError
from anytext_lib.scenes.lettering import render_line
from anytext_lib.training import AnyTextData
from anytext_lib.udifftext.model import SIZES, UDiffTextModel
from anytext_lib.udifftext.word_losses import sequence_loss
from anytext_lib.udifftext.word_slots import WordReader, slot_probabilities
from anytext_lib.udifftext.word_training import UDiffTextTraining

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def reader():
    return WordReader(slots=7)


@pytest.fixture(scope="module")
def batch():
    data = AnyTextData(train="scenes", val="scenes", scenes={"epoch_length": 2}, val_limit=2, batch_size=2,
                       image_size=(32, 96), max_lines=1, max_chars=12, mask_ratio=1.0, font_hint_prob=0.0)
    data.setup("fit")
    return next(data.plain_batches(2, 2))


def by_enumeration(frames: torch.Tensor, slots: int) -> torch.Tensor:
    """The same by all paths (T, C): each is merged, its blanks are dropped, and its probability added up."""
    time, classes = frames.shape
    found = torch.zeros(slots, classes, dtype=frames.dtype)
    for path in itertools.product(range(classes), repeat=time):
        text = [c for c, _ in itertools.groupby(path) if c]
        probability = frames[range(time), path].prod()
        for k in range(slots):
            found[k, text[k] if k < len(text) else 0] += probability
    return found


class TestSlots:
    def test_they_are_what_all_paths_add_up_to(self):
        frames = torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).softmax(2)
        found = slot_probabilities(frames, 3)
        torch.testing.assert_close(found, torch.stack([by_enumeration(row, 3) for row in frames]))
        torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 3, dtype=torch.float64))

    def test_gradients_are_those_of_the_function(self):
        frames = torch.rand(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(2)
        assert torch.autograd.gradcheck(lambda leaf: slot_probabilities(leaf, 2), frames.requires_grad_())

    def test_a_picture_of_a_word_is_read_slot_by_slot(self, reader):
        crop = to_tensor(render_line("Bottle", "OpenSans", (48, 160)))
        slots = reader(torch.nn.functional.pad(crop, (0, 160)))
        read = reader.characters.read(slots[..., :95])
        assert slots.shape == (1, 7, 96) and read == reader.recognizer.read(torch.nn.functional.pad(crop, (0, 160)))
        assert read[0].startswith("Bottle")
        right, swapped, longer = (float(sequence_loss(slots, [word])) for word in ("Bottle", "Botlte", "Bottl"))
        assert right < 0.05 < 2 < swapped and longer < 0.05  # order counts, what follows the word does not

    def test_every_printable_character_has_a_class_of_its_own(self, reader):
        assert len(set(reader._own.tolist())) == 94 and reader.recognizer.charset.space not in reader._own

    def test_gradients_reach_the_picture_and_images_without_a_word_cost_nothing(self, reader):
        images = torch.cat([to_tensor(render_line("Tea", "OpenSans", (48, 160)))] * 2).requires_grad_()
        lines = TextLines(torch.tensor([1]), torch.tensor([[[0.0, 0], [159, 0], [159, 47], [0, 47]]]), ["Tee"],
                          ["Latin"])
        slots = reader.of_words(images, lines)
        loss = sequence_loss(slots, ["", "Tee"])
        loss.sum().backward()
        assert loss[0] == 0 < loss[1] and not images.grad[0].any() and images.grad[1].abs().max() > 0


    def test_the_reader_keeps_to_float32_under_autocast(self, reader):
        images = to_tensor(render_line("Tea", "OpenSans", (48, 160)))
        lines = TextLines(torch.tensor([0]), torch.tensor([[[0.0, 0], [159, 0], [159, 47], [0, 47]]]), ["Tea"],
                          ["Latin"])
        plain = reader.of_words(images, lines)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(reader.of_words(images, lines), plain)


class TestTraining:
    def test_the_clamp_takes_the_gradient_of_a_word_that_is_badly_wrong(self, batch):
        torch.manual_seed(0)
        model, pulls = UDiffTextModel("tiny"), {}
        for clamp in (None, 1.0):
            module = UDiffTextTraining(model, min_size=8, local_weight=0.0, sequence_weight=1.0, sequence_clamp=clamp)
            latents, told = model.encode(batch.images), model.conditions(batch)
            noise, t = torch.zeros_like(latents), torch.full((2,), 300)
            terms = module.evaluate(latents, noise, t, told, batch.lines)
            parameters = [p for _, p in module.trained["text_attention"]]
            pulls[clamp] = [float(g.abs().max()) for g in
                            torch.autograd.grad(terms.sequence.sum(), parameters) if g is not None]
            assert terms.log("t").keys() == {"t/diff", "t/local", "t/str", "t/loss"}
            torch.testing.assert_close(terms.loss, terms.diffusion.mean() + terms.sequence.mean())
            assert (terms.sequence > 1).all() if clamp is None else (terms.sequence == 1).all()
        assert max(pulls[None]) > 0 and max(pulls[1.0]) == 0

    def test_norms_are_upstreams_24_960_parameters(self):
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            model = UDiffTextModel("tiny")
            model.unet = UNet2DConditionModel(**SIZES["sd2"]["unet"])
        plain, more = (model.train_only_text_attention(norms=norms)["text_attention"] for norms in (False, True))
        added = dict(more).keys() - dict(plain).keys()
        assert all(name.endswith((".norm2.weight", ".norm2.bias")) and ".transformer_blocks." in name for name in added)
        assert sum(p.numel() for _, p in more) - sum(p.numel() for _, p in plain) == 24_960

    def test_grey_and_black_are_what_the_network_sees(self, batch):
        torch.manual_seed(0)
        model = UDiffTextModel("tiny")
        black = model.conditions(batch).place
        model.fill_masked("grey")
        grey, mask = model.conditions(batch).place, batch.positions > 0
        torch.testing.assert_close(grey[:, 1:], model.encode(batch.images * (~mask)))
        assert not torch.equal(grey[:, 1:], black[:, 1:]) and torch.equal(grey[:, :1], black[:, :1])
        with pytest.raises(OptionError, match="one of black, grey"):
            model.fill_masked("white")

    @pytest.mark.parametrize("options, message", [({"sequence_weight": -1.0}, "at least 0"),
                                                  ({"sequence_clamp": 0.0}, "positive number")])
    def test_wrong_options(self, options, message):
        with pytest.raises(OptionError, match=message):
            UDiffTextTraining("tiny", **options)

    def test_from_the_command_line(self, tmp_path):
        options = {"model": "tiny", "runs": tmp_path, "trainer.max_steps": 2, "trainer.val_check_interval": 2,
                   "data.batch_size": 2, "data.val_limit": 2, "trainer.accelerator": "cpu", "model.warmup_steps": 0,
                   "trainer.log_every_n_steps": 1, "model.lr_schedule": "constant", "words.every": 0,
                   "sequence_weight": 0.5, "sequence_clamp": 1.0, "train_norms": "true", "masked_fill": "grey"}
        assert main(["fit", "--config", "udifftext_mini.yaml", *(f"--{k}={v}" for k, v in options.items())]) == 0
        folder = tmp_path / "udifftext_mini"
        kept = json.loads((folder / "model" / "udifftext.json").read_text(encoding="utf-8"))
        assert kept["masked_fill"] == "grey"
        assert UDiffTextModel.from_pretrained(folder / "model").config["masked_fill"] == "grey"
        events = b"".join(path.read_bytes() for path in (folder / "tensorboard").glob("events*"))
        assert b"t/str" in events and b"v/str" in events
