"""The exercises of notebook 03: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from anytext_lib.course.checks.nb03 import check_03_covering_mask, check_03_read_item, check_03_renormalised_loss
from tests.unit.exercise_tables import Exercise, exercise_tests


def renormalised(p, y, mask):
    visible = (1 - mask).expand_as(p)
    return (visible * (p - y) ** 2).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3)).clamp(min=1)


def renormalised_sample_by_sample(p, y, mask):
    losses = []
    for a, b, m in zip(p, y, mask, strict=True):
        seen = (a - b)[:, m[0] == 0]
        losses.append(seen.square().mean() if seen.numel() else seen.sum())
    return torch.stack(losses)


def renormalised_by_the_share(p, y, mask):
    plain, share = ((1 - mask) * (p - y) ** 2).mean((1, 2, 3)), 1 - mask.mean((1, 2, 3))
    return torch.where(share > 0, plain / share, 0.0)


def renormalised_with_a_tiny_number(p, y, mask):
    visible = 1 - mask
    return (visible * (p - y) ** 2).sum((1, 2, 3)) / (p.shape[1] * visible.sum((1, 2, 3)) + 1e-8)


def of_the_batch(p, y, mask):
    visible = (1 - mask).expand_as(p)
    return (visible * (p - y) ** 2).sum(dim=(1, 2, 3)) / visible.sum()


def channels_forgotten(p, y, mask):
    return ((1 - mask) * (p - y) ** 2).sum(dim=(1, 2, 3)) / (1 - mask).sum(dim=(1, 2, 3)).clamp(min=1)


def one_more_in_the_divisor(p, y, mask):
    visible = (1 - mask).expand_as(p)
    return (visible * (p - y) ** 2).sum(dim=(1, 2, 3)) / (visible.sum(dim=(1, 2, 3)) + 1)


def covering(mask, cell, margin):
    return F.max_pool2d(F.max_pool2d(mask, cell), 2 * margin + 1, stride=1, padding=margin)


def covering_by_convolution(mask, cell, margin):
    cells = F.unfold(mask, cell, stride=cell).amax(1).reshape(len(mask), 1, mask.shape[2] // cell, -1)
    window = torch.ones(1, 1, 2 * margin + 1, 2 * margin + 1)
    return (F.conv2d(cells, window, padding=margin) > 0).to(mask)


def covering_by_loops(mask, cell, margin):
    out = torch.zeros(len(mask), 1, mask.shape[2] // cell, mask.shape[3] // cell)
    for b, _, y, x in mask.nonzero().tolist():
        top, left = max(0, y // cell - margin), max(0, x // cell - margin)
        out[b, 0, top: y // cell + margin + 1, left: x // cell + margin + 1] = 1
    return out


def cross(mask, cell, margin):
    cells = F.max_pool2d(mask, cell)
    wide = 2 * margin + 1
    return torch.maximum(F.max_pool2d(cells, (1, wide), 1, (0, margin)), F.max_pool2d(cells, (wide, 1), 1, (margin, 0)))


def safe(item, draw, max_lines=5):
    order = draw.permutation(len(item["polygons"]))
    return order[:max_lines], item["invalid"] + [item["polygons"][i] for i in order[max_lines:]]


def safe_by_a_copy(item, draw, max_lines=5):
    order, invalid = draw.permutation(len(item["polygons"])), list(item["invalid"])
    invalid.extend(item["polygons"][i] for i in order[max_lines:])
    return order[:max_lines], invalid


def safe_by_unpacking(item, draw, max_lines=5):
    used, unused = np.split(draw.permutation(len(item["polygons"])), [max_lines])
    return used.tolist(), [*item["invalid"], *(item["polygons"][i] for i in unused)]


def growing(item, draw, max_lines):
    order = draw.permutation(len(item["polygons"]))
    invalid = item["invalid"]
    invalid += [item["polygons"][i] for i in order[max_lines:]]
    return order[:max_lines], invalid


def emptying(item, draw, max_lines):
    used, invalid = safe(item, draw, max_lines)
    item["invalid"] = []
    return used, invalid


def shared_when_all_fit(item, draw, max_lines):
    return safe(item, draw, max_lines) if len(item["polygons"]) > max_lines else (range(3), item["invalid"])


def forgetful(item, draw, max_lines):
    used, invalid = safe(item, draw, max_lines)
    return used, invalid[len(item["invalid"]):]


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_03_renormalised_loss, [renormalised, renormalised_sample_by_sample, renormalised_by_the_share,
                                          renormalised_with_a_tiny_number], [
        ("one value for each sample", lambda p, y, m: renormalised(p, y, m).mean()),
        ("gives NaN", lambda p, y, m: (renormalised(p, y, m) / (m.mean(dim=(1, 2, 3)) < 1))),
        ("mean over all elements", lambda p, y, m: ((1 - m) * (p - y) ** 2).mean(dim=(1, 2, 3))),
        ("by the number of channels", channels_forgotten),
        ("of the whole batch", of_the_batch),
        ("loss of the masked elements", lambda p, y, m: renormalised(p, y, 1 - m)),
        ("does not look at the mask", lambda p, y, m: (p - y).square().mean(dim=(1, 2, 3))),
        ("it should be", lambda p, y, m: 2 * renormalised(p, y, m)),
        ("Nearly: .* added to the divisor", one_more_in_the_divisor),
        ("renormalised_loss raises IndexError", lambda p, y, m: (p - y)[m == 0].square().mean()),
    ]),
    Exercise(check_03_covering_mask, [covering, covering_by_convolution, covering_by_loops], [
        ("size of the pixels", lambda m, c, k: F.max_pool2d(m, 2 * k + 1, stride=1, padding=k)),
        ("wanted is", lambda m, c, k: F.max_pool2d(m, 2 * c)),
        ("between 0 and 1", lambda m, c, k: F.avg_pool2d(m, c)),
        ("nearest interpolation", lambda m, c, k: F.interpolate(m, scale_factor=1 / c)),
        ("margin is missing", lambda m, c, k: F.max_pool2d(m, c)),
        ("pool with stride 1 and pad", lambda m, c, k: F.max_pool2d(F.max_pool2d(m, c), 2 * k + 1)),
        ("left unprotected", lambda m, c, k: -F.max_pool2d(-m, c)),
        ("Diagonal neighbours", cross),
        ("cells too many", lambda m, c, k: covering(m, c, k + 1)),
    ]),
    Exercise(check_03_read_item, [safe, safe_by_a_copy, safe_by_unpacking], [
        ("own list of invalid polygons has grown", growing),
        ("emptied or shortened", emptying),
        ("own invalid polygons are missing", forgetful),
        ("return the cached list itself", shared_when_all_fit),
        ("Return two things", lambda item, draw, n: safe(item, draw, n)[1]),
        ("come as a list, not a tuple", lambda item, draw, n: (safe(item, draw, n)[0], tuple(safe(item, draw, n)[1]))),
        ("draw.permutation", lambda item, draw, n: (range(n), safe(item, draw, n)[1])),
        ("yours has 8", lambda item, draw, n: (safe(item, draw, n)[0], item["invalid"] + item["polygons"])),
    ]),
)
