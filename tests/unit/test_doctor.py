"""`anytext doctor`: all well here, and a remedy for each thing that is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import namedtuple
from importlib import metadata

import pytest
import torch

from anytext_lib import cli
from anytext_lib import doctor as module
from anytext_lib.device import VARIABLE
from anytext_lib.files import ENVIRONMENT


def report() -> tuple[int, str]:
    """(exit status, what the doctor said)."""
    lines = []
    status = module.doctor(lines.append)
    return status, "\n".join(lines)


@pytest.fixture(autouse=True)
def enough_room(monkeypatch):
    """Memory and disk as on a usual machine, and no wish for a device: the tests below take things away."""
    import psutil

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("M", "available total")(8 * 2**30, 16 * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("D", "total used free")(9e11, 1e11, 8e11))


def test_all_is_well_where_the_tests_run():
    status, said = report()
    assert status == 0 and "✗" not in said and "Everything that the course needs is here." in said
    for topic in ("Python", "torch", "device", "8.0 of 16.0 GiB free", "recogniser PP-OCRv3", "judge PP-OCRv4",
                  "sha256 897a3ededb38", "NotoSansSC", "as in the manifest", "tesseract", "oneDNN limit: ", "threads",
                  torch.backends.cpu.get_cpu_capability()):
        assert topic in said


def without(monkeypatch, package):
    """Hide an installed package."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))


def no_version(monkeypatch):
    """Hide the version of papermill."""
    real = metadata.version

    def version(name):
        if name == "papermill":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)


FAULTS = {
    "python": (lambda m: m.setattr(sys, "version_info", (3, 10, 1)), "use Python 3.11 to 3.14"),
    "package": (no_version, "make course"),
    "weights": (lambda m: without(m, "rapidocr_onnxruntime"), "make course"),
    "device": (lambda m: m.setenv(VARIABLE, "cuda:99"), "unset ANYTEXT_DEVICE"),
    "disk": (lambda m: m.setattr(shutil, "disk_usage", lambda _: namedtuple("D", "free")(5e8)), "make room"),
    "data": (lambda m: m.setenv(ENVIRONMENT, "/nowhere"), "restore the folder data_samples"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_is_named_with_its_remedy(monkeypatch, fault):
    spoil, remedy = FAULTS[fault]
    spoil(monkeypatch)
    status, said = report()
    assert status == 1 and "✗" in said
    assert f"What to do: {remedy}" in said or remedy in said.split("What to do:", 1)[1]


def test_little_memory_is_reported(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("M", "available total")(2**30, 2**31))
    status, said = report()
    assert status == 1 and "1.0 of 2.0 GiB free" in said and "close other programs" in said


def test_changed_sample_data_are_reported(monkeypatch):
    monkeypatch.setattr("anytext_lib.scenes.sample_set.verify_manifest", lambda: ["scene_01.png: has changed"])
    status, said = report()
    assert status == 1 and "scene_01.png: has changed" in said and "git checkout -- data_samples" in said


def test_tesseract_is_not_needed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    status, said = report()
    assert status == 0 and "optional" in said


def test_json_holds_the_machine_and_every_finding(capsys, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True and set(report) == {"ok", "machine", "findings"}
    machine = report["machine"]
    assert machine["instructions"] == torch.backends.cpu.get_cpu_capability() and machine["onednn_limit"] == "AVX2"
    assert machine["threads"] == torch.get_num_threads() and machine["cpu"] and machine["device"]
    assert all(set(found) == {"topic", "ok", "text", "remedy"} for found in report["findings"])
    assert {"topic": "instructions", "ok": True, "remedy": None,
            "text": f"{machine['instructions']} (PyTorch), oneDNN limit: AVX2"} in report["findings"]


@pytest.mark.parametrize("fault", FAULTS)
def test_json_says_what_is_missing(monkeypatch, capsys, fault):
    FAULTS[fault][0](monkeypatch)
    assert cli.main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False and [found for found in report["findings"] if found["remedy"] and not found["ok"]]
    assert (report["machine"] is None) == (fault == "device")
