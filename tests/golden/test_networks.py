"""WriteNet, the UNet, the text embedding and the windows of captions against upstream's, on small random networks.

Every zero-initialised layer of the stored networks holds random numbers, so that nothing is hidden.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anytext_lib.data.lines import TextLines
from anytext_lib.models import TextEmbedding, WriteNet, build_attnx_unet, set_attnx_scale
from anytext_lib.models.attnx import ControlResiduals
from anytext_lib.models.caption_encoder import place_lines, split_windows
from anytext_lib.models.text_embedding import glyph_crops
from anytext_lib.ocr import PPOCRv3Recognizer
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.upstream.keys import KeyMap
from tests.golden.cases import golden_files, load
from tests.golden.closeness import assert_close
from tests.golden.upstream_config import text_embedding_from_yaml, unet_from_yaml, writenet_from_yaml

every_io = pytest.mark.parametrize("path", golden_files("networks", "control_unet_io*.npz"))
every_embedding = pytest.mark.parametrize("path", golden_files("networks", "embedding_manager_io*.npz"))
every_split = pytest.mark.parametrize("path", golden_files("networks", "clip_split_chunks*.json"))

OUTPUT = {"rtol": 1e-4, "atol": 1e-4}
GRADIENT = 1e-3


def state_near(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The state dict ``name`` that belongs to the file of values ``path`` (same ending of the name), in float32."""
    ending = path.stem.removeprefix("control_unet_io").removeprefix("embedding_manager_io")
    return {key: value.float() for key, value in load_file(path.with_name(f"{name}{ending}.safetensors")).items()}


def from_upstream(part: str, state: dict[str, torch.Tensor], config=None) -> dict[str, torch.Tensor]:
    return KeyMap(part, config).state_to_ours(state)


def to_upstream(part: str, state: dict, config=None) -> dict:
    return KeyMap(part, config).state_to_upstream(state)


def tensors(case: dict[str, np.ndarray], *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(case[name]) for name in names]


def assert_norms(found: dict[str, torch.Tensor | None], expected: dict[str, float | None], rtol=GRADIENT) -> None:
    """Norms of gradients by upstream's names; None is "no gradient", and what is 0 but for rounding is not compared."""
    assert set(expected) <= set(found)
    floor = 1e-6 * max(value for value in expected.values() if value)
    for name, value in expected.items():
        own = 0.0 if found[name] is None else found[name].norm()
        assert_close(own, value or 0.0, rtol=rtol, atol=floor, what=name)


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def writenet(path: Path, meta: dict, **changes) -> WriteNet:
    state = state_near(path, "controlnet_tiny")
    if changes.get("glyph_scale") == 2:
        state = {name: value for name, value in state.items() if not name.startswith("glyph_block")}
        state |= state_near(path, "controlnet_tiny_glyphscale2_glyph_block")
    network = WriteNet(**(writenet_from_yaml(meta["cfg_control"]) | changes))
    network.load_state_dict(from_upstream("writenet", state, network.config))
    return network


def unet(path: Path, meta: dict):
    network = build_attnx_unet(unet_from_yaml(meta["cfg_unet"]))
    network.load_state_dict(from_upstream("unet", state_near(path, "unet_tiny"), network.config))
    return network


def control(network: WriteNet, case: dict[str, np.ndarray], text: torch.Tensor | None = None) -> ControlResiduals:
    """WriteNet's output on the stored hints: lines are summed, colours and lines collapsed to ink."""
    x, t, stored_text, masked = tensors(case, "x", "t", "text_ctx", "masked_x")
    glyphs, positions = tensors(case, "glyphs", "positions")
    ink = glyphs.sum(dim=(0, 2))[:, None]
    ink = torch.nn.functional.interpolate(ink, scale_factor=network.config.glyph_scale, mode="nearest")
    return network(ink, positions.sum(dim=0), masked, stored_text if text is None else text, x, t)


@lru_cache(maxsize=2)
def pair(path: Path):
    """Case, configuration, WriteNet, UNet and the control of the default case."""
    case, meta = load(path)
    network = writenet(path, meta)
    with torch.no_grad():
        return case, meta, network, unet(path, meta), control(network, case)


@every_io
@pytest.mark.parametrize(("name", "changes"), [("fast", {}), ("slow", {"fast_control": False}),
                                               ("fast_gs2", {"glyph_scale": 2})])
@torch.no_grad()
def test_writenet(path, name, changes):
    case, meta = load(path)
    expected = [case[key] for key in sorted((key for key in case if key.startswith(f"control_{name}_")
                                             and key.removeprefix(f"control_{name}_").isdigit()),
                                            key=lambda key: int(key.rpartition("_")[2]))]
    assert expected
    found = control(writenet(path, meta, **changes), case)
    assert len(expected) == len(found.down) + 1
    for own, stored in zip([*found.down, found.mid], expected, strict=True):
        assert_close(own, stored, **OUTPUT)


@every_io
@pytest.mark.parametrize(("name", "attnx_scale"), [("full", 1), ("attnx0.5", 0.5), ("attnx0", 0), ("midonly", 1),
                                                   ("nocontrol", 1), ("scaled0.7", 1)])
@torch.no_grad()
def test_unet(path, name, attnx_scale):
    case, _, _, network, added = pair(path)
    added = {"midonly": added.mid_only(), "nocontrol": ControlResiduals(None, None),
             "scaled0.7": added.scaled(0.7)}.get(name, added)
    set_attnx_scale(network, attnx_scale)
    try:
        found = network(*tensors(case, "x", "t", "img_ctx"), added.down, added.mid).sample
    finally:
        set_attnx_scale(network, 1)
    assert_close(found, case[f"unet_{name}"], **OUTPUT)


@every_io
def test_gradients(path):
    """Of mean(output^2), with the encoder of the UNet without gradient, as upstream trains."""
    case, meta, writer, network, _ = pair(path)
    x, t, image, text = tensors(case, "x", "t", "img_ctx", "text_ctx")
    image.requires_grad_(), text.requires_grad_()
    writer.zero_grad(), network.zero_grad()
    network.encoder_no_grad = True
    added = control(writer, case, text)
    network(x, t, image, added.down, added.mid).sample.square().mean().backward()
    assert_norms(to_upstream("unet", gradients(network), network.config), meta["unet_grad_norm"])
    assert_norms(to_upstream("writenet", gradients(writer), writer.config), meta["control_grad_norm"])
    for own, name in ((image.grad, "grad_img_ctx"), (text.grad, "grad_text_ctx")):
        largest = np.abs(case[name]).max()
        assert_close(own, case[name], rtol=GRADIENT, atol=GRADIENT * largest)


@lru_cache(maxsize=2)
def embedding(path: Path, **changes) -> tuple[dict, dict, TextEmbedding]:
    case, meta = load(path)
    network = TextEmbedding(**(text_embedding_from_yaml(meta["yaml"]) | changes))
    state = from_upstream("text_embedding", state_near(path, "embedding_manager_tiny_without_font_predictor"))
    recognizer = PPOCRv3Network.from_pretrained().state_dict()
    state |= {f"style_recognizer.{name}": value for name, value in recognizer.items()}
    network.load_state_dict(state)
    return case, meta, network.eval()


@lru_cache(maxsize=2)
def embedding_inputs(path: Path) -> dict:
    """Arguments of ``TextEmbedding``, lines of the first image first."""
    case, meta = load(path)
    rows = [(line, image) for image, count in enumerate(meta["n_lines"]) for line in range(count)]
    glyph_lines, positions, hints = (np.unpackbits(case[f"{name}_packed"], axis=-1)
                                     for name in ("gly_line", "positions", "font_hint"))
    glyph_lines, masks, colors = (np.stack([array[row] for row in rows])
                                  for array in (glyph_lines, positions, case["colors"]))
    lines = TextLines.from_masks(list(masks), [image for _, image in rows], ["?"] * len(rows), ["Latin"] * len(rows))
    with torch.no_grad():
        crops = glyph_crops(torch.from_numpy(glyph_lines)[:, None].float())
        features = PPOCRv3Recognizer.from_pretrained().features(crops)
    return {"lines": lines, "glyph_features": features, "positions": torch.from_numpy(masks)[:, None].float(),
            "font_hints": torch.from_numpy(hints)[:, None].float(), "colors": torch.from_numpy(colors) * 255}


@every_embedding
@torch.no_grad()
def test_embedding_parts(path):
    case, _, network = embedding(path)
    inputs = embedding_inputs(path)
    assert_close(inputs["glyph_features"], case["part_glyph_neck"], atol=5e-4)
    parts = network.parts(**inputs)
    for own, stored in {"glyph": "glyph", "position": "pos", "style": "style", "color": "color"}.items():
        assert_close(parts[own], case[f"part_{stored}"], **OUTPUT, what=own)
    assert_close(sum(parts.values()), case["out_default"], **OUTPUT)


@every_embedding
@torch.no_grad()
def test_embedding_leaves_out_what_is_missing(path):
    case, _, network = embedding(path, skip_missing=True)
    assert_close(network(**embedding_inputs(path)), case["out_enable_flag"], **OUTPUT)


@every_embedding
@torch.no_grad()
def test_embedding_of_a_style_seen_elsewhere(path):
    case, _, network = embedding(path)
    picture = torch.from_numpy(case["mimic_u8"]).float() / 255
    found = network(**embedding_inputs(path), style_images=[picture] + [None] * (len(case["out_mimic"]) - 1))
    assert_close(found, case["out_mimic"], **OUTPUT)


@every_embedding
def test_embedding_takes_the_place_of_the_placeholder(path):
    case, meta, _ = embedding(path)
    ids, tokens = tensors(case, "fwd_tokens", "fwd_emb_in_f16")
    tokens, new = tokens.float(), torch.from_numpy(case["out_default"])
    index = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor(meta["n_lines"]))
    found = place_lines(ids == 265, tokens, new, index)
    changed = (found != tokens).any(dim=-1).nonzero().tolist()
    assert changed == meta["changed_positions"]
    np.testing.assert_array_equal(found[ids == 265], new)


@every_embedding
def test_embedding_gradients(path):
    case, meta, network = embedding(path)
    if "grad_norm" not in meta:
        pytest.skip(f"{path.name} has no gradients")
    network.zero_grad()
    network(**embedding_inputs(path)).square().mean().backward()
    found = to_upstream("text_embedding", gradients(network))
    assert_norms(found, meta["grad_norm"], 3 * GRADIENT)  # through 40 layers


@every_split
def test_windows(path):
    for length, case in json.loads(path.read_text()).items():
        ids = torch.tensor(case["input"])
        assert split_windows(ids, 77, 49406, 49407).tolist() == case["chunks"], length
