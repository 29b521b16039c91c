"""The exercises of notebook 13: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anytext_lib.course.checks.nb13 import check_13_choose_noise, check_13_refine_once, check_13_strict_sequence_loss
from tests.unit.exercise_tables import Exercise, exercise_tests


def choose_noise(noises, losses):
    return noises[losses.argmin(dim=0), torch.arange(noises.shape[1])]


def chosen_one_by_one(noises, losses):
    return torch.stack([noises[int(losses[:, b].argmin()), b] for b in range(noises.shape[1])])


def chosen_by_gather(noises, losses):
    best = losses.min(dim=0).indices.reshape(1, -1, 1, 1, 1).expand(1, *noises.shape[1:])
    return noises.gather(0, best)[0]


def chosen_by_a_tournament(noises, losses):
    best, lowest = noises[0].clone(), losses[0].clone()
    for noise, loss in zip(noises[1:], losses[1:], strict=True):
        better = loss < lowest
        best[better], lowest[better] = noise[better], loss[better]
    return best


NOISE = Exercise(check_13_choose_noise,
                 [choose_noise, chosen_one_by_one, chosen_by_gather, chosen_by_a_tournament], [
    ("nearest to 0", lambda n, s: choose_noise(n, s.abs())),
    ("whole batch", lambda n, s: n[s.mean(dim=1).argmin()]),
    ("single best loss", lambda n, s: n[s.min(dim=1).values.argmin()]),
    ("one noise for each sample", lambda n, s: n[s.argmin(dim=0)]),
    ("not the noises", lambda n, s: n[3]),
])


def refine_once(x, focus, step_size, scale=1.0, reduce=torch.sum):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(reduce(focus(leaf)), leaf)
    return x - scale * step_size * gradient


@torch.enable_grad()
def refined_by_backward(x, focus, step_size):
    leaf = x.clone().requires_grad_()
    focus(leaf).sum().backward()
    return (leaf - step_size * leaf.grad).detach()


def refined_sample_by_sample(x, focus, step_size):
    moved = []
    for i in range(len(x)):
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            pull = torch.autograd.grad(focus(leaf)[i], leaf)[0]
        moved.append(x[i] - step_size * pull[i])
    return torch.stack(moved)


def refined_by_func(x, focus, step_size):
    return x - step_size * torch.func.grad(lambda latents: focus(latents).sum())(x)


def with_graph(x, focus, step_size):
    with torch.enable_grad():
        leaf = x.requires_grad_(True)
        return leaf - step_size * torch.autograd.grad(focus(leaf).sum(), leaf)[0]


MOVE = Exercise(check_13_refine_once,
                [refine_once, refined_by_backward, refined_sample_by_sample, refined_by_func], [
    ("Nothing was moved", lambda x, f, a: x),
    (r"move \*up\*", lambda x, f, a: refine_once(x, f, a, scale=-1.0)),
    ("divided by the number", lambda x, f, a: refine_once(x, f, a, reduce=torch.mean)),
    ("step size is not used", lambda x, f, a: refine_once(x, f, 1.0)),
    ("each has its own", lambda x, f, a: x + (refine_once(x, f, a) - x).sum(dim=0)),
    ("hangs on the graph", with_graph),
    ("not x - step_size", lambda x, f, a: refine_once(x, f, a, scale=0.7)),
    ("shape of x", lambda x, f, a: f(x)),
    ("does not require grad|raises RuntimeError", lambda x, f, a: x - a * torch.autograd.grad(f(x).sum(), x)[0]),
])


def strict_sequence_loss(logits, ids):
    return torch.stack([F.cross_entropy(slots[: len(word) + 1], torch.tensor([*word, 0]))
                        for slots, word in zip(logits, ids, strict=True)])


def by_padding(logits, ids):
    slots = logits.shape[1]
    wanted = torch.tensor([[*word, 0, *[-100] * (slots - len(word) - 1)] for word in ids])
    each = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=-100)
    return each.sum(dim=1) / torch.tensor([len(word) + 1 for word in ids])


def written_out(logits, ids):
    losses = []
    for row, word in zip(logits.double().log_softmax(dim=-1), ids, strict=True):
        losses.append(-sum(row[k, c] for k, c in enumerate([*word, 0])) / (len(word) + 1))
    return torch.stack(losses)


def slots_loss(logits, ids, targets):
    return torch.stack([F.cross_entropy(row[: len(targets(word))], torch.tensor(targets(word)))
                        for row, word in zip(logits, ids, strict=True)])


def scaled(factor):
    return lambda z, ids: torch.stack([v * factor(len(w)) for v, w in
                                       zip(strict_sequence_loss(z, ids), ids, strict=True)])


SEQUENCE = Exercise(check_13_strict_sequence_loss, [strict_sequence_loss, by_padding, written_out], [
    ("upstream's loss", lambda z, ids: slots_loss(z, ids, list)),
    ("sum over the slots", scaled(lambda n: n + 1)),
    ("one slot too few", scaled(lambda n: (n + 1) / n)),
    ("behind the end", lambda z, ids: slots_loss(z, ids, lambda word: [*word, *[0] * (7 - len(word))])),
    ("clamp", lambda z, ids: strict_sequence_loss(z, ids).clamp(max=1)),
    ("one loss for each word", lambda z, ids: strict_sequence_loss(z, ids).mean()),
    ("No gradient", lambda z, ids: strict_sequence_loss(z.detach(), ids)),
    ("in place of", lambda z, ids: 2 * strict_sequence_loss(z, ids).square()),
])
test_right, test_wrong, test_no_answer = exercise_tests(NOISE, MOVE, SEQUENCE)
