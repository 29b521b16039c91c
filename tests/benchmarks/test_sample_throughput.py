"""Making samples: glyph images against upstream's search, one sample at 512 px with five lines, and two workers.

Run by `make bench`.  The goal is to draw the glyphs at least three times faster than a straightforward
re-implementation of upstream's search, at equal font sizes and an IoU of the pictures of at least .95.
"""

from __future__ import annotations

import statistics
import time
import warnings

import numpy as np
import pytest
from torch.utils.data import DataLoader

from anytext_lib.data import (
    AnnotatedImage,
    Annotation,
    AnyWordDataset,
    SampleConfig,
    build_sample,
    collate,
    draw_glyphs,
    render_glyph_line,
)
from anytext_lib.data.fonts import choose_font
from anytext_lib.data.glyphs import fit_size, fit_spaces, glyph_box, line_font_size
from anytext_lib.scenes import render_scene
from tests.unit.plain_glyphs import base_font, plain_glyphs, plain_line

LINES, SIZE, SCENES = 5, 512, 12
pytestmark = pytest.mark.benchmark(group="one sample of 512 px with 5 lines")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Scenes with five valid lines each, as JPEG files with annotations."""
    from PIL import Image

    folder, found, seed = tmp_path_factory.mktemp("scenes"), [], 0
    while len(found) < SCENES:
        scene = render_scene(seed, SIZE, n_lines=LINES, invalid=0.0)
        seed += 1
        if len(scene.lines) == LINES:
            path = folder / f"{seed}.jpg"
            Image.fromarray(scene.image).save(path, quality=93)
            lines = [Annotation(a.polygon, a.text, a.language, True, a.color) for a in scene.lines]
            found.append(AnnotatedImage(path, path.name, scene.caption, lines))
    return found


def line_jobs(record: AnnotatedImage):
    return [(a.text, choose_font(a.text, a.language), a.polygon, a.color) for a in record.annotations]


def ink(picture):
    return (picture[..., 0] > 0) | (picture[..., 1] > 0) | (picture[..., 2] > 0)


def fast_way(jobs):
    canvas = np.zeros((SIZE, SIZE, 3), np.uint8)
    for text, font, polygon, color in jobs:
        draw_glyphs(canvas, text, font, polygon, color)
    return ink(canvas), [render_glyph_line(text, font) for text, font, _, _ in jobs]


def slow_way(jobs, fonts):
    pictures = [plain_glyphs(fonts[font], text, polygon, color, 1, (SIZE, SIZE))[0]
                for text, font, polygon, color in jobs]
    lines = [plain_line(fonts[font], text)[0] for text, font, _, _ in jobs]
    return ink(np.sum(pictures, axis=0).clip(0, 1)), lines


def medians(calls: dict, rounds: int = 5) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, so that whatever else runs slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:  # the first turn warms up
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def test_glyphs_are_three_times_faster_at_equal_appearance(benchmark, records, capsys):
    jobs = [line_jobs(record) for record in records]
    fonts = {font: base_font(font) for job in jobs for _, font, _, _ in job}
    overlaps = []
    for job in jobs:
        for text, font, polygon, color in job:
            _, size, spaces = plain_glyphs(fonts[font], text, polygon, color, 1, (SIZE, SIZE))
            box = glyph_box(polygon)
            assert fit_size(text, font, box) == size
            assert (0 if box.vertical else fit_spaces(text, font, size, box)) == spaces
            assert line_font_size(text, font) == plain_line(fonts[font], text)[1]
        seen, wanted = fast_way(job)[0], slow_way(job, fonts)[0]
        overlaps.append((seen & wanted).sum() / (seen | wanted).sum())
    took = medians({"library": lambda: [fast_way(job) for job in jobs],
                    "upstream": lambda: [slow_way(job, fonts) for job in jobs]})
    benchmark.pedantic(lambda: None, rounds=1)
    lead = took["upstream"] / took["library"]
    with capsys.disabled():
        print("\n| glyphs of a sample, in place and alone | ms | times faster |\n|---|---|---|"
              f"\n| upstream's search | {took['upstream'] / SCENES:.1f} | 1.0 |"
              f"\n| library | {took['library'] / SCENES:.1f} | {lead:.1f} |"
              f"\nsmallest IoU {min(overlaps):.3f}; font sizes and spacing equal in all {SCENES * LINES} lines")
    assert min(overlaps) >= 0.95
    assert lead >= 3


@pytest.mark.parametrize("rand_font", [False, True])
def test_time_of_a_sample(benchmark, records, rand_font):
    data = AnyWordDataset(records, SampleConfig(rand_font=rand_font))
    turn = iter(range(10**9))
    benchmark.pedantic(lambda: data[next(turn) % SCENES], rounds=4 * SCENES, warmup_rounds=SCENES)


def test_time_of_a_sample_without_decoding(benchmark, records):
    image, config = np.full((SIZE, SIZE, 3), 127, np.uint8), SampleConfig()
    benchmark(lambda: build_sample(image, records[0], config, np.random.default_rng(0)))


def test_samples_per_second_with_two_workers(benchmark, records, capsys):
    loader = DataLoader(AnyWordDataset(records * 10, SampleConfig()), batch_size=4, num_workers=2, collate_fn=collate,
                        persistent_workers=True)

    def epoch() -> int:
        return sum(len(batch) for batch in loader)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        count = benchmark.pedantic(epoch, rounds=3, warmup_rounds=1)
    with capsys.disabled():
        print(f"\n{count / benchmark.stats.stats.median:.0f} samples/s in batches of 4 with 2 workers")
    assert count == 10 * SCENES
