"""The library's errors have one base, and the commands leave them, and everything else, to one place."""
import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import anytext_lib
from anytext_lib import cli
from anytext_lib.errors import AnyTextError

ROOT = Path(anytext_lib.__file__).parent
BROAD = {"Exception", "BaseException", "ValueError", "RuntimeError", "OSError", "KeyError", "TypeError"}


def modules() -> list[str]:
    return [found.name for found in pkgutil.walk_packages([str(ROOT)], "anytext_lib.")
            if not found.name.endswith("__main__")]


def test_every_error_of_the_library_has_the_one_base():
    found = {cls for name in modules() for cls in vars(importlib.import_module(name)).values()
             if inspect.isclass(cls) and issubclass(cls, BaseException) and not issubclass(cls, Warning)
             and cls.__module__.startswith("anytext_lib")}
    assert len(found) >= 27
    errors = [cls for cls in found if cls.__name__.endswith("Error")]
    assert [cls for cls in errors if not issubclass(cls, AnyTextError)] == []
    names = [cls.__name__ for cls in errors]
    assert sorted(names) == sorted(set(names))  # one name, one class


def commands() -> list[Path]:
    return [*sorted(ROOT.glob("*/command.py")), ROOT / "training" / "cli.py"]


@pytest.mark.parametrize("path", commands(), ids=lambda path: path.parent.name + "." + path.stem)
def test_commands_catch_no_broad_error(path):
    """What a command catches around its own work is at most an error with a name; a foreign error that it puts into
    words is caught around one call of that library."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(function, ast.FunctionDef) and function.name.startswith(("run", "main", "_guarded"))):
            continue
        for handler in (node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)):
            caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else \
                {"Exception"}
            assert not caught & BROAD, f"{path}:{handler.lineno} catches {sorted(caught & BROAD)}"


EVALUATE = ["evaluate", "ocr", "annotations.json", "pictures"]


class Told(AnyTextError, ValueError):
    exit_status = 1


def test_an_error_with_a_name_is_one_line_with_its_status_and_notes(monkeypatch, capsys):
    def fail(options):
        error = Told("the reason: the remedy")
        error.add_note("and where to look")
        raise error

    monkeypatch.setattr("anytext_lib.doctor.run_doctor", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "anytext doctor: the reason: the remedy\nand where to look\n"


@pytest.mark.parametrize("error", [ValueError, RuntimeError, OSError, KeyError, TypeError, FileNotFoundError])
@pytest.mark.parametrize("command, arguments", [
    ("doctor.run_doctor", ["doctor"]), ("datatools.command.run_data", ["data", "check", "x"]),
    ("upstream.command.run_convert", ["convert", "x", "y"]), ("db.command.run_db", ["db", "compare", "x"]),
    ("generation.command.run_generate", ["generate", "--prompt", "x"]), ("training.cli.run", ["fit"]),
    ("evaluation.command.run_evaluate", EVALUATE)])
def test_a_mistake_in_the_code_is_not_told_as_a_wrong_request(monkeypatch, command, arguments, error):
    def broken(*_):
        raise error("a mistake in the code")

    monkeypatch.setattr(f"anytext_lib.{command}", broken)
    with pytest.raises(error, match="a mistake in the code"):
        cli.main(arguments)


@pytest.mark.parametrize("wrapped", [
    lambda: KeyboardInterrupt(), lambda: chained(ImportError("initialization failed"), cause=True),
    lambda: chained(SystemExit(1), cause=False)])
def test_what_ctrl_c_became_in_a_library_is_an_interruption(monkeypatch, capsys, wrapped):
    """C++ modules turn a KeyboardInterrupt into an ImportError, Lightning into SystemExit."""
    def stop(options):
        raise wrapped()

    monkeypatch.setattr("anytext_lib.doctor.run_doctor", stop)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "anytext doctor: interrupted\n"


def chained(error: BaseException, cause: bool) -> BaseException:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as first:
            raise error from first if cause else None
    except BaseException as found:
        return found
