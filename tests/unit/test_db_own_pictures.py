"""The detector on one's own pictures: label files, augmentation, polygons, `anytext db detect`."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.data.pictures import read_picture
from anytext_lib.db.augmentation import (
    Augmentation,
    draw_window,
    fit_window,
    flip_map,
    labelled_batches,
    move,
    move_points,
    resize_map,
    turn_map,
    whole_picture,
)
from anytext_lib.db.label_file import LabelFileError, LabelledPictures, label_row
from anytext_lib.db.labels import make_label_maps
from anytext_lib.db.outlines import find_polygons
from anytext_lib.scenes.rendering import Scene, SceneLine, render_scene

SIGN = np.array([[20.0, 30], [90, 22], [92, 48], [22, 58]])
SMALL = np.array([[100.0, 70], [130, 70], [130, 82], [100, 82]])


def scene_of(*polygons: np.ndarray, size: tuple[int, int] = (100, 160)) -> Scene:
    """White polygons on black: what the picture shows is where the polygons are."""
    image = np.zeros((*size, 3), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(image, [np.rint(polygon).astype(np.int32)], (255, 255, 255))
    return Scene(image, [SceneLine("text", "Latin", polygon, None, None) for polygon in polygons], "")


def overlap(scene: Scene) -> float:
    """Intersection over union of what a picture shows and of where its polygons are."""
    shown, told = scene.image[..., 0] > 127, np.zeros(scene.image.shape[:2], np.uint8)
    for line in scene.lines:
        cv2.fillPoly(told, [np.rint(line.polygon).astype(np.int32)], 1)
    return float((shown & (told > 0)).sum() / (shown | (told > 0)).sum())


def save_scenes(folder, count: int, size: int = 128) -> list[Scene]:
    """Rendered scenes as pictures with a label file."""
    scenes = [render_scene(300 + i, size) for i in range(count)]
    (folder / "img").mkdir()
    for i, scene in enumerate(scenes):
        Image.fromarray(scene.image).save(folder / "img" / f"{i}.png")
    rows = [label_row(f"img/{i}.png", [line.polygon for line in scene.lines],
                      [line.text if line.valid else "###" for line in scene.lines]) for i, scene in enumerate(scenes)]
    (folder / "labels.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return scenes


class TestLabelFiles:
    def test_what_was_written_is_read(self, tmp_path):
        scenes = save_scenes(tmp_path, 3)
        found = LabelledPictures.read(tmp_path / "labels.txt")
        assert len(found) == 3
        for own, scene in zip(found, scenes, strict=True):
            assert np.array_equal(own.image, scene.image)
            assert [line.valid for line in own.lines] == [line.valid for line in scene.lines]
            for one, other in zip(own.lines, scene.lines, strict=True):
                assert np.abs(one.polygon - other.polygon).max() <= 0.5

    def test_both_marks_for_what_is_not_to_be_learnt_and_a_root(self, tmp_path):
        texts = [{"transcription": text, "points": [[1, 2], [9, 2], [9, 8], [5, 9], [1, 8]]} for text in
                 ("*", "###", "Tea")]
        rows = f"a.png\t{json.dumps(texts)}"
        (tmp_path / "labels.txt").write_text("\ufeff" + rows + "\n\n", encoding="utf-8")
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (20, 10)).save(tmp_path / "photos" / "a.png")
        (scene,) = LabelledPictures.read(tmp_path / "labels.txt", tmp_path / "photos")
        assert [line.valid for line in scene.lines] == [False, False, True] and scene.lines[2].polygon.shape == (5, 2)

    def test_anyword_annotations_are_taken_as_well(self, tmp_path):
        Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
        lines = [{"polygon": SIGN.tolist(), "text": "Tea", "language": "Latin", "valid": False}]
        (tmp_path / "a.json").write_text(json.dumps({"data_root": ".", "data_list": [
            {"img_name": "a.png", "annotations": lines}]}))
        (scene,) = LabelledPictures.read(tmp_path / "a.json")
        assert not scene.lines[0].valid and np.array_equal(scene.lines[0].polygon, SIGN)

    @pytest.mark.parametrize("row, message", [
        ("a.png [no tab]", "line 2: there is no tab"), ("a.png\t[{]", "line 2: no JSON behind the tab"),
        ('a.png\t{"transcription": "a"}', "a list of texts is expected, got a dict"),
        ('a.png\t[{"points": [[1, 2], [3, 4], [5, 6]]}]', "text 0: a text is"),
        ('a.png\t[{"transcription": "Tea", "points": [[1, 2], [3, 4]]}]', "three or more"),
        ('a.png\t[{"transcription": "Tea", "points": [[1, 2], [3, 4], [5]]}]', "three or more"),
        ('a.png\t[{"transcription": "Tea", "points": [[1, 2], [3, 4], [5, NaN]]}]', "finite numbers")])
    def test_what_is_wrong_is_named(self, tmp_path, row, message):
        (tmp_path / "labels.txt").write_text(f"b.png\t[]\n{row}\n", encoding="utf-8")
        with pytest.raises(LabelFileError, match=message):
            LabelledPictures.read(tmp_path / "labels.txt")


class TestAugmentation:
    @pytest.mark.parametrize("matrix, point, wanted", [
        (flip_map(160), (0, 5), (159, 5)), (turn_map((101, 161), 90), (80, 0), (130, 50)),
        (resize_map((100, 160), (200, 80)), (-0.5, -0.5), (-0.5, -0.5)),
        (resize_map((100, 160), (200, 80)), (159.5, 99.5), (79.5, 199.5))])
    def test_maps_by_hand(self, matrix, point, wanted):
        np.testing.assert_allclose(move_points(np.array([point], float), matrix)[0], wanted, atol=1e-9)

    @pytest.mark.parametrize("matrix, size", [
        (flip_map(160), (100, 160)), (turn_map((100, 160), 10), (100, 160)), (turn_map((100, 160), -7), (100, 160)),
        (resize_map((100, 160), (250, 400)), (250, 400)), (resize_map((100, 160), (60, 96)), (60, 96))])
    def test_polygons_stay_on_what_is_shown(self, matrix, size):
        moved = move(scene_of(SIGN, SMALL), matrix, size)
        assert moved.image.shape[:2] == size and overlap(moved) > 0.9

    def test_a_window_cuts_no_text_and_holds_one(self):
        rng, polygons = np.random.default_rng(0), [SIGN, SMALL]
        seen = {draw_window(polygons, (100, 160), rng) for _ in range(60)}
        assert len(seen) > 20
        for left, top, width, height in seen:
            states = []
            for polygon in polygons:
                low, high = np.rint(polygon.min(axis=0)), np.rint(polygon.max(axis=0))
                inside = (low >= (left, top)).all() and (high <= (left + width, top + height)).all()
                outside = (high <= (left, top)).any() or (low >= (left + width, top + height)).any()
                assert inside or outside or (left, top, width, height) == (0, 0, 160, 100)
                states.append(inside)
            assert any(states)

    def test_a_picture_full_of_text_is_taken_whole(self):
        everywhere = np.array([[-5.0, -5], [200, -5], [200, 150], [-5, 150]])
        assert draw_window([everywhere], (100, 160), np.random.default_rng(0)) == (0, 0, 160, 100)
        assert draw_window([], (100, 160), np.random.default_rng(0)) == (0, 0, 160, 100)

    def test_a_window_is_fitted_and_what_lies_outside_is_dropped(self):
        cut = fit_window(scene_of(SIGN, SMALL), (10, 10, 88, 55), 64)
        assert cut.image.shape == (64, 64, 3) and len(cut.lines) == 1 and overlap(cut) > 0.9
        assert not cut.image[40:].any()  # 55 / 88 of the side, then black

    def test_a_whole_augmentation_keeps_pictures_and_polygons_together(self):
        scene, sizes = scene_of(SIGN, SMALL), []
        for i in range(20):
            made = Augmentation()(scene, 160, np.random.default_rng(i))
            assert made.image.shape == (160, 160, 3) and 1 <= len(made.lines) <= 2 and overlap(made) > 0.8
            sizes.append(np.ptp(made.lines[0].polygon[:, 0]))
        assert max(sizes) > 1.5 * min(sizes)
        again = Augmentation()(scene, 160, np.random.default_rng(19))
        assert np.array_equal(again.image, made.image)

    def test_batches_visit_every_picture_and_repeat_from_their_seed(self, tmp_path):
        save_scenes(tmp_path, 4, 64)
        pictures = LabelledPictures.read(tmp_path / "labels.txt")
        plain = list(labelled_batches(pictures, 2, 2, 64))
        wanted = {whole_picture(scene, 64).image.tobytes() for scene in pictures}
        found = torch.cat([batch.images for batch in plain]).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)
        assert {image.numpy().tobytes() for image in found} == wanted
        one, other, third = (next(iter(labelled_batches(pictures, 1, 2, 64, seed, Augmentation())))
                             for seed in (1, 1, 2))
        assert torch.equal(one.images, other.images) and not torch.equal(one.images, third.images)


class TestPolygons:
    arc = np.concatenate([np.c_[100 + 80 * np.cos(t := np.linspace(np.pi, 0, 12)), 110 - 80 * np.sin(t)],
                          np.c_[100 + 52 * np.cos(t[::-1]), 110 - 52 * np.sin(t[::-1])]])

    def test_a_bent_text_is_outlined_where_a_box_is_twice_as_large(self):
        from shapely.geometry import Polygon

        kernel = make_label_maps([self.arc], (130, 200)).shrink_map
        own, fits = Polygon(self.arc), {}
        for ratio in (None, 1.5):
            (found,) = find_polygons(kernel, unclip_ratio=ratio)
            outline = Polygon(found.polygon.numpy())
            fits[ratio] = own.intersection(outline).area / own.union(outline).area
        assert fits[None] > 0.85 > 0.7 > fits[1.5] > 0.5 and found.score > 0.9  # the rule gives long texts too little
        assert own.area / own.minimum_rotated_rectangle.area < 0.5

    def test_noise_faint_and_thin_kernels_are_left_out(self):
        maps = np.zeros((60, 100), np.float32)
        maps[10:30, 10:50], maps[40:42, 10:12], maps[40:55, 60:95] = 0.9, 0.9, 0.35
        assert len(find_polygons(maps)) == 1 and len(find_polygons(maps, min_score=0.3)) == 2
        with pytest.raises(ValueError, match="one map"):
            find_polygons(maps[None])


class TestCommands:
    @pytest.mark.filterwarnings("ignore::anytext_lib.db.labels.PiecesWarning")
    def test_own_pictures_are_learnt_scored_and_searched(self, tmp_path, capsys):
        save_scenes(tmp_path, 4)
        data, weights = ["--data", str(tmp_path / "labels.txt")], str(tmp_path / "db.safetensors")
        quick = ["--steps", "2", "--batch-size", "2", "--side", "64"]
        assert main(["db", "train", weights, *quick, *data, "--augment", "--preset", "dicefocal"]) == 0
        assert "4 pictures of" in capsys.readouterr().out
        assert main(["db", "train", weights, *quick, *data, "--start", weights]) == 0
        assert main(["db", "compare", weights, *data]) == 0
        assert capsys.readouterr().out.count(" mean IoU ") == 3
        assert main(["db", "detect", str(tmp_path / "img" / "0.png"), "--weights", weights, "--out", str(tmp_path),
                     "--side", "64", "--threshold", "0.2"]) == 0
        assert json.loads((tmp_path / "0_texts.json").read_text())["detector"] == weights

    @pytest.mark.parametrize("options", [[], ["--polygons"]])
    def test_pp_ocr_finds_the_texts_of_a_picture(self, tmp_path, capsys, options):
        from anytext_lib.db.box_score import score_boxes

        scene = render_scene(11, 512, invalid=0.0, effects=False)
        Image.fromarray(scene.image).save(tmp_path / "photo.png")
        out = tmp_path / "found"
        assert main(["db", "detect", str(tmp_path / "photo.png"), "--out", str(out), "--labels",
                     str(out / "labels.txt"), *options]) == 0
        told = json.loads((out / "photo_texts.json").read_text(encoding="utf-8"))
        assert (told["width"], told["height"], told["detector"]) == (512, 512, "PP-OCRv3")
        points = [row["points"] for row in told["texts"]]
        if not options:
            assert all(len(corners) == 4 for corners in points)
        score = score_boxes(points, [line.polygon for line in scene.lines])
        assert score.f > 0.7, score
        assert f"{len(points)} texts" in capsys.readouterr().out and all(0.5 <= row["score"] <= 1 for row in
                                                                       told["texts"])
        (own,) = LabelledPictures.read(out / "labels.txt")  # as found, to be corrected
        assert np.array_equal(own.image, scene.image) and len(own.lines) == len(points)
        assert all(np.abs(line.polygon - corners).max() <= 1 for line, corners in zip(own.lines, points, strict=True))
        drawn = read_picture(out / "photo_texts.png")
        changed = (drawn != scene.image).any(axis=2).mean()
        assert drawn.shape == scene.image.shape and 0.001 < changed < 0.2

    @pytest.mark.parametrize("arguments, message", [
        (["train", "OUT", "--augment"], "--augment goes with --data"),
        (["train", "OUT", "--data", "nowhere.txt"], "there are no labels nowhere.txt"),
        (["train", "OUT", "--data", "LABELS", "--side", "100"], "multiple of 32"),
        (["detect", "nowhere.png"], "nowhere.png"), (["detect", "LABELS"], "labels.txt"),
        (["detect", "a.png", "b/a.png"], "two pictures have one name"),
        (["detect", "a.png", "--threshold", "3"], "threshold is a probability")])
    def test_what_cannot_be_done_is_said(self, tmp_path, capsys, monkeypatch, arguments, message):
        (tmp_path / "labels.txt").write_text("a.png\t[]\n")
        monkeypatch.chdir(tmp_path)
        places = {"OUT": str(tmp_path / "db.safetensors"), "LABELS": str(tmp_path / "labels.txt")}
        assert main(["db", *(places.get(a, a) for a in arguments)]) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["labels.txt"]
