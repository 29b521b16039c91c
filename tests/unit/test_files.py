"""One writer for a folder, and errors of the operating system in plain words."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from anytext_lib.errors import AnyTextError
from anytext_lib.files import LOCK, FolderBusyError, OutputError, explained_output, folder_lock, require_writable

HOLDER = """
import sys, time
from anytext_lib.files import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A folder with spaces and an umlaut in its name that another process holds."""
    folder = tmp_path / "Ergebnisse für Müller"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.wait()


def test_the_other_process_is_named_and_its_death_frees_the_folder(held):
    folder, process = held
    with pytest.raises(FolderBusyError, match=f"für Müller is being written by .*process {process.pid} on .*wait for"):
        with folder_lock(folder):
            pytest.fail("two hold it")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with folder_lock(folder) as mine:
        assert mine == folder and (folder / LOCK).is_file()
    assert not list(folder.iterdir()), "nothing is left behind"


def test_a_folder_is_held_once_and_again_after(tmp_path):
    for _ in range(2):
        with folder_lock(tmp_path / "a" / "b"):
            with pytest.raises(AnyTextError, match="is being written by another program"):
                with folder_lock(tmp_path / "a" / "b", "another one"):
                    pass
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("number, told", [
    (errno.ENOSPC, "no room is left to write place: make room on that disk, or choose --out"),
    (errno.EROFS, "place must not be written"),
    (errno.EACCES, "choose --out, or change its permissions"),
    (errno.ENOTDIR, "place is in the way"),
])
def test_errors_of_the_system_are_explained(number, told):
    with pytest.raises(OutputError) as caught, explained_output("place", "--out"):
        raise OSError(number, os.strerror(number))
    assert told in str(caught.value) and not str(caught.value).startswith("[") and caught.value.errno == number


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), explained_output("place"):
        raise FileNotFoundError("no such thing")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="out is in the way"), folder_lock(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_is_tried_before_the_work(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="in the way.*choose another --out"):
        require_writable(tmp_path / "file" / "b", "another --out")
    with pytest.raises(OutputError, match="must not be written|cannot be written"):
        require_writable("/proc/no_such_folder")
