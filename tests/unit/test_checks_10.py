"""Checks of notebook 10: right answers pass, typical wrong ones get their hint."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex

import numpy as np
import pytest
from scipy import stats

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb10 import check_10_seeds_needed, check_10_sign_flips, check_10_static_gib
from anytext_lib.course.paths import notebooks_folder


def seeds(quantile=0.975, freedom=-1, factor=1.0, first=2):
    def seeds_needed(sd, half_width):
        return next(n for n in itertools.count(first)
                    if factor * stats.t.ppf(quantile, n + freedom) * sd / math.sqrt(n) <= half_width)
    return seeds_needed


def sign_flips(values, extreme=lambda total, seen: abs(total) >= abs(seen) - 1e-12):
    sums = [sum(s * v for s, v in zip(signs, values, strict=True))
            for signs in itertools.product((1, -1), repeat=len(values))]
    return float(np.mean([extreme(total, sum(values)) for total in sums]))


def test_solutions_pass(capsys):
    check_10_seeds_needed(seeds())
    check_10_sign_flips(sign_flips)
    check_10_static_gib(lambda total, trained, width: width * (total + 3 * trained) / 2**30)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_10_seeds_needed, check_10_sign_flips, check_10_static_gib])
def test_unsolved_copies_say_what_is_missing(check):
    with pytest.raises(NotYet, match="what .* returns is still missing"):
        check(lambda *_: None)


@pytest.mark.parametrize(("wrong", "hint"), [
    (seeds(0.95), "2.5%"),
    (seeds(freedom=0), "degrees of freedom"),
    (seeds(factor=2), "whole interval"),
    (lambda sd, h: max(2, math.ceil((1.959964 * sd / h) ** 2)), "standard deviation that is known"),
    (lambda sd, h: float(seeds()(sd, h)), "an int"),
    (lambda sd, h: 1, "one seed has no standard deviation"),
    (lambda sd, h: seeds()(sd, h) + 1, "fewer seeds are enough"),
    (lambda sd, h: 2, "still wider"),
])
def test_wrong_numbers_of_seeds_get_their_hint(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_10_seeds_needed(wrong)


@pytest.mark.parametrize(("wrong", "hint"), [
    (lambda v: sign_flips(v, lambda total, seen: abs(total) > abs(seen) + 1e-12), "count it"),
    (lambda v: sign_flips(v, lambda total, seen: total >= seen - 1e-12), "one direction only"),
    (lambda v: sign_flips(v, lambda total, seen: abs(total) < abs(seen) - 1e-12), "less extreme"),
    (lambda v: "0.1", "a share is wanted"),
    (lambda v: 0.777, "all 32 sign patterns"),
])
def test_wrong_sign_flips_get_their_hint(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_10_sign_flips(wrong)


@pytest.mark.parametrize(("wrong", "hint"), [
    (lambda n, k, w: w * (n + 3 * k) / 1e9, r"2\*\*30 bytes"),
    (lambda n, k, w: w * (n + 3 * k), "These are bytes"),
    (lambda n, k, w: w * 4 * n / 2**30, "Frozen weights have neither"),
    (lambda n, k, w: w * (n + 2 * k) / 2**30, "AdamW.s two numbers"),
    (lambda n, k, w: w * 4 * k / 2**30, "frozen weights must be there"),
    (lambda n, k, w: w * n / 2**30, "weights only"),
    (lambda n, k, w: 4 * (n + 3 * k) / 2**30, "width in bytes"),
    (lambda n, k, w: 7.0, "expected"),
])
def test_wrong_amounts_of_memory_get_their_hint(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_10_static_gib(wrong)


def shown_commands():
    """The commands in the notebook's bash blocks, split into words."""
    cells = json.loads((notebooks_folder() / "10_full_fine_tuning.ipynb").read_text(encoding="utf-8"))["cells"]
    blocks = [block for cell in cells if cell["cell_type"] == "markdown"
              for block in re.findall(r"```bash\n(.*?)```", "".join(cell["source"]), re.DOTALL)]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip() and not line.startswith("#")]


def test_commands_of_the_notebook_exist():
    from anytext_lib.cli import build_parser
    from anytext_lib.training.arguments import expand, find_config, option_names
    from anytext_lib.training.cli import SECTIONS

    found = shown_commands()
    assert {words[0] for words in found} == {"anytext", "torchrun"} and len(found) >= 5
    sections = {name: option_names(cls, ("seed",)) for name, cls in SECTIONS.items()}
    for words in found:
        arguments = words[words.index("anytext_lib.cli" if words[0] == "torchrun" else "anytext") + 1 :]
        if arguments[0] != "fit":
            build_parser(arguments[:1]).parse_args(arguments)
            continue
        options = [word for word in expand(arguments, sections) if word.startswith("--")]
        assert [o for o in options if "." not in o and o not in ("--config", "--grad_accum", "--ckpt_path")] == []
        assert find_config(arguments[arguments.index("--config") + 1]).is_file()
