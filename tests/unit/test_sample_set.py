"""The sample set: complete, unchanged, drawn again the same, and readable."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anytext_lib.data import AnyWordError, data_folder
from anytext_lib.errors import MissingFileError
from anytext_lib.files import find_sample
from anytext_lib.ocr import Judge, crop_lines
from anytext_lib.scenes import load_samples, scene_batch, verify_manifest
from anytext_lib.scenes import sample_set as module
from anytext_lib.scenes.sample_set import compare_with_renderer, main, sample_scenes


@pytest.fixture(scope="module")
def samples():
    return load_samples()


@pytest.fixture(scope="module")
def drawn():
    return sample_scenes()


@pytest.fixture
def drawn_once(drawn, monkeypatch):
    """Drawing all scenes takes seconds: do it once for this file."""
    monkeypatch.setattr(module, "sample_scenes", lambda: drawn)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(data_folder(), tmp_path / "copy")
    return tmp_path / "copy"


def test_the_set_is_48_pictures_with_all_kinds_of_lines(samples):
    assert len(samples) == 48
    assert all(scene.image.shape == (512, 512, 3) for scene in samples)
    lines = [line for scene in samples for line in scene.lines]
    assert {len(scene.lines) for scene in samples} == {1, 2, 3, 4, 5}
    assert {line.language for line in lines} == {"Latin", "Chinese"}
    assert sum(not line.valid for line in lines) >= 10 and all(scene.valid_lines for scene in samples)
    assert all(scene.caption for scene in samples)


def test_the_set_is_small():
    pictures = sum(path.stat().st_size for path in (data_folder() / "images").iterdir())
    assert pictures <= 6e6


def test_the_manifest_holds():
    assert verify_manifest() == []


def test_the_scenes_are_drawn_again_the_same(drawn_once):
    assert compare_with_renderer() == []


def test_manifest_names_missing_changed_and_unlisted_files(copy):
    (copy / "images" / "scene_00.jpg").unlink()
    (copy / "images" / "scene_01.jpg").write_bytes(b"x")
    (copy / "extra.txt").write_text("x")
    problems = {p.path: p.what for p in verify_manifest(copy)}
    assert "missing" in problems.pop("images/scene_00.jpg")
    assert "has changed (1 bytes" in problems.pop("images/scene_01.jpg")
    assert "not in the manifest" in problems.pop("extra.txt")
    assert problems == {}


def test_command_line_verifies(copy, capsys, drawn_once):
    assert main(["--verify", "--folder", str(copy)]) == 0
    rows = json.loads((copy / "annotations.json").read_text(encoding="utf-8"))
    rows["data_list"][2]["annotations"][0]["polygon"][0][0] += 1
    (copy / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["--verify", "--folder", str(copy)]) == 1
    printed = capsys.readouterr().out
    assert "annotations.json: has changed" in printed and "scene_02.jpg: polygons differ" in printed


def test_damaged_sets_are_explained(copy, tmp_path):
    (copy / "images" / "scene_05.jpg").write_bytes(b"not a picture")
    with pytest.raises(AnyWordError, match="scene_05.jpg cannot be read"):
        load_samples(copy)
    (copy / "images" / "scene_05.jpg").unlink()
    with pytest.raises(MissingFileError, match="scene_05.jpg is missing, but annotated"):
        load_samples(copy)
    with pytest.raises(MissingFileError, match="no annotations.json in"):
        load_samples(tmp_path)
    with pytest.raises(MissingFileError, match="no manifest.json in"):
        verify_manifest(tmp_path)


def test_an_independent_reader_reads_the_valid_lines(samples):
    """A person can read them if a recogniser can: at least 95% exactly, capitals and spaces included."""
    images, lines, _ = scene_batch(samples)
    read = Judge.from_name("ppocrv4").read(crop_lines(images, lines))
    wrong = [(text, got) for text, got in zip(lines.texts, read, strict=True) if text != got]
    assert len(lines) >= 100
    assert 1 - len(wrong) / len(lines) >= 0.95, wrong


def test_polygons_hold_ink(samples):
    """Pixels vary inside a valid polygon: the text is there."""
    for scene in samples:
        for line in scene.valid_lines:
            (left, top), (right, bottom) = np.floor(line.polygon.min(axis=0)), np.ceil(line.polygon.max(axis=0))
            patch = scene.image[int(top) : int(bottom), int(left) : int(right)]
            assert patch.astype(float).std(axis=(0, 1)).max() > 15, (scene.name, line.text)


def test_sample_data_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_sample("data_samples/annotations.json") == data_folder() / "annotations.json"
    assert find_sample("elsewhere/annotations.json") == Path("elsewhere/annotations.json")
    (tmp_path / "data_samples").mkdir()
    (tmp_path / "data_samples" / "own.json").touch()
    assert find_sample("data_samples/own.json") == Path("data_samples/own.json")
