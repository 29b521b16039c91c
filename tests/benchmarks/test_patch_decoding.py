"""What decoding for the OCR loss adds to a step of the official size: whole pictures against patches around lines.

Counted on the meta device at 512 x 512, batch 1, in float32, so any machine gives the same figures.  Run by
`make bench`.
"""

from __future__ import annotations

import pytest

from anytext_lib.experiments.patches import COUNTED, official_costs

pytestmark = pytest.mark.benchmark(group="decoding for the OCR loss, official size, counted")


def test_share_of_a_step(benchmark, capsys):
    networks, whole, *patches = benchmark.pedantic(official_costs, args=(COUNTED,), rounds=1)
    with capsys.disabled():
        print(f"\nUNet and WriteNet, forward and backward: {(networks['forward'] + networks['backward']) / 1e12:.2f} "
              f"TFLOP, {networks['gib']:.2f} GiB")
        print("| decoding | margin | background | lines | FLOPs | memory |\n|---|---|---|---|---|---|")
        for row in (whole, *patches):
            print(f"| {row['part']} | {row['margin']} | {row['background']:g} | {row['lines']} {row['size']} | "
                  f"+{row['share_flops']:.0%} | +{row['share_memory']:.0%} |")
    found = {(row["lines"], row["size"], row["margin"], row["background"]): row for row in patches}
    assert whole["share_flops"] > 2 and whole["share_memory"] > 1
    assert found[3, "usual", 2, 0.125]["share_flops"] < 0.6 and found[3, "usual", 2, 0.125]["share_memory"] < 0.25
    assert found[3, "small", 1, 0.0625]["share_flops"] < 0.35
