"""OCR evaluation of a benchmark's pictures: 1,000 of them in at most three minutes on two cores.

Run by `make bench`, on a machine that does nothing else.  The sample set's pictures (512 x 512, 129 lines on 48 of
them) stand for the thousand: each is evaluated once, and the time is scaled.
"""

from __future__ import annotations

import time

import pytest
import torch

from anytext_lib.data import data_folder
from anytext_lib.evaluation import evaluate_ocr, open_reader

PICTURES, SECONDS = 1000, 180
pytestmark = pytest.mark.benchmark(group="OCR evaluation of 512 px pictures")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_thousand_pictures_take_three_minutes(benchmark, tmp_path, capsys):
    reader, rounds = open_reader("ppocrv4", threads=2), iter(range(10))
    results = []

    def evaluate() -> float:
        begin = time.perf_counter()
        results.append(evaluate_ocr(data_folder() / "annotations.json", None, tmp_path / str(next(rounds)),
                                    protocols=("anytext",), reader=reader, report=lambda message: None))
        return time.perf_counter() - begin

    seconds = benchmark.pedantic(evaluate, rounds=2, warmup_rounds=1)
    read, lines = results[-1]["pictures"]["read"], results[-1]["lines"]["read"]["upright"]
    scaled = benchmark.stats.stats.min * PICTURES / read
    with capsys.disabled():
        print(f"\n{read} pictures with {lines} lines in {seconds:.1f} s: {PICTURES:,} such pictures in {scaled:.0f} s, "
              f"{PICTURES * lines / read / scaled:.0f} lines a second")
    assert scaled <= SECONDS
