"""The comparison of three families of objectives: its terms, and the whole command on a tiny random model."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from anytext_lib.data.batch import collate
from anytext_lib.db.dbnet import DBNet
from anytext_lib.errors import CourseError
from anytext_lib.experiments import objectives
from anytext_lib.experiments.objectives import build_terms, detected, peak_mib
from anytext_lib.experiments.plan import ExperimentPlan, read_table, weights_row
from anytext_lib.losses import Objective, Term
from anytext_lib.losses.step import text_region
from anytext_lib.losses.terms import make_term, region, simple
from anytext_lib.models import AnyText2Model
from anytext_lib.randomness import draw_noise
from anytext_lib.scenes.scene_dataset import SceneDataset
from anytext_lib.training import AnyText2Training
from anytext_lib.udifftext.attention import capture_attention
from anytext_lib.udifftext.attention_term import (
    finest,
    local,
    local_loss,
    sequence,
    star_tokens,
    token_spans,
    word_tokens,
)
from tests.unit.in_process import in_this_process


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    made = AnyText2Training(AnyText2Model.from_config("tiny", tokenizer="bytes"))
    made.prepare()
    for block in made.model.writenet.controlnet_down_blocks:  # no longer silent
        torch.nn.init.normal_(block.weight, std=0.05)
    return made


@pytest.fixture(scope="module")
def batch():
    scenes = SceneDataset(seed=5, epoch_length=2)
    return collate([scenes[i] for i in range(2)])


def noisy(module, batch):
    latents = module.encode(batch)
    return module.predict(batch, latents, draw_noise(0, 0, range(len(batch)), latents.shape[1:]),
                          torch.tensor([200, 600]))


def test_region_term_is_what_the_weight_adds(module, batch):
    step = noisy(module, batch)
    error = (step.output - step.noise).square()
    inside = torch.nn.functional.interpolate(text_region(batch), step.output.shape[-2:])
    assert 0 < inside.mean() < 1
    torch.testing.assert_close(region(step), (error * inside).mean(dim=(1, 2, 3)), rtol=1e-4, atol=0)
    assert (region(step, lambda step: torch.zeros_like(step.text_region)) == 0).all()


def test_a_detector_looks_at_a_picture_once(module, batch):
    torch.manual_seed(0)
    term = detected(DBNet())
    first = term.probability(batch.images)
    assert first.shape == (2, 1, *batch.images.shape[2:]) and 0 <= first.min() and first.max() <= 1
    assert torch.equal(term.probability(batch.images.flip(0)), first.flip(0))
    step = noisy(module, batch)
    torch.testing.assert_close(term(step), region(step, lambda step: first))


def test_every_star_has_its_line(module, batch):
    found = star_tokens(module.model, batch)
    for image, ((place, inside),) in enumerate(found):
        ids = [0, *module.model.captions.tokens(batch.text_captions[image])]
        assert ids[place] == module.model.captions.placeholder
        assert torch.equal(inside, batch.positions[image, 0])


def test_tokens_of_a_quoted_word_share_its_box(module, batch):
    for image, tokens in enumerate(word_tokens(module.model, batch)):
        text = batch.lines.texts[image]
        spelt = [batch.captions[image][slice(*span)] for place, span in token_spans(module.model, batch.captions[image])
                 if place in [place for place, _ in tokens]]
        assert "".join(spelt) == text
        box = text_region(batch)[image, 0]
        together = sum(region for _, region in tokens).clamp(max=1)
        assert (together * (1 - box)).sum() < 0.1 * box.sum() and (together * box).sum() > 0.9 * box.sum()
        columns = [region.sum(dim=0).argmax() for _, region in tokens]
        assert columns == sorted(columns), "letters stand from left to right"
    assert word_tokens(module.model, replace(batch, captions=["", "no word"])) == [[], []]


def test_places_count_the_markers_of_every_window(module):
    places = [place for place, _ in token_spans(module.model, "a " * 80)]
    assert places[:2] == [1, 2] and places[74:77] == [75, 78, 79]


def test_local_term_is_the_mean_of_both_networks(module, batch):
    objective = Objective([Term("local", local)])
    with objective.watch(module.model) as watched:
        step = replace(noisy(module, batch), watched=watched)
    found = objective(step)
    with capture_attention(module.model.writenet) as writenet, capture_attention(module.model.unet) as unet:
        noisy(module, batch)
    each = [local_loss(finest(writenet.layers()), star_tokens(module.model, batch)),
            local_loss(finest(unet.layers()), word_tokens(module.model, batch))]
    assert torch.allclose(found.samples, sum(each) / 2) and -1 <= found.samples.min() <= found.samples.max() <= 1
    found.loss.backward()
    grads = [p.grad for name, p in module.model.named_parameters() if "attn2" in name and p.grad is not None]
    assert any(g.abs().sum() > 0 for g in grads)
    module.zero_grad(set_to_none=True)


def test_no_tokens_pull_nothing():
    maps = [torch.rand(2, 7, 4, 12)]
    assert (local_loss(maps, [[], []]) == 0).all()
    inside = torch.zeros(64, 192)
    inside[:, :96] = 1
    one = local_loss(maps, [[(3, inside)], []])
    assert one[0] != 0 and one[1] == 0
    assert torch.isclose(one[0], local_loss([maps[0][:1]], [[(3, inside)]])[0])


def test_sequence_term_reads_the_lines_slot_by_slot(module, batch):
    """A reader that gives every class the same score."""
    read = partial(sequence, reader=lambda crops: crops.new_zeros(len(crops), 26, 95), clamp=None)
    values = Objective([Term("sequence", read)])(noisy(module, batch)).terms["sequence"]
    assert values.lines.shape == (2,) and torch.allclose(values.lines, torch.tensor(95.0).log())
    assert torch.equal(values.samples, values.lines)


def test_sequence_term_by_its_path_is_read_by_pp_ocr(module, batch):
    """As `--terms` names it: without a clamp it pulls, with upstream's it does not pull words that are badly wrong."""
    pulls = {}
    for clamp in (None, 1.0):
        term = make_term({"name": "anytext_lib.udifftext.attention_term.sequence", "clamp": clamp})
        step = noisy(module, batch)
        step.output.retain_grad()
        values = Objective([term])(step).terms["sequence"]
        values.lines.sum().backward()
        pulls[clamp] = float(step.output.grad.abs().max())
        assert (values.lines > 1).all() if clamp is None else (values.lines == 1).all()
        module.zero_grad(set_to_none=True)
    assert pulls[None] > 0 and pulls[1.0] == 0
    other = replace(batch, lines=replace(batch.lines, texts=["\u6c34", batch.lines.texts[1]]))
    lines = Objective([term])(noisy(module, other)).terms["sequence"].lines
    assert lines[0] == 0 < lines[1]  # no slot of PARSeq's knows the character


def test_only_the_finest_maps_are_looked_at():
    fine, coarse = torch.rand(1, 7, 8, 24), torch.rand(1, 7, 4, 12)
    assert finest([coarse, fine, fine]) == [fine, fine]


def test_a_term_is_added_with_its_weight(batch):
    made = AnyText2Training(AnyText2Model.from_config("tiny", tokenizer="bytes"),
                            terms=[Term("simple", simple), Term("region", region, 3.0)])
    step = noisy(made, batch)
    values = made.objective(step)
    assert torch.isclose(values.loss, simple(step).mean() + 3 * region(step).mean())


def test_peak_counts_what_is_held_at_the_worst_moment():
    def work():
        first = torch.ones(256, 1024)  # 1 MiB
        del first
        return torch.ones(2, 256, 1024).sum()  # 2 MiB

    assert 2 <= peak_mib(work) < 2.5


def test_unknown_profile_is_refused(tmp_path):
    with pytest.raises(CourseError, match="no profile 'huge'"):
        objectives.main("huge", tmp_path, None, "cpu", 1)


def test_arms_are_unique_lists_of_terms():
    measured = {"weight_local": 0.1, "weight_region": 2.0, "weight_db": 3.0, "detected": detected(DBNet())}
    made = {arm.name: arm.terms(objectives.SIZES, measured) for arm in objectives.OBJECTIVES}
    assert len(made) == len(objectives.OBJECTIVES) and list(made)[0] == "none"
    assert all(terms[0].name == "simple" and len(Objective(terms).terms) == len(terms) for terms in made.values())
    assert {terms[1].name for terms in made.values() if len(terms) == 2} == {"ocr", *build_terms(DBNet())}
    assert weights_row(made["region"]) == {"loss_alpha": 0, "loss_beta": 0, "with_step_weight": True,
                                           "region_weight": 3}
    assert weights_row(made["ocr_ctc"])["loss_beta"] == objectives.SIZES.loss_beta


@pytest.mark.slow
def test_the_command_runs_and_resumes(tmp_path, monkeypatch, capsys):
    """Four arms, one seed, one step, on a tiny random model."""
    kept = [arm for arm in objectives.OBJECTIVES if arm.name in ("none", "ocr_ctc", "local", "db")]
    monkeypatch.setattr(objectives, "OBJECTIVES", kept)
    monkeypatch.setattr(ExperimentPlan, "run_all", in_this_process)
    AnyText2Model.from_config("tiny", tokenizer="bytes").save_pretrained(tmp_path / "tiny")
    sizes = replace(objectives.SIZES, seeds=1, steps=1, batch=2, scenes=2, words=2, probes=1, probe_times=(500,),
                    probe_every=1, calibration=1, sampling_steps=2, detector_steps=2, timed=1,
                    starts=(("random", str(tmp_path / "tiny")),))
    monkeypatch.setitem(objectives.PROFILES, "test", sizes)
    assert objectives.main("test", tmp_path / "out", None, "cpu", 1) == 0
    rows, origin = read_table(tmp_path / "out" / "runs.parquet")
    by_arm = {row["arm"]: row for row in rows}
    assert set(by_arm) == {arm.name for arm in objectives.OBJECTIVES}
    for row in rows:
        assert row["step_seconds"] > 0 and row["peak_mib"] > 0 and row["l1_rest"] > 0 and -1 <= row["local"] <= 1
    assert by_arm["ocr_ctc"]["peak_mib"] > by_arm["none"]["peak_mib"], "a decoder and a reader need memory"
    assert by_arm["local"]["term_weight"] == pytest.approx(origin["calibration"]["weight_local"]) and (
        by_arm["none"]["term_weight"] == 0)
    curves, _ = read_table(tmp_path / "out" / "curves.parquet")
    first = [row["sim"] for row in curves if row["step"] == 0]
    assert first == pytest.approx([first[0]] * len(first), rel=1e-5), "arms begin at the same model"
    readings, _ = read_table(tmp_path / "out" / "readings.parquet")
    assert len(readings) == 2 * (1 + len(rows)) and len({row["wanted"] for row in readings}) <= 2

    capsys.readouterr()
    assert objectives.main("test", tmp_path / "out", None, "cpu", 1) == 0
    assert "] run" not in capsys.readouterr().out, "finished runs are not repeated"
    with pytest.raises(CourseError, match="results of other sizes"):
        objectives.main("quick", tmp_path / "out", None, "cpu", 1)
