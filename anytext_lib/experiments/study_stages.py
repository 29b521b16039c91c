"""The stages of a planned experiment: tune, run, measure, summarise; every result is a file that is made once.

`anytext course experiment NAME` runs the plan `anytext_lib/configs/experiments/NAME.yaml`, and goes on where it was
stopped, however that happened.  Everything but what an arm says is held equal among the runs of a seed: checkpoint,
scenes and their order, timesteps, noise, words, starting noise.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from anytext_lib.data.batch import AnyTextBatch, to_uint8
from anytext_lib.db.dbnet import load_network, save_network
from anytext_lib.device import pick_device
from anytext_lib.errors import CourseError
from anytext_lib.evaluation import edit_distance_score
from anytext_lib.evaluation.judge_samples import read_lines
from anytext_lib.experiments.fine_tuning import (
    Probes,
    batches_of,
    build_module,
    fit,
    held_out_scenes,
    noisy_step,
    read_words,
    scenes,
    scores_of,
    training_scenes,
    written,
)
from anytext_lib.experiments.map_detector import detected, map_detector
from anytext_lib.experiments.matching import Pull, pull
from anytext_lib.experiments.picture_distance import features_of, kernel_distance
from anytext_lib.experiments.plan import SIMPLE, ExperimentPlan
from anytext_lib.experiments.rewards import train_on_reward
from anytext_lib.experiments.straight_path import StraightPathTraining
from anytext_lib.experiments.study import PlannedArm, Study, read_study
from anytext_lib.experiments.study_tables import picture_rows, summarise
from anytext_lib.files import atomic_path, data_folder, file_hash
from anytext_lib.losses import Step, Term, make_term
from anytext_lib.models import AnyText2Model
from anytext_lib.models.storage import save_tensors
from anytext_lib.ocr import Judge
from anytext_lib.randomness import draw_noise
from anytext_lib.recipes.abilities import letters
from anytext_lib.training.module import AnyText2Training

STAGES = ("tune", "run", "measure", "summarise")
START = "start"  # the checkpoint itself, measured like an arm
OTHERS, NOISE = 14, 1000  # seed of the scenes that pictures are compared with; of starting noise, plus the run's seed
SPECKLE = 0.15  # deviation of the noise on latents that the distance of pictures must see
OPTIONS = {"style_ocr_trainable": False}


@dataclass(frozen=True)
class StudyPlan(ExperimentPlan):
    """An ExperimentPlan with the plan's file; each run has one thread, so that its CPU seconds mean something."""

    study: Study = field(kw_only=True)


def main(name: str, profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int,
         stage: str | None = None, models: Path | None = None, file: Path | None = None) -> int:
    """Run what is still missing of one stage or of all, in the order of the seeds.

    Args:
        models: folder of the checkpoints, by their names in the plan. ``file``: another plan than the course's.

    Raises:
        CourseError: an unknown plan, profile or stage; no checkpoint; results of another plan, sizes or checkpoints in
            the folder; words in two splits; a stage before the one that it needs.
    """
    if stage not in (None, *STAGES):
        raise CourseError(f"there is no stage {stage!r}: choose one of {', '.join(STAGES)}")
    plan = open_study(read_study(name, file), profile, out, device, jobs, models)
    chosen = range(seeds or plan.profile.seeds)
    with plan.keep_workers():
        if stage in (None, "tune"):
            tune(plan)
        if stage in (None, "run", "measure"):
            for seed in chosen:
                run(plan, [seed], stage)
    if stage in (None, "summarise"):
        refused = {arm.name: refusal(plan, arm) for arm in plan.study.arms.values()}
        summarise(plan.study, plan.folder, plan.results(), plan.provenance(), refused, plan.profile.seeds)
    return 0


def open_study(study: Study, profile: str, out: Path | None, device: str | None, jobs: int,
               models: Path | None) -> StudyPlan:
    """The plan of a study, in ``out`` or in build/experiments; ``models``: the folder with its checkpoints."""
    profiles = {"default": study.sizes, "quick": study.quick}
    if profile not in profiles:
        raise CourseError(f"there is no profile {profile!r}: choose one of {', '.join(profiles)}.")
    folders = {start: data_folder() / folder if models is None else models / start
               for start, folder in study.starts.items()}
    for start, folder in folders.items():
        if not (folder / "anytext2.json").is_file():
            raise CourseError(f"there is no model in {folder}, the checkpoint {start!r} of the plan: give the folder "
                              f"that has {', '.join(folders)} with --models")
    sizes = replace(profiles[profile], starts=tuple((start, str(folder.resolve()))
                                                    for start, folder in folders.items()))
    plan = StudyPlan(study.name, profile, sizes, out or Path("build/experiments") / study.name,
                     str(pick_device(device)), jobs, 1, study=study)
    weights = {start: hashlib.sha256("".join(file_hash(path) for path in sorted(folder.rglob("*.safetensors"))).encode()
                                     ).hexdigest() for start, folder in folders.items()}
    replace(plan, profile=replace(sizes, starts=())).claim(
        plan=hashlib.sha256(study.text.encode()).hexdigest(), checkpoints=weights)
    return plan


# stages

def tune(plan: StudyPlan) -> None:
    """Compare the gradients of all arms, then choose a rung for each: first where it stands alone, then on the rate of
    its baseline."""
    study, starts = plan.study, list(plan.study.starts)
    plan.run_all([(_words,)])
    if any(term["name"] == "detected" for arm in study.arms.values() for term in arm.terms):
        plan.run_all([(_detector,)])
    compared = [arm for arm in study.arms.values() if arm.kind == "terms"]
    plan.run_all([(_calibrate, arm.name, start) for arm in compared for start in starts])
    first, *others = study.ladder.seeds
    for ladder in ("rates", "strengths"):
        arms = [arm for arm in study.arms.values() if arm.ladder == ladder and not refusal(plan, arm)]
        plan.run_all([(_tune, arm.name, rung, first) for arm in arms for rung in open_rungs(plan, arm)])
        plan.run_all([(_tune, arm.name, rung, seed) for seed in others for arm in arms
                      for rung in kept_rungs(plan, arm)])
    for arm in study.arms.values():
        print(f"{arm.name}: {refusal(plan, arm) or chosen_in_words(plan, arm)}", flush=True)


def run(plan: StudyPlan, seeds: Sequence[int], stage: str | None = None) -> None:
    """Train all arms that are not refused, measure them, and remove the weights of what is measured."""
    names = [arm.name for arm in plan.study.arms.values() if not refusal(plan, arm)]
    tasks = [(name, seed) for seed in seeds for name in names]
    for name, seed in tasks:  # weights that are gone before they were measured are made again
        if not weights_file(plan, name, seed).exists() and not plan.path("measure", name, seed).exists():
            plan.path("run", name, seed).unlink(missing_ok=True)
    if stage != "measure":
        plan.run_all([(_run, *task) for task in tasks])
    if stage != "run":
        plan.run_all([(_truth,)])
        plan.run_all([(_measure, *task) for task in [*((START, seed) for seed in seeds), *tasks]
                      if task[0] == START or plan.path("run", *task).exists()])
        for task in tasks:
            if plan.path("measure", *task).exists():
                weights_file(plan, *task).unlink(missing_ok=True)


# what is chosen

def refusal(plan: StudyPlan, arm: PlannedArm) -> str:
    """Why an arm is not run; empty if it is."""
    if arm.kind == "reward" or not arm.terms:
        return ""
    rule, found = plan.study.rule, calibrations(plan, arm)
    heard = [part["listens"] for part in found if part["listens"] is not None]
    if arm.tokens and max(heard) < rule.listens:
        return (f"refused: the network does not listen to its tokens, swapped ones change its output by "
                f"{max(heard):.2%}, less than {rule.listens:.0%}")
    if arm.ladder == "strengths":
        if not open_rungs(plan, arm):
            least = min(part["cosines"][0] for part in found)
            return (f"refused: no weight gives any of the strengths {', '.join(map(str, plan.study.rungs(arm)))}, its "
                    f"own gradient has a cosine of {least:.4f} with the diffusion gradient")
        return ""
    pulls = [(Pull(part["batches"], part["mean"]), fixed_weights(arm)) for part in found]
    if all(each.same(weights, rule.same) for each, weights in pulls):
        cosines = [each.cosine(weights) for each, weights in pulls]
        return (f"refused: it cannot differ, its gradient has a cosine of {min(cosines):.6f} or more with that of its "
                f"baseline, above {rule.same}")
    return ""


def open_rungs(plan: StudyPlan, arm: PlannedArm) -> list[int]:
    """Rungs that can be run: all rates, and the strengths that some weight reaches at every checkpoint."""
    values = plan.study.rungs(arm)
    if arm.ladder != "strengths":
        return list(range(len(values)))
    pulls = [Pull(part["batches"], part["mean"]) for part in calibrations(plan, arm)]
    return [rung for rung, value in enumerate(values) if all(each.matched(value) is not None for each in pulls)]


def kept_rungs(plan: StudyPlan, arm: PlannedArm) -> list[int]:
    """Rungs that the first tuning seed does not rule out, the best first."""
    ladder = plan.study.ladder
    scores = {rung: tuned_score(plan, arm, rung, ladder.seeds[0]) for rung in open_rungs(plan, arm)}
    order = sorted(scores, key=lambda rung: -scores[rung])
    return [rung for rung in order[:ladder.kept] if scores[rung] >= scores[order[0]] - ladder.dropped]


def chosen_rung(plan: StudyPlan, arm: PlannedArm) -> int:
    """The rung with the best mean score over the tuning seeds, at equal scores the lower one; CourseError where the arm
    is not tuned yet."""
    means = {rung: np.mean([tuned_score(plan, arm, rung, seed) for seed in plan.study.ladder.seeds])
             for rung in sorted(kept_rungs(plan, arm))}
    return max(means, key=lambda rung: means[rung])


def tuned_score(plan: StudyPlan, arm: PlannedArm, rung: int, seed: int) -> float:
    """NED on validation words by the reader that chooses."""
    return part_of(plan, "tune", arm.name, rung, seed)[f"{arm.score}_ned"]


def setting(plan: StudyPlan, arm: PlannedArm, start: str, rung: int | None = None) -> dict[str, Any]:
    """``rate``, ``strength`` (None without), ``weights`` of the terms, the diffusion loss first, and the ``cosine`` of
    the gradient with the baseline's at a checkpoint.

    Args:
        rung: to try; None takes the chosen one.
    """
    value = None
    if arm.ladder != "none":
        value = plan.study.rungs(arm)[chosen_rung(plan, arm) if rung is None else rung]
    if arm.ladder == "rates":
        rate = value
    else:
        assert arm.baseline is not None
        baseline = plan.study.arms[arm.baseline]
        rate = plan.study.rungs(baseline)[chosen_rung(plan, baseline)]
    if arm.kind == "reward":
        return {"rate": rate, "strength": None, "weights": [], "cosine": None}
    part = part_of(plan, "calibrate", arm.name, start)
    each, weights = Pull(part["batches"], part["mean"]), fixed_weights(arm)
    if arm.ladder == "strengths":
        matched = each.matched(value)
        assert matched is not None
        weights = [1.0, *matched]
    return {"rate": rate, "strength": value if arm.ladder == "strengths" else None, "weights": weights,
            "cosine": each.cosine(weights)}


def chosen_in_words(plan: StudyPlan, arm: PlannedArm) -> str:
    """The chosen rung at the first checkpoint."""
    found = setting(plan, arm, next(iter(plan.study.starts)))
    parts = [f"rate {found['rate']:g}"]
    if found["strength"] is not None:
        parts.append(f"strength {found['strength']:g}")
    if len(found["weights"]) > 1:
        parts.append(f"weights {', '.join(f'{weight:.3g}' for weight in found['weights'][1:])}, cosine with the "
                     f"baseline's gradient {found['cosine']:.4f}")
    return ", ".join(parts)


def part_of(plan: StudyPlan, *name: Any) -> dict[str, Any]:
    """A stored result; CourseError if it is not there yet."""
    path = plan.path(*name)
    if not path.exists():
        raise CourseError(f"there is no {path.name} yet: run the stages in their order, {', '.join(STAGES)}")
    return json.loads(path.read_text(encoding="utf-8"))


def calibrations(plan: StudyPlan, arm: PlannedArm) -> list[dict[str, Any]]:
    """Results of ``_calibrate`` at every checkpoint."""
    return [part_of(plan, "calibrate", arm.name, start) for start in plan.study.starts]


# terms

def terms_of(plan: StudyPlan, arm: PlannedArm) -> list[Term]:
    """The terms of an arm at weight 1, the diffusion loss first."""
    made = [SIMPLE]
    for given in arm.terms:
        if given["name"] == "detected":
            made.append(Term("db", detected(load_network(detector_file(plan)))))
        elif given["name"] != "simple":
            made.append(make_term({**given, "weight": 1.0}))
    return made


def fixed_weights(arm: PlannedArm) -> list[float]:
    """The weights that the plan gives to the terms, the diffusion loss first; 1 where it gives none."""
    simple = [given.get("weight", 1.0) for given in arm.terms if given["name"] == "simple"]
    return [*(simple or [1.0]), *(given.get("weight", 1.0) for given in arm.terms if given["name"] != "simple")]


def module_of(plan: StudyPlan, arm: PlannedArm, seed: int, start: str, rate: float,
              weights: Sequence[float]) -> AnyText2Training:
    """A fresh copy of a checkpoint, ready to train as an arm says."""
    terms = [replace(term, weight=weight) for term, weight in zip(terms_of(plan, arm), weights, strict=True)]
    training = StraightPathTraining if arm.path == "straight" else AnyText2Training
    return build_module(replace(plan.profile, learning_rate=rate), seed, plan.device, terms, start, training, **OPTIONS)


def trained_parameters(module: AnyText2Training) -> dict[str, torch.Tensor]:
    """What is trained, by name."""
    return {name: p for group in module.trained.values() for name, p in group}


# tasks

def _words(plan: StudyPlan) -> tuple[dict, str]:
    """The words of all splits; CourseError if a word stands in two of them."""
    data = {"train": training_scenes(plan.profile), "validation": held_out_scenes(plan.profile, "validation"),
            "test": held_out_scenes(plan.profile)}
    found = {split: sorted({text.lower() for i in range(len(part)) for text in part[i].texts})
             for split, part in data.items()}
    require_disjoint(found)
    return found, ", ".join(f"{len(words)} words for {split}" for split, words in found.items())


def require_disjoint(words: Mapping[str, Sequence[str]]) -> None:
    """Raise CourseError if a word is in two of the splits."""
    names = list(words)
    for i, one in enumerate(names):
        for other in names[i + 1:]:
            if both := sorted(set(words[one]) & set(words[other])):
                raise CourseError(f"words of {one} are words of {other} as well: {', '.join(both[:5])}")


def detector_file(plan: StudyPlan) -> Path:
    return plan.folder / "detector.safetensors"


def _detector(plan: StudyPlan) -> tuple[dict, str]:
    """Train and save the DB detector; how well it finds validation words."""
    network, found = map_detector(plan.profile)
    save_network(network, detector_file(plan))
    return found, f"F {found['f']:.3f}, {found['cpu_seconds']:.0f} CPU seconds"


def _calibrate(plan: StudyPlan, arm_name: str, start: str) -> tuple[dict, str]:
    """Inner products of the gradients of an arm's terms, see ``Pull``; CPU seconds of a step, the shortest of some;
    how much the output changes when the scenes swap their tokens; cosines of the terms with the diffusion loss."""
    profile, arm = plan.profile, plan.study.arms[arm_name]
    short = replace(plan, profile=replace(profile, scenes=profile.calibration * profile.batch))
    terms = terms_of(plan, arm)
    module = module_of(short, arm, 0, start, profile.learning_rate, [1.0] * len(terms))
    batches = list(batches_of(training_scenes(profile), profile.batch, short.profile.scenes))
    steps = [functools.partial(noisy_step, module, batch.to(plan.device), i) for i, batch in enumerate(batches)]
    each = pull(steps, terms, list(trained_parameters(module).values()))
    module.objective.terms = {term.name: replace(term, weight=weight)
                              for term, weight in zip(terms, fixed_weights(arm), strict=True)}
    seconds = []
    for _ in range(profile.timed):
        begin = time.process_time()
        module.objective(steps[0]()).loss.backward()
        module.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - begin)
    alone = [each.cosine([float(j == i) for j in range(len(terms))]) for i in range(1, len(terms))]
    found = {"batches": each.batches, "mean": each.mean, "seconds": min(seconds), "cosines": alone,
             "listens": listening(module, batches[0].to(plan.device)) if arm.tokens else None}
    told = [f"cosine of {term.name} {value:.4f}" for term, value in zip(terms[1:], alone, strict=True)]
    return found, ", ".join([f"{min(seconds):.2f} s a step", *told])


@torch.no_grad()
def listening(module: AnyText2Training, batch: AnyTextBatch) -> float:
    """Root mean square change of the output, in parts of its own, when every scene gets the tokens of the next."""
    latents, told = module.encode(batch), module.conditions(batch)
    noise, times = draw_noise(0, 0, range(len(batch)), latents.shape[1:]), torch.full((len(batch),), 500)
    order = [*range(1, len(batch)), 0]
    swapped = replace(told, text_context=told.text_context[order], image_context=told.image_context[order],
                      image_mask=None if told.image_mask is None else told.image_mask[order])
    own, other = (module.predict(batch, latents, noise, times, conditions).output for conditions in (told, swapped))
    return float((own - other).square().mean().sqrt() / own.square().mean().sqrt())


def trained(plan: StudyPlan, arm: PlannedArm, seed: int, rung: int | None = None) -> tuple[AnyText2Training, dict]:
    """Train an arm from the seed's checkpoint, at a rung or at the chosen one; its settings, steps and CPU seconds."""
    profile, start = plan.profile, plan.study.start_of(seed)
    found = setting(plan, arm, start, rung)
    module = module_of(plan, arm, seed, start, found["rate"], found["weights"] or [1.0])
    begin, curve, steps = time.process_time(), [], profile.updates
    if arm.kind == "reward":
        curve = train_on_reward(replace(profile, reward_rate=found["rate"]), module, seed, module.model.reader)
    else:
        steps = steps_of(plan, arm, start)
        fit(profile, module, seed, plan.device, steps)
    return module.to(plan.device), {**found, "arm": arm.name, "seed": seed, "start": start, "steps": steps,
                                    "rewards": curve, "cpu_seconds": time.process_time() - begin}


def steps_of(plan: StudyPlan, arm: PlannedArm, start: str) -> int:
    """The profile's steps, or those that take as long as the profile's of another arm."""
    if arm.steps is None:
        return plan.profile.steps
    own, other = (part_of(plan, "calibrate", name, start)["seconds"] for name in (arm.name, arm.steps))
    return max(plan.profile.steps, round(plan.profile.steps * other / own))


def _tune(plan: StudyPlan, arm_name: str, rung: int, seed: int) -> tuple[dict, str]:
    """One rung with one tuning seed: scores on validation words."""
    module, found = trained(plan, plan.study.arms[arm_name], seed, rung)
    found |= scores_of(read_words(plan.profile, module.model, split="validation", seed=NOISE + seed), plan.profile)
    return found, f"NED {found['ppocrv4_ned']:.3f}, {found['cpu_seconds']:.0f} s"


def weights_file(plan: StudyPlan, arm_name: str, seed: int) -> Path:
    return plan.folder / "weights" / f"{arm_name}-{seed}.safetensors"


def _run(plan: StudyPlan, arm_name: str, seed: int) -> tuple[dict, str]:
    """One run: its settings and cost; the weights go into a file until they are measured."""
    module, found = trained(plan, plan.study.arms[arm_name], seed)
    with atomic_path(weights_file(plan, arm_name, seed)) as temporary:
        save_tensors({name: p.detach().cpu() for name, p in trained_parameters(module).items()}, temporary)
    return found, f"{found['steps']} steps, {found['cpu_seconds']:.0f} s"


class TargetProbes(Probes):
    """Probes whose sim is the error of what the network predicts."""

    def point(self, step: Step) -> Mapping[str, float]:
        return {**super().point(step), "sim": float((step.output - step.target).square().mean())}


def _measure(plan: StudyPlan, arm_name: str, seed: int) -> tuple[dict, str]:
    """What a run makes of the held-out words (readings, letters' colours, distance to true pictures), and its diffusion
    loss on the probes."""
    profile, begin = plan.profile, time.process_time()
    module = build_module(replace(profile, scenes=1), seed, plan.device, (SIMPLE,), plan.study.start_of(seed),
                          **OPTIONS)
    if arm_name != START:
        stored = load_file(weights_file(plan, arm_name, seed))
        for name, parameter in trained_parameters(module).items():
            parameter.data.copy_(stored[name])
    probes = TargetProbes(profile, plan.device)
    probes.measure(module, 0)
    pictures = list(written(profile, module.model, seed=NOISE + seed))
    watched = arm_name == START or plan.study.arms[arm_name].watched
    found = {"arm": arm_name, "seed": seed, **looked_at(plan, pictures, readers_of(plan, watched)),
             "sim": float(np.mean([point["sim"] for point in probes.curve]))}
    if seed == 0:
        found["pictures"] = picture_rows(arm_name, pictures, profile.pictures)
    found["measure_seconds"] = time.process_time() - begin
    return found, f"NED {np.mean([row['ppocrv4_ned'] for row in found['readings']]):.3f}"


def _truth(plan: StudyPlan) -> tuple[dict, str]:
    """The true pictures of the held-out words, measured as those of a run; and the same with noise on their latents."""
    data, model = held_out_scenes(plan.profile), _first_model(plan.profile.starts[0][1], plan.device)
    true = [(batch, batch.images) for batch in batches_of(data, 16, len(data))]
    with torch.no_grad():
        latents = [model.encode(images.to(plan.device)) for _, images in true]
        scale = torch.cat(latents).std()
        noisy = [z + SPECKLE * scale * draw_noise(OTHERS, i, range(len(z)), z.shape[1:]).to(z)
                 for i, z in enumerate(latents)]
        speckled = [(batch, model.decode(z).clamp(-1, 1)) for (batch, _), z in zip(true, noisy, strict=True)]
    found = {"arm": "truth", **looked_at(plan, true, readers_of(plan, True)),
             "speckled": looked_at(plan, speckled, {})["distance"],
             "pictures": picture_rows("truth", true, plan.profile.pictures)}
    return found, f"distance {found['distance'][0]:.4f}, with noise {found['speckled'][0]:.4f}"


def readers_of(plan: StudyPlan, watched: bool) -> dict[str, Any]:
    """The judges, the training recogniser, and for what is watched a judge of another lineage if one is installed."""
    third = [name for name in ("tesseract",) if watched and name in Judge.available()]
    return {name: Judge.from_name(name) for name in (*plan.profile.judges, *third)} | {
        "trainer": _first_model(plan.profile.starts[0][1], plan.device).reader}


@functools.cache
def _first_model(folder: str, device: str) -> AnyText2Model:
    """The model of the first checkpoint, for its auto-encoder and reader, which are not trained."""
    return AnyText2Model.from_pretrained(folder, device).eval()


@functools.cache
def _others(plan_words: int, style: str, folder: str, device: str) -> np.ndarray:
    """Features of other true pictures than those that are written, twice as many."""
    data, model = scenes(OTHERS, "test", 2 * plan_words, style, 1.0), _first_model(folder, device)
    return np.concatenate([features_of(model.encode, batch.images.to(device))
                           for batch in batches_of(data, 16, len(data))])


def looked_at(plan: StudyPlan, pictures: Sequence[tuple[AnyTextBatch, torch.Tensor]],
              readers: Mapping[str, Any]) -> dict[str, Any]:
    """``readings``: for each word its index, text, NED and reading by every reader, and the mean error of its letters'
    colour in grey levels (None where no letters stand out); ``distance`` to other true pictures with its error."""
    folder, rows, features = plan.profile.starts[0][1], [], []
    for batch, images in pictures:
        wanted, read = read_lines(images, batch, dict(readers))
        for i, (text, picture) in enumerate(zip(wanted, to_uint8(images.cpu()), strict=True)):
            seen = letters(picture, batch.lines.quads[i].numpy())
            error = None if seen is None else float(np.abs(seen.color - batch.colors[i].cpu().numpy()).mean())
            rows.append({"index": len(rows), "wanted": text, "color": error, **{
                key: value for name in readers
                for key, value in ((name, read[name][i]), (f"{name}_ned", edit_distance_score(read[name][i], text)))}})
        features.append(features_of(_first_model(folder, plan.device).encode, images.to(plan.device)))
    other = _others(plan.profile.words, plan.profile.style, folder, plan.device)
    return {"readings": rows, "distance": list(kernel_distance(np.concatenate(features), other))}
