"""Makes the virtual environment .venv of this repository and installs the course into it.

Usage: python3 .ci/setup.py        (what `make setup` does; only the standard library is used)
PYTHON=python3.12             the interpreter to build with (default: this one, or the first suitable one on PATH)
TORCH_INDEX_URL=https://...   a further package index, for example one with CPU builds of torch for Linux

A finished environment carries a stamp with a hash of the lock files and pyproject.toml; while it fits, nothing is done.
What pip prints goes to .setup.log, whose lock lets a second call wait. Python 3.6 can still read this file.
"""
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
SPACE = 3e9  # bytes; measured with the CPU build of torch on Linux: 2.4 GiB installed
PROBE = """
import importlib.util as u, json, sys
missing = [m for m in ("venv", "ensurepip", "ssl", "ctypes", "zlib", "sqlite3") if u.find_spec(m) is None]
print(json.dumps([sys.version_info[:3], sys.executable, ", ".join(missing)]))
"""
REASONS = (  # what pip's output shows, what it means, what to do
    (r"No space left|Errno 28", "the disk is full.", "free some space, or set TMPDIR to a folder on a larger disk"),
    ("DO NOT MATCH THE HASHES", "a downloaded package is not the file that was locked.", "check PIP_INDEX_URL"),
    (r"Proxy|SSLError|CERTIFICATE|name resolution|Connection|imed out|unreachable|refused|from versions: none",
     "no network: the package index could not be reached.", "check the network, HTTPS_PROXY and PIP_INDEX_URL"),
    ("", "a command failed.", "read the log"))


class Problem(Exception):
    """A reason why the set-up cannot go on, in words for the person at the keyboard."""


def probe(python):
    """(version, path, complaint) of an interpreter; the complaint is empty if it can be used."""
    try:
        version, path, missing = json.loads(subprocess.run(
            [str(python), "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30).stdout.decode())
    except (OSError, ValueError, subprocess.SubprocessError):
        return [], python, "does not run"
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        return version, path, f"version {'.'.join(map(str, version))} is outside 3.11 to 3.14"
    return version, path, missing and f"its standard library lacks {missing} (Debian: sudo apt install python3-venv)"


def choose_python(wanted=None):
    """The interpreter to build with, probed: `wanted` if given, else the first suitable one. Raises Problem."""
    names = [wanted] if wanted else [sys.executable, "python3", "python3.14", "python3.13", "python3.12", "python3.11"]
    found = [probe(name) for name in names]
    for each in filter(lambda each: not each[2], found):
        return each
    raise Problem("no suitable Python was found.\n" + "".join(f"  {path}: {what}\n" for _, path, what in found)
                  + "  What to do: install Python 3.11 to 3.14 (python.org, conda, brew, apt), or name one: "
                    "make course PYTHON=/path/to/python3.12")


class Environment:
    """The folder .venv of one repository; `log` is the open file that takes what pip says."""

    def __init__(self, root, log=None):
        self.root, self.log, self.folder = root, log, root / ".venv"
        self.stamp, self.python = self.folder / "anytext-setup.json", self.folder / "bin" / "python"

    def mark(self, state):
        """The stamp of `state`: a hash of all that decides what is installed, the path too (.venv cannot be moved)."""
        files = [(self.root / name).read_bytes() for name in (".ci/hashes.lock", "requirements.lock", "pyproject.toml")]
        key = hashlib.sha256(str(self.root).encode() + b"".join(files)).hexdigest()
        return json.dumps({"state": state, "key": key, "root": str(self.root)}, indent=1)

    def plan(self, wanted=None):
        """'ready', 'update' (same place, same Python, other requirements) or 'build'. Raises Problem."""
        text = self.stamp.read_text() if self.stamp.exists() else ""
        if self.folder.is_symlink() or not text and self.folder.exists() and any(self.folder.iterdir()):
            raise Problem(f"{self.folder} exists, but this script did not make it and will not touch it.\n"
                          "  What to do: move it away or delete it (rm -rf .venv), then run the same command again.")
        version, _, complaint = probe(self.python)
        here = f'"root": {json.dumps(str(self.root))}' in text and '"building"' not in text
        if complaint or not here or wanted and choose_python(wanted)[0][:2] != version[:2]:
            return "build"
        return "ready" if text == self.mark("complete") else "update"

    def run(self, title, *command):
        """Run one step; its output goes to the log, large downloads also to the screen. Raises Problem."""
        print("set-up: " + title, flush=True)
        lines, dropped = [], "PYTHON|VIRTUAL_ENV|PIP_(TARGET|PREFIX|USER)"
        kept = {name: value for name, value in os.environ.items() if not re.match(dropped, name)}
        process = subprocess.Popen(list(map(str, command)), env=kept, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
        for line in process.stdout:
            lines.append(line)
            self.log.write(line)
            if re.search(r"Downloading .* MB\)", line):
                print("  " + line.strip()[:100], flush=True)
        if process.wait():
            what, remedy = next(found[1:] for found in REASONS if re.search(found[0], "".join(lines)))
            tail = "".join("    " + line[:160] for line in lines[-5:])
            raise Problem(f"{what}\n  This failed: {title}.\n  What to do: {remedy}, then run the same command again."
                          f"\n  Last lines of its output:\n{tail}  Whole log: {self.log.name}")

    def install(self, state):
        """Install the lock file and the package itself, and import the large packages once. Raises Problem."""
        self.stamp.write_text(self.mark(state))
        self.log.truncate(0)
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--progress-bar=off"]
        further = ["--extra-index-url=" + url for url in [os.environ.get("TORCH_INDEX_URL")] if url]
        self.run("installing the pinned packages (at first 0.4 GB to download)", *pip, "--no-deps", "--require-hashes",
                 "-r", self.root / ".ci" / "hashes.lock")
        self.run("installing torch (at first 0.2 GB to download, more with CUDA)", *pip, "-r",
                 self.root / "requirements.lock", *further)
        self.run("installing the course itself", *pip, "--no-deps", "--no-build-isolation", "-e", self.root)
        self.run("trying the imports", self.python, "-c", "import torch, cv2, onnxruntime, diffusers, matplotlib")
        self.stamp.write_text(self.mark("complete"))

    def build(self, wanted=None):
        """Make the environment from nothing; where that fails, nothing is left. Raises Problem."""
        python, free = choose_python(wanted)[1], shutil.disk_usage(str(self.root)).free
        if free < SPACE:
            raise Problem(f"not enough disk space: {free / 1e9:.1f} GB free in {self.root}, 3 GB are needed.")
        shutil.rmtree(str(self.folder), ignore_errors=True)
        try:
            self.folder.mkdir()
            self.stamp.write_text(self.mark("building"))
            self.run("making .venv with " + python, python, "-m", "venv", self.folder)
            self.install("building")
        except BaseException:
            shutil.rmtree(str(self.folder), ignore_errors=True)
            raise


def main():
    environment, wanted = Environment(Path(__file__).resolve().parent.parent), os.environ.get("PYTHON")
    try:
        with (environment.root / ".setup.log").open("a", encoding="utf-8") as environment.log:
            fcntl.flock(environment.log, fcntl.LOCK_EX)
            plan = environment.plan(wanted)
            if plan != "ready":
                environment.build(wanted) if plan == "build" else environment.install("updating")
    except (Problem, OSError, KeyboardInterrupt) as error:
        print(f"\nset-up failed: {error or 'interrupted; the same command starts it again.'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
