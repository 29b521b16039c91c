"""The Arrow index: equal to the JSON, rebuilt when that changes, cheap to pickle, small in memory; streamed reading."""

import json
import os
import pickle
import re
import sys

import numpy as np
import psutil
import pytest

from anytext_lib.data import AnyWordError, read_anyword
from anytext_lib.data import index as index_module
from anytext_lib.data.anyword_stream import CHUNK, AnyWordStream, TruncatedError, find_data_root
from anytext_lib.data.index import AnyWordIndex, StaleIndexError, cache_folder, write_index
from anytext_lib.files import UnwritableError, data_folder
from tests.benchmarks.large_index import generated_images

LINE = {"polygon": [[1, 2], [30.25, 2], [30, 12]], "text": "绿茶 \"x\"", "language": "Chinese"}
ENTRIES = [
    {"img_name": "a.jpg"},
    {"img_name": "b.jpg", "caption": "Two lines.", "wm_score": 0.25, "annotations": [
        LINE, LINE | {"polygon": []}, LINE | {"valid": False, "color": [0, 128, 255], "text": ""}]},
    {"img_name": "sub/c.jpg", "annotations": [LINE | {"color": [500, 500, 500]}]},
]


def write(folder, entries=ENTRIES, name="data.json", **top):
    path = folder / name
    path.write_text(json.dumps({"data_root": "pictures", "data_list": entries} | top, ensure_ascii=False), "utf-8")
    return path


def same(a, b):
    np.testing.assert_equal([vars(x) | {"annotations": [vars(y) for y in x.annotations]} for x in a],
                            [vars(x) | {"annotations": [vars(y) for y in x.annotations]} for x in b])
    return True


@pytest.fixture
def told():
    return []


def test_equals_the_json(tmp_path, told):
    path = write(tmp_path)
    index = AnyWordIndex.open(path, report=told.append)
    assert same(index, read_anyword(path)) and len(index) == 3
    assert index.path == tmp_path / ".data.json.arrow" and "3 entries" in told[-1]
    assert index.name(2) == "sub/c.jpg" and index.stamp.lines == 3
    assert index[1].annotations[0].polygon.flags.owndata
    np.testing.assert_array_equal(index.wm_scores(), [np.nan, 0.25, np.nan])
    np.testing.assert_array_equal(index[::-1][1:].wm_scores(), [0.25, np.nan])


def test_equals_the_sample_set(tmp_path, told):
    path = data_folder() / "annotations.json"
    assert same(AnyWordIndex.open(path, cache=tmp_path, report=told.append), read_anyword(path))


def test_several_batches(tmp_path, monkeypatch, told):
    monkeypatch.setattr("anytext_lib.data.index.ROWS", 4)
    path = write(tmp_path, [{"img_name": f"{i}.jpg", "annotations": [LINE] * (i % 3)} for i in range(11)])
    index = AnyWordIndex.open(path, report=told.append)
    assert same(index, read_anyword(path))
    assert same([index[-1], index[-11]], [index[10], index[0]])
    assert [item.name for item in index[8:2:-2]] == ["8.jpg", "6.jpg", "4.jpg"]
    assert [item.name for item in index[2:9][1:3]] == ["3.jpg", "4.jpg"]
    with pytest.raises(IndexError):
        index[11]


def test_an_empty_set(tmp_path, told):
    assert list(AnyWordIndex.open(write(tmp_path, []), report=told.append)) == []


def test_opened_again_without_building(tmp_path, told):
    path = write(tmp_path)
    AnyWordIndex.open(path, report=told.append)
    told.clear()
    assert len(AnyWordIndex.open(path, report=told.append)) == 3 and told == []
    os.utime(path, ns=(1, 1))  # copied: another time, the same content
    assert len(AnyWordIndex.open(path, report=told.append)) == 3 and told == []
    AnyWordIndex.open(path, rebuild=True, report=told.append)
    assert len(told) == 1


@pytest.mark.parametrize("entries, reason", [
    (ENTRIES[:2], "has .* bytes, it had"),
    ([ENTRIES[0] | {"img_name": "z.jpg"}, *ENTRIES[1:]], "was changed after the index was built"),
])
def test_rebuilt_when_the_json_changes(tmp_path, told, entries, reason):
    path = write(tmp_path)
    AnyWordIndex.open(path, report=told.append)
    os.utime(write(tmp_path, entries), ns=(1, 1))
    index = AnyWordIndex.open(path, report=told.append)
    assert same(index, read_anyword(path))
    assert len(told) == 3 and re.search(rf"is out of date \(data\.json {reason}.*building it anew", told[1])


@pytest.mark.parametrize("content", [b"", b"no index", b"ARROW1\0\0" + bytes(64)])
def test_a_damaged_index_is_built_anew(tmp_path, told, content):
    path = write(tmp_path)
    (tmp_path / ".data.json.arrow").write_bytes(content)
    with pytest.raises(StaleIndexError, match="damaged or no index"):
        AnyWordIndex(tmp_path / ".data.json.arrow", tmp_path)
    assert len(AnyWordIndex.open(path, report=told.append)) == 3
    assert "damaged or no index" in told[0]


def test_a_missing_index_or_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="build it with `anytext data index`"):
        AnyWordIndex(tmp_path / "x.arrow", tmp_path)
    with pytest.raises(FileNotFoundError, match="no annotation file"):
        AnyWordIndex.open(tmp_path / "x.json")


def test_a_malformed_json_leaves_no_file(tmp_path, told):
    path = write(tmp_path, [*ENTRIES, {"img_name": 3}])
    with pytest.raises(AnyWordError, match=r"data_list\[3\]: img_name must be a string"):
        AnyWordIndex.open(path, report=told.append)
    assert [p.name for p in tmp_path.iterdir()] == ["data.json"]


def test_cache_folder_when_the_folder_cannot_be_written(tmp_path, monkeypatch, told):
    monkeypatch.setenv("ANYTEXT_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    path = write(tmp_path)
    (tmp_path / "file").touch()
    places = [tmp_path / "file" / "x.arrow", *index_module._places(path, None)[1:]]
    monkeypatch.setattr(index_module, "_places", lambda source, cache: places)
    index = AnyWordIndex.open(path, report=told.append)
    assert index.path.parent == tmp_path / "cache" and same(index, read_anyword(path))
    monkeypatch.setattr(index_module, "_places", lambda source, cache: places[:1])
    with pytest.raises(UnwritableError, match="set ANYTEXT_CACHE"):
        AnyWordIndex.open(path, report=told.append)


def test_a_share_is_drawn_by_seed_and_nested(tmp_path):
    write_index(generated_images(1000), tmp_path / "x.arrow")
    index = AnyWordIndex(tmp_path / "x.arrow", tmp_path)
    names = [[index.sample(p, seed).name(i) for i in range(round(1000 * p))] for p, seed in
             [(0.1, 0), (0.1, 0), (0.1, 1), (0.3, 0)]]
    assert names[0] == names[1] != names[2]
    assert set(names[0]) < set(names[3]) and names[0] == sorted(names[0])
    assert len({int(name[-8:-4]) // 100 for name in names[0]}) == 10  # from the whole file, not from its start
    assert index.sample(1.0) is index
    for percent in (0, 1.5):
        with pytest.raises(ValueError, match="percent is a share"):
            index.sample(percent)


def test_pickle_is_small_and_reopens(tmp_path):
    write_index(generated_images(20_000), tmp_path / "x.arrow")
    index = AnyWordIndex(tmp_path / "x.arrow", tmp_path)
    assert len(pickle.dumps(index)) < 1000
    part = index.sample(0.5, 3)[10:20]
    assert same(pickle.loads(pickle.dumps(part)), part)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which pages are mapped")
def test_pages_that_were_read_are_handed_back(tmp_path, monkeypatch):
    write_index(generated_images(20_000), tmp_path / "x.arrow")
    mapped = []
    for every in (4, 10**9):
        monkeypatch.setattr(index_module, "RELEASE_EVERY", every)
        index = AnyWordIndex(tmp_path / "x.arrow", tmp_path)
        for i in range(0, len(index), 50):
            index[i]
        mapped.append(sum(m.rss for m in psutil.Process().memory_maps() if m.path == str(index.path)))
        del index
    assert mapped[1] > 7e6 and mapped[0] < 2e6


def test_the_stream_reads_in_pieces(tmp_path, monkeypatch):
    path = write(tmp_path, ENTRIES * 20, extra={"a": [1, 2.5, None, True]}, number=12)
    for chunk in (7, 64, CHUNK):
        monkeypatch.setattr("anytext_lib.data.anyword_stream.CHUNK", chunk)
        stream = AnyWordStream(path)
        assert [row for _, row in stream] == ENTRIES * 20
        assert stream.data_root == "pictures" and stream.entries == 60 and len(stream.sha256) == 64


def test_data_root_after_the_list(tmp_path, told):
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data_list": ENTRIES, "data_root": "pictures"}), "utf-8")
    assert find_data_root(path) == "pictures"
    assert same(AnyWordIndex.open(path, report=told.append), read_anyword(path))


@pytest.mark.parametrize("content, message", [
    ("", "must be an object with data_root"),
    ("[]", "must be an object with data_root"),
    ('{"data_list": []}', "field data_root is missing"),
    ('{"data_root": "."}', "field data_list is missing"),
    ('{"data_root": 3, "data_list": []}', "data_root must be a string"),
    ('{"data_root": ".", "data_list": {}}', "data_list must be a list"),
    ('{"data_root": ".", "data_list": []} x', "something follows"),
    ('\ufeff{"data_root": "."}', "data_list is missing"),
    ('{"data_root": ".",\n"data_list": [{"img_name": "a.jpg"},\n{"img_name" "b.jpg", "caption": "long enough to be"}]}',
     r"line 3: malformed JSON in data_list\[1\] \(Expecting ':' delimiter, column 13\)"),
    ('{"data_root": ".", "data_list": [{"img_name": "a.jpg"} {"img_name": "b.jpg"}]}',
     r"comma must follow data_list\[0"),
])
def test_malformed_files(tmp_path, content, message):
    path = tmp_path / "data.json"
    path.write_text(content, "utf-8")
    with pytest.raises(AnyWordError, match=message):
        list(AnyWordStream(path))


def test_other_encodings(tmp_path):
    (tmp_path / "data.json").write_bytes('{"data_root": "Bücher", "data_list": []}'.encode("latin-1"))
    with pytest.raises(AnyWordError, match="not JSON in UTF-8"):
        list(AnyWordStream(tmp_path / "data.json"))


def test_every_truncation_is_recognised(tmp_path):
    content = json.dumps({"data_root": ".", "data_list": ENTRIES[:2]}, indent=0)
    path = tmp_path / "data.json"
    for end in range(1, len(content)):
        path.write_text(content[:end], "utf-8")
        with pytest.raises(TruncatedError, match="ends too soon .* restore it or download it again"):
            list(AnyWordStream(path))
