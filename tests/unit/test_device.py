"""The choice of the device."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.device import VARIABLE, pick_device


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    """No wish in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_taken_when_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device() == torch.device("cuda" if there else "cpu")
    assert pick_device("auto") == pick_device()


def test_the_environment_overrides_and_the_argument_overrides_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(VARIABLE, "cpu")
    assert pick_device().type == "cpu"
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv(VARIABLE, "")
    assert pick_device().type == "cuda"


def test_what_is_not_there_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(RuntimeError, match="'cuda' .from the environment variable ANYTEXT_DEVICE.*sees no CUDA GPU"):
        pick_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RuntimeError, match="there are 2 GPUs, numbered from 0"):
        pick_device("cuda:2")
    with pytest.raises(RuntimeError, match="Unknown device 'gpu' .from the argument.* Use cpu"):
        pick_device("gpu")
    with pytest.raises(RuntimeError, match="runs on cpu, cuda and mps"):
        pick_device("meta")
