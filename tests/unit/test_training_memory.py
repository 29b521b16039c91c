"""The computed memory of a training step: exact where it can be counted by hand, and the table of the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.training import memory
from anytext_lib.training.memory import PLANS, LiveStorage, MemoryPlan, memory_row, training_memory

README = Path(__file__).parents[2] / "README.md"


def test_storage_is_counted_while_it_is_alive():
    with LiveStorage() as live:
        first = torch.empty(1000, device="meta")
        view = first[:500].reshape(5, 100)
        second = view + 1
        del first, view
        third = second.half()
    assert live.now == second.nbytes + third.nbytes == 3000
    assert live.most == 4000 + 2000


def test_a_chain_of_layers_keeps_what_its_backward_pass_needs():
    """Three frozen layers keep nothing but what their activation functions need; trained ones keep their inputs."""
    layers = torch.nn.Sequential(*(torch.nn.Linear(64, 64, bias=False, device="meta") for _ in range(3)))
    x = torch.empty(10, 64, device="meta", requires_grad=True)

    def kept(trained: bool) -> int:
        layers.requires_grad_(trained)
        with LiveStorage() as live:
            out = layers(x)
            return live.now - out.nbytes

    assert kept(trained=True) - kept(trained=False) == 2 * 10 * 64 * 4, "the inputs of the second and third layer"


def test_what_costs_more_and_what_less():
    plain = training_memory(MemoryPlan(size=(64, 64)), "tiny")
    assert plain.gradients == 4 * plain.trained and plain.optimizer == 2 * plain.gradients
    more = {"twice the pictures": MemoryPlan(size=(64, 64), batch=2), "larger": MemoryPlan(size=(128, 128)),
            "reading": MemoryPlan(size=(64, 64), reading=True)}
    assert all(training_memory(setting, "tiny").activations > plain.activations for setting in more.values())
    half = training_memory(MemoryPlan(size=(64, 64), frozen=torch.bfloat16), "tiny")
    assert half.activations < 0.8 * plain.activations and half.weights < plain.weights
    full = training_memory(MemoryPlan(rank=0, size=(64, 64)), "tiny")
    assert full.trained > 20 * plain.trained


@pytest.mark.parametrize("name", ["rank 8, batch 1", "rank 8, batch 4, frozen in bfloat16, checkpointing"])
def test_the_table_of_the_readme_is_what_is_computed(name):
    rows = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(PLANS) <= set(rows)
    assert memory_row(PLANS[name]) == rows[name].split(" | ")


def test_the_command_prints_a_row_for_each_plan(monkeypatch, capsys):
    monkeypatch.setattr(memory, "PLANS", {"small": MemoryPlan(size=(64, 64), rank=2)})
    monkeypatch.setattr(memory, "memory_row", lambda setting: memory_row(setting, "tiny"))
    assert main(["doctor", "--training-memory"]) == 0
    said = capsys.readouterr().out
    assert "| GiB, computed | weights |" in said and re.search(r"^\| small \| 0.0 .* 8, 12, 24 \|$", said, re.MULTILINE)
