"""Damaged, foreign and cut files given to each command: one line that names the file and a remedy, exit status 2, and
nothing left behind."""
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.models.storage import CONFIG
from tests.unit.upstream_files import upstream_state

UNET = "unet/diffusion_pytorch_model.safetensors"
INFORMATION = ("Seed set to 0", "GPU available", "TPU available", "Restoring states from")  # Lightning's
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 99\n"


@pytest.fixture(scope="module")
def tiny() -> AnyText2Model:
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


@pytest.fixture(scope="module")
def stored(tiny, tmp_path_factory) -> Path:
    """The tiny model as a folder."""
    path = tmp_path_factory.mktemp("stored") / "model"
    tiny.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def upstream(tiny, tmp_path_factory) -> Path:
    """The tiny model as upstream's checkpoint."""
    path = tmp_path_factory.mktemp("upstream") / "tiny.ckpt"
    torch.save({"state_dict": upstream_state(tiny)}, path)
    return path


@pytest.fixture
def complaint(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder and returns what it says; the checks of the head of this file."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)

    def ask(*arguments) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line and not line.startswith(INFORMATION)]
        assert len(lines) == 1 and lines[0].startswith(f"anytext {arguments[0]}") and "wrote" not in said.out, said
        assert len(lines[0]) < 900 and list(empty.iterdir()) == []
        return lines[0]

    return ask


def fit(command: str = "fit", **options) -> list[str]:
    """A command line that would train one step, or validate."""
    data = str(data_folder() / "annotations.json")
    given = {"train": data, "val": data, "val_limit": 1, "max_steps": 1, "trainer.logger": "false", **options}
    return [command, "--config", "tiny.yaml", *(f"--{name}={value}" for name, value in given.items())]


# checkpoints in one file


def as_text(path):
    path.write_text("not a checkpoint\n", encoding="utf-8")


def as_pointer(path):
    path.write_text(POINTER, encoding="utf-8")


def as_page(path):
    path.write_text("<!DOCTYPE html><html>Sign in</html>", encoding="utf-8")


def as_nothing(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_short(path):
    path.write_bytes(path.read_bytes()[:400])


def flipped(path):
    """The directory of the zip is spoilt."""
    content = bytearray(path.read_bytes())
    content[-60:-20] = bytes(40)
    path.write_bytes(content)


def other_zip(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "<document/>")


def old_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps({"weights": 1}))


def code(path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "danger": print}, path)


def a_list(path):
    torch.save([torch.ones(1)], path)


FILES = [(as_text, "neither a checkpoint of PyTorch nor safetensors"), (as_pointer, "pointer of git-lfs.*git lfs pull"),
         (as_page, "neither a checkpoint .* a web page"), (as_nothing, "0 bytes.*fetch it again"),
         (cut, "damaged or cut off.*fetch it again"), (cut_short, "damaged or cut off.*fetch it again"),
         (flipped, "damaged or cut off.*fetch it again"), (other_zip, "damaged or cut off.*fetch it again"),
         (old_pickle, "format of before 2020.*torch.save"), (code, "Python objects besides tensors.*state_dict only"),
         (a_list, "holds a list, expected named tensors")]


@pytest.mark.parametrize("damage, message", FILES)
def test_a_damaged_file_for_convert_and_fit(upstream, tmp_path, complaint, damage, message):
    path = tmp_path / "bad.ckpt"
    shutil.copy(upstream, path)
    damage(path)
    for command in (("convert", path, "model", "--config=tiny"), ("convert", path, "--dry-run"),
                    fit(**{"model.model": path})):
        said = complaint(*command)
        assert "bad.ckpt" in said
        assert_matches(message, said)


STATES = [("missing", "lacks 1 tensors of the model.*incomplete"), ("too many", "1 unexpected tensors"),
          ("shape", "does not fit at .* it holds"), ("nan", "holds NaN or infinite values in .*damaged"),
          ("inf", "holds NaN or infinite values in .*damaged")]


def spoil(state: dict[str, torch.Tensor], kind: str, name: str) -> dict[str, torch.Tensor]:
    """A state dict with one fault at ``name``."""
    state = dict(state)
    if kind == "missing":
        del state[name]
    elif kind == "too many":
        state[f"{name}_extra"] = torch.ones(2)
    elif kind == "shape":
        state[name] = torch.ones(*state[name].shape, 2)
    else:
        state[name] = state[name].clone()
        state[name].view(-1)[-1] = float(kind)
    return state


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("kind, message", STATES)
def test_wrong_tensors_for_convert(tiny, tmp_path, complaint, kind, message, suffix):
    name, path = "model.diffusion_model.input_blocks.0.0.weight", tmp_path / f"bad{suffix}"
    state = {key: value.contiguous().clone() for key, value in spoil(upstream_state(tiny), kind, name).items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    said = complaint("convert", path, "model", "--config", "tiny")
    assert "bad" in said and name in said
    assert_matches(message, said)


# a model's folder


def no_config(root):
    (root / CONFIG).unlink()


def broken_config(root):
    (root / CONFIG).write_text('{"unet": ', encoding="utf-8")


def empty_config(root):
    (root / CONFIG).write_text("", encoding="utf-8")


def other_config(root):
    (root / CONFIG).write_text('{"_class_name": "UNet2DConditionModel"}', encoding="utf-8")


def changed(section, **values):
    def change(root):
        config = json.loads((root / CONFIG).read_text(encoding="utf-8"))
        config[section] = config[section] | values if values else 7
        (root / CONFIG).write_text(json.dumps(config), encoding="utf-8")

    change.__name__ = f"changed_{section}_{'_'.join(values)}"
    return change


def without_unet(root):
    (root / UNET).unlink()


def cut_unet(root):
    cut(root / UNET)


def text_unet(root):
    as_pointer(root / UNET)


def broken_header(root):
    content = bytearray((root / UNET).read_bytes())
    content[9:40] = b"x" * 31
    (root / UNET).write_bytes(content)


def huge_header(root):
    (root / UNET).write_bytes((2**62).to_bytes(8, "little") + b"{" + b"x" * 100)


def with_tensors(kind):
    def change(root):
        save_file(spoil(load_file(root / UNET), kind, "conv_in.weight"), root / UNET)

    change.__name__ = f"unet_{kind}"
    return change


FOLDERS = [(no_config, "anytext2.json is missing"), (broken_config, "cannot read the model's configuration"),
           (empty_config, "cannot read the model's configuration"), (other_config, "missing sections"),
           (changed("unet", block_out_channels=[7, 9]), "cannot be built|does not fit"),
           (changed("unet", no_such_entry=1), "no_such_entry"), (changed("vae"), "section vae holds a int"),
           (changed("vae", latent_channels="four"), "cannot be built|do not agree"),
           (changed("text_encoder", num_hidden_layers=9), "tensors are missing"),
           (changed("scheduler", beta_schedule="wild"), "wild"),
           (without_unet, "are missing: copy the whole folder again"), (cut_unet, "damaged or cut off"),
           (text_unet, "damaged or cut off"), (broken_header, "damaged or cut off"),
           (huge_header, "damaged or cut off"), (with_tensors("missing"), "1 tensors are missing .'conv_in.weight'"),
           (with_tensors("too many"), "1 are unknown"), (with_tensors("shape"), "does not fit at conv_in.weight"),
           (with_tensors("nan"), "NaN or infinite values in conv_in.weight"),
           (with_tensors("inf"), "NaN or infinite values in conv_in.weight")]


SLOW = [FOLDERS[i][0] for i in (0, 4, 11, 18)]


@pytest.mark.parametrize("damage, message", FOLDERS)
def test_a_damaged_folder_for_fit_validate_and_generate(stored, tmp_path, complaint, damage, message):
    root = tmp_path / "bad"
    shutil.copytree(stored, root)
    damage(root)
    commands = [("generate", "--model", root, "--prompt", 'a "Tea"', "--out", "out")]
    if damage in SLOW:  # fit and validate load a model by the same code, and take longer to start
        commands += [fit(model=root), fit("validate", model=root)]
    for command in commands:
        said = complaint(*command)
        assert str(root) in said
        assert_matches(message, said)


@pytest.mark.parametrize("damage", [no_config, broken_config, without_unet, cut_unet, with_tensors("nan"),
                                    with_tensors("missing"), with_tensors("too many"), with_tensors("shape")])
def test_a_damaged_folder_for_convert(stored, tmp_path, complaint, damage):
    root = tmp_path / "bad"
    shutil.copytree(stored, root)
    damage(root)
    said = complaint("convert", root, "upstream.ckpt")
    assert "bad" in said


# the state of a run


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    """The checkpoint of a run of one step."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(fit(runs=runs, val="null")) == 0
    return next((runs / "tiny" / "checkpoints").glob("*.ckpt"))


def edited(change):
    def damage(path):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


NAME = "model.unet.conv_in.weight"
RUNS = [
    ("text", as_text, "cannot be read as a checkpoint"), ("pointer", as_pointer, "cannot be read as a checkpoint"),
    ("empty", as_nothing, "cannot be read as a checkpoint"), ("cut", cut, "cannot be read as a checkpoint"),
    ("zip", other_zip, "cannot be read as a checkpoint"), ("code", code, "more than tensors and plain values"),
    ("foreign", a_list, "no state of a training run.*--model"),
    ("nan", edited(lambda c: c["state_dict"][NAME].view(-1)[0].fill_(float("nan"))), f"NaN .* in {NAME}.*an older one"),
    ("missing", edited(lambda c: c["state_dict"].pop(NAME)), "1 tensors are missing"),
    ("too many", edited(lambda c: c["state_dict"].update(more=torch.ones(1))), "1 unknown .'more'.*--model"),
    ("shape", edited(lambda c: c["state_dict"].update({NAME: torch.ones(2)})), f"another size: {NAME} is .2,."),
]


@pytest.mark.parametrize("damage, message", [pytest.param(*rest, id=name) for name, *rest in RUNS])
def test_a_damaged_state_of_a_run(state, tmp_path, complaint, damage, message):
    path = tmp_path / "step=0000001.ckpt"
    shutil.copy(state, path)
    damage(path)
    for command in ("fit", "validate") if damage is cut else ("fit",):
        assert_matches(message, complaint(*fit(command, ckpt_path=path, max_steps=2)))


def test_a_state_of_a_run_that_trained_other_parts(state, complaint):
    said = complaint(*fit(ckpt_path=state, max_steps=2, unlock_qkv="true"))
    assert_matches("the run that wrote the checkpoint trained .* freezing", said)


def test_no_such_file(complaint):
    for command in (fit(model="no/where.ckpt"), fit(ckpt_path="nowhere.ckpt"), ("convert", "nowhere.ckpt", "model"),
                    ("generate", "--model", "nowhere", "--prompt", 'a "b"'), ("db", "compare", "nowhere.safetensors")):
        assert "nowhere" in complaint(*command).replace("no/where", "nowhere")


# configurations


@pytest.mark.parametrize("text, message", [
    ("model: {loss_alpha: 1\n", "is no YAML.*line 2"), ("", "is empty"), ("- 1\n", "holds a list"),
    ("words\n", "holds a str"), ("\x00\x01", "is no YAML|cannot be read"),
    ("model: tiny\n", "model is tiny, but takes"),
    ("model: {loss_alhpa: 1}\n", "no option model.loss_alhpa; did you mean model.loss_alpha"),
    ("modle: {loss_alpha: 1}\n", "no option modle"), ("nmae: x\n", "no option nmae; did you mean name"),
    ("model: {loss_alpha: much}\n", "model.loss_alpha is much, but takes float"),
    ("trainer: {max_steps: [1]}\n", r"trainer.max_steps is \[1\], but takes int"),
    ("system: other\n", "the system 'other': choose anytext2 or udifftext"), (POINTER, "holds a str"),
])
def test_a_damaged_configuration(tmp_path, complaint, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    assert_matches(message, complaint(*fit(), "--config", path))


def test_a_configuration_that_is_no_text(tmp_path, complaint):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xfa")
    assert_matches("bad.yaml cannot be read.*text file in YAML", complaint(*fit(), "--config", tmp_path / "bad.yaml"))
    assert_matches("no configuration .*give a YAML file, or one of the package", complaint("fit", "--config", tmp_path))


@pytest.mark.parametrize("options, message", [
    ({"learning_rate": -1}, "learning_rate is a number of at least 0"), ({"ema": 2}, "lies between 0 and 1"),
    ({"loss_alpha": -1}, "must not be negative"), ({"min_timestep": 5000}, "is no timestep"),
    ({"val_timesteps": "[5000]"}, "val_timesteps 5000 is no timestep"), ({"save_ckpt_top": 0}, "save_ckpt_top"),
    ({"image_size": "[31,64]"}, "image_size .31, 64. does not suit the model"),
    ({"judge.judge": "nobody"}, "there is no judge"),
    ({"accelerator": "tpu"}, "an option of the trainer cannot be used"),
    ({"trainer.strategy": "nonsense"}, "option of the trainer .*nonsense"),
])
def test_options_that_cannot_be_used(complaint, options, message):
    assert_matches(message, complaint(*fit(**options)))


def assert_matches(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text
