"""A fresh text path: what is renewed, what stays, and why it tells dark from bright."""
import pytest
import torch

from anytext_lib.models import AnyText2Model
from anytext_lib.recipes import mini

FRESH = ("text_encoder.", "text_embedding.color_proj.")


@pytest.fixture(scope="module")
def old():
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


@pytest.fixture(scope="module")
def renewed(old):
    return mini.renew_text_path(old, window=12, seed=1)


def test_everything_else_stays(old, renewed):
    before, after = old.state_dict(), renewed.state_dict()
    assert before.keys() == after.keys()
    kept = [name for name in before if not name.startswith(FRESH)]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert renewed.captions.window == 12
    assert renewed.config["unet"] == old.config["unet"]


def test_the_seed_decides(old, renewed):
    again, other = (mini.renew_text_path(old, window=12, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(value, again[name]) for name, value in renewed.state_dict().items())
    assert not torch.equal(again["text_embedding.color_proj.0.weight"], other["text_embedding.color_proj.0.weight"])


def apart(projection):
    """Distance of black's and white's tokens, of the distance of black's and red's."""
    colors = torch.tensor([[10.0, 10, 10], [245, 245, 245], [220, 30, 30]])
    black, white, red = projection(colors)
    return float((black - white).norm() / (black - red).norm())


def test_black_and_white_become_different_tokens(renewed):
    torch.manual_seed(1)
    usual = mini.renew_text_path(renewed, window=12, seed=1).text_embedding.color_proj
    with torch.no_grad():
        usual[0].weight /= mini.COLOR_WEIGHT
        assert apart(usual) < 0.15
        assert apart(renewed.text_embedding.color_proj) > 0.5


def test_it_is_saved_with_its_window(renewed, tmp_path):
    renewed.save_pretrained(tmp_path / "model")
    again = AnyText2Model.from_pretrained(tmp_path / "model")
    assert again.captions.window == 12
    assert again.captions.encode_text_captions(["Text says it ."]).shape[1] == 12


def test_command(old, tmp_path):
    old.save_pretrained(tmp_path / "old")
    assert mini.main(["text_path", str(tmp_path / "old"), str(tmp_path / "new"), "--window", "10"]) == 0
    assert AnyText2Model.from_pretrained(tmp_path / "new").captions.window == 10


def test_bad_input(old):
    with pytest.raises(ValueError, match="window of 2 tokens"):
        mini.renew_text_path(old, window=2)
    config = {**old.config, "text_embedding": {**old.config["text_embedding"], "color": False}}
    with pytest.raises(ValueError, match="no colour"):
        mini.renew_text_path(AnyText2Model.from_config(config))
