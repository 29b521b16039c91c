"""The official checkpoint: all of its names and shapes, and which of its parameters are trained."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from anytext_lib.models.freezing import Freezing, count, trainable_parameters
from anytext_lib.upstream.checkpoint import account_upstream, key_maps
from anytext_lib.upstream.convert import meta_model
from anytext_lib.upstream.keys import PARTS
from tests.golden.cases import golden_files

every_checkpoint = pytest.mark.parametrize("path", golden_files("checkpoint", "*_sd15_state_dict.json.gz"))
every_group = pytest.mark.parametrize("path", golden_files("checkpoint", "trainable_groups.json.gz"))
SWITCHES = {"sd_locked=True,unlockQKV=False": Freezing(), "sd_locked=True,unlockQKV=True": Freezing(unlock_qkv=True),
            "sd_locked=False,unlockQKV=False": Freezing(sd_locked=False),
            "sd_locked=False,unlockQKV=True": Freezing(sd_locked=False, unlock_qkv=True)}


def read(path: Path) -> dict:
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(scope="module")
def official():
    return meta_model("sd15")


@every_checkpoint
def test_every_tensor_is_accounted_for(path, official):
    golden = read(path)
    entries = {name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
               for name, shape, dtype in golden["tensors"]}
    account = account_upstream(entries, official, path.name)
    assert set(account.used) | set(account.unused) == set(entries)
    assert len(set(account.used.values())) == len(account.used) == len(entries) - len(account.unused)
    counts = golden["counts"]
    assert len(account.unused) == counts["(schedule buffers)"]["tensors"]
    assert account.sizes == {part: (counts[prefix.rstrip(".")]["tensors"], counts[prefix.rstrip(".")]["elements"])
                             for part, (prefix, _) in PARTS.items()}
    assert f"{len(entries)} tensors: {len(account.used)} used" in str(account)


@every_checkpoint
def test_every_name_comes_back(path, official):
    maps = key_maps(official)
    names = [name for name, _, _ in read(path)["tensors"]]
    for part, (prefix, _) in PARTS.items():
        own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        assert [maps[part].to_upstream(maps[part].to_ours(name)) for name in own] == own


@every_group
@pytest.mark.parametrize("switches", SWITCHES)
def test_trained_parameters(path, switches, official):
    golden, maps = read(path)[switches], key_maps(official)
    groups = trainable_parameters(official, SWITCHES[switches])
    names = [name for members in groups.values() for name, _ in members]
    assert len(names) == len(set(names)) == golden["unique"]
    assert sum(values for _, values in count(groups).values()) == golden["unique_params"]
    theirs = set()
    for name in names:
        part, _, rest = name.partition(".")
        theirs.add(PARTS[part].prefix + maps[part].to_upstream(rest))
    assert theirs == set(golden["names"])
