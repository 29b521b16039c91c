"""Makes the virtual environment .venv of this repository and installs the course into it.

Usage: python3 .ci/setup.py        (what `make setup` does; only the standard library is used)

PYTHON=python3.12             the interpreter to build with (default: this one, or the first suitable one on PATH)
TORCH_INDEX_URL=https://...   a further package index, for example one with CPU builds of torch for Linux

A finished environment carries a stamp with a hash of requirements.lock and pyproject.toml. While the stamp fits, a call
returns at once and needs no network. When one of the two files changes, the environment is brought up to date in place.
Everything pip prints goes to .setup.log. The code is kept readable for Python 3.6, so that an interpreter that is too
old can still say so.
"""
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 2 ** 30
# Measured with the CPU build of torch on Linux: 0.6 GiB of downloads, 2.3 GiB installed.
# The CUDA build alone downloads 0.5 GiB and then asks for NVIDIA's libraries: several GiB (a precaution, not measured).
SPACE_CPU, SPACE_CUDA = 3 * GIB, 9 * GIB
HEARTBEAT = 30  # seconds without a finished step after which one line says what pip is doing
STAMP = "anytext-setup.json"
PROBE = """
import importlib.util as u, json, sys
missing = [m for m in ("venv", "ensurepip", "ssl", "ctypes", "zlib", "sqlite3") if u.find_spec(m) is None]
print(json.dumps({"version": list(sys.version_info[:3]), "executable": sys.executable, "missing": missing}))
"""
TRIAL = "import torch, cv2, onnxruntime, diffusers, matplotlib; print('torch', torch.__version__)"


class Problem(Exception):
    """A reason why the set-up cannot go on, in words for the person at the keyboard."""


class Steps:
    """Prints one line a step with the seconds since the start, and keeps the log of what the commands print."""

    def __init__(self, log):
        self.log = Path(log)
        self.start = time.monotonic()
        self.log.write_text("", encoding="utf-8")

    def say(self, text):
        print("set-up [{:4.0f} s] {}".format(time.monotonic() - self.start, text), flush=True)

    def run(self, command, env, beat=HEARTBEAT):
        """Run a command, append its output to the log, and return (exit status, lines)."""
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
        pipe = queue.Queue()
        threading.Thread(target=_feed, args=(process.stdout, pipe), daemon=True).start()
        lines, spoken = [], time.monotonic()
        with self.log.open("a", encoding="utf-8") as log:
            log.write("$ {}\n".format(" ".join(map(str, command))))
            while True:
                try:
                    line = pipe.get(timeout=1)
                except queue.Empty:
                    line = ""
                if line is None:
                    break
                if line:
                    log.write(line)
                    log.flush()
                    lines.append(line.rstrip())
                if time.monotonic() - spoken > beat and lines:
                    self.say("  still working: " + _doing(lines))
                    spoken = time.monotonic()
        process.stdout.close()
        return process.wait(), lines


def _doing(lines):
    """The last line of pip's that says what it is at, shortened."""
    telling = [line.strip() for line in lines if re.match(r"\s*(Collecting|Downloading|Installing) ", line)]
    if not telling:
        return lines[-1].strip()[:80]
    return "unpacking what was downloaded" if telling[-1].startswith("Inst") else telling[-1].split(" (from ")[0][:80]


def _feed(stream, pipe):
    for line in stream:
        pipe.put(line)
    pipe.put(None)


# --- which Python ----------------------------------------------------------------------------------------------------

def dotted(version):
    return ".".join(map(str, version))


def probe(python):
    """Ask an interpreter for its version, its path and the standard modules it lacks; None if it does not run."""
    try:
        answer = subprocess.run([str(python), "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                stdin=subprocess.DEVNULL, timeout=30, encoding="utf-8")
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return dict(found, version=tuple(found["version"]))


def complaint(found):
    """What is wrong with a probed interpreter, or an empty string."""
    if not OLDEST <= found["version"][:2] <= NEWEST:
        return "version {} is outside {} to {}".format(dotted(found["version"]), dotted(OLDEST), dotted(NEWEST))
    if found["missing"]:
        return "its standard library lacks " + ", ".join(found["missing"])
    return ""


def choose_python(wanted=None, ask=probe, candidates=None):
    """The interpreter to build with: `wanted` if given, else the first suitable candidate. Raises Problem."""
    names = [wanted] if wanted else candidates or [sys.executable, "python3", "python3.13", "python3.12", "python3.11"]
    looked_at, lacking = [], []
    for name in names:
        found = ask(name)
        if found is None:
            looked_at.append("{}: does not run".format(name))
            continue
        if not complaint(found):
            return found
        looked_at.append("{}: {}".format(found["executable"], complaint(found)))
        if OLDEST <= found["version"][:2] <= NEWEST:
            lacking.append(found)
    raise Problem("no suitable Python was found.\n{}\n{}".format(
        "\n".join("  " + row for row in dict.fromkeys(looked_at)), _how_to_get_python(lacking)))


def _how_to_get_python(lacking):
    if lacking:
        version = dotted(lacking[0]["version"][:2])
        return ("  What to do: install the missing part. On Debian and Ubuntu: sudo apt install python{0}-venv\n"
                "  (for a Python built from source or by pyenv: install the development packages, then rebuild it)."
                .format(version))
    return ("  What to do: install Python 3.11, 3.12 or 3.13 (Debian, Ubuntu: sudo apt install python3 python3-venv;\n"
            "  macOS: brew install python@3.12; anywhere: conda create -n py312 python=3.12, or python.org),\n"
            "  or name one that is installed: make course PYTHON=/path/to/python3.12")


# --- space -----------------------------------------------------------------------------------------------------------

def check_space(folder, env, free=None, platform=sys.platform):
    """Raise Problem where the course cannot fit; return a remark where a CUDA build of torch might not."""
    free = shutil.disk_usage(str(folder)).free if free is None else free
    have = "{:.1f} GB free".format(free / GIB)
    if free < SPACE_CPU:
        raise Problem("not enough disk space: {} in {}, and the environment needs about {:.0f} GB while it is "
                      "installed (2.3 GB stay).\n  What to do: free some space, or put the repository on a larger disk."
                      .format(have, folder, SPACE_CPU / GIB))
    if platform.startswith("linux") and not env.get("TORCH_INDEX_URL") and free < SPACE_CUDA:
        return have + "; a CUDA build of torch may need {:.0f} GB: README, 'CPU only', says how to avoid it".format(
            SPACE_CUDA / GIB)
    return have


# --- what pip's failures mean ----------------------------------------------------------------------------------------

FAILURES = [
    (r"No space left on device|Errno 28",
     "the disk is full (the repository's, or the one of the temporary folder {tmp}).",
     "free some space, or set TMPDIR to a folder on a larger disk; then run the same command again."),
    (r"name resolution|Name or service not known|nodename nor servname|getaddrinfo failed|NameResolutionError",
     "no network: the name of the package index could not be resolved.",
     "connect to the network (or set HTTPS_PROXY, or PIP_INDEX_URL to a mirror); then run the same command again."),
    (r"ProxyError|Cannot connect to proxy|Tunnel connection failed",
     "no network: the proxy could not be reached or refused the connection.",
     "check HTTPS_PROXY and HTTP_PROXY; then run the same command again."),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
     "the package index's certificate could not be verified.",
     "behind a company proxy: set PIP_CERT to its certificate file; else check the clock and the CA certificates."),
    (r"NewConnectionError|ConnectTimeout|ReadTimeout|Network is unreachable|Connection refused|Connection reset|"
     r"Read timed out|ConnectionError|Connection broken|Remote end closed|IncompleteRead",
     "no network: the package index could not be reached.",
     "check the network (or set HTTPS_PROXY, or PIP_INDEX_URL to a mirror); then run the same command again."),
    (r"No matching distribution found for torch",
     "there is no build of torch for this machine ({machine}) and Python.",
     "torch is published for Linux (x86-64, ARM), macOS on Apple silicon and Windows; use one of these."),
    (r"from versions: none",
     "the package index offered no version at all of a package: no network, or a mirror that lacks it.",
     "check the network, HTTPS_PROXY and PIP_INDEX_URL; then run the same command again."),
    (r"No matching distribution found|Could not find a version that satisfies",
     "the package index does not offer one of the pinned versions for this machine and Python.",
     "see the line above; a mirror may be incomplete (unset PIP_INDEX_URL), or try another Python: PYTHON=python3.11"),
    (r"libGL|libgthread|libglib|cannot open shared object file",
     "a package was installed, but a library of the system that it needs is missing.",
     "on Debian and Ubuntu: sudo apt install libgl1 libglib2.0-0; then run the same command again."),
    (r"Permission denied|Errno 13",
     "a file could not be written.",
     "check who owns the repository's folder and .venv; do not mix sudo with the ordinary user."),
]


def explain(lines):
    """Turn the output of a failed command into (what is wrong, what to do)."""
    text = "\n".join(lines)
    for pattern, what, remedy in FAILURES:
        if re.search(pattern, text):
            return what.format(tmp=tempfile.gettempdir(), machine=os.uname().machine), remedy
    return "a command failed for a reason that this script does not know.", "read the log; then run the command again."


# --- building --------------------------------------------------------------------------------------------------------

class Environment:
    """The folder .venv of one repository."""

    def __init__(self, root, env=None):
        self.root = Path(root).resolve()
        self.folder = self.root / ".venv"
        self.python = self.folder / "bin" / "python"
        self.env = {k: v for k, v in (os.environ if env is None else env).items()
                    if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX")}
        self.env.update(PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0")

    def key(self):
        """A hash of everything that decides what is installed (and of the path: environments cannot be moved)."""
        digest = hashlib.sha256(str(self.root).encode())
        for name in ("requirements.lock", "pyproject.toml"):
            digest.update((self.root / name).read_bytes())
        return digest.hexdigest()

    def stamp(self):
        """The stamp as a dict; {} where there is none or it cannot be read."""
        try:
            return json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def write_stamp(self, state):
        content = {"state": state, "key": self.key(), "root": str(self.root)}
        (self.folder / STAMP).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def set_aside(self):
        """Clear the place for a new environment; a finished one that still works is kept, and its new path returned."""
        aside = self.folder.with_name(".venv.previous")
        shutil.rmtree(str(aside), ignore_errors=True)
        if self.stamp().get("state") == "complete" and self.stamp().get("root") == str(self.root):
            self.folder.rename(aside)
            return aside
        if self.folder.exists():
            shutil.rmtree(str(self.folder))
        return None

    def plan(self, wanted=None, ask=probe):
        """'ready', 'update' (same place, same Python, other requirements) or 'build'. Raises Problem."""
        stamp = self.stamp()
        if self.folder.exists() and not stamp and any(self.folder.iterdir()):
            raise Problem("{} exists, but this script did not make it and will not touch it.\n"
                          "  What to do: move it away or delete it (rm -rf .venv); then run the same command again."
                          .format(self.folder))
        if stamp.get("state") not in ("complete", "updating") or stamp.get("root") != str(self.root):
            return "build"
        inside = ask(self.python)
        if inside is None or complaint(inside):
            return "build"
        if wanted:
            other = choose_python(wanted, ask)
            if other["version"][:2] != inside["version"][:2]:
                return "build"
        return "ready" if stamp["state"] == "complete" and stamp["key"] == self.key() else "update"


def install(environment, steps):
    """Install the lock file and the package itself, and import the large packages once. Raises Problem."""
    pip = [environment.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install",
           "--progress-bar", "off"]
    lock = environment.root / "requirements.lock"
    pins = sum("==" in line for line in lock.read_text(encoding="utf-8").splitlines())
    further = environment.env.get("TORCH_INDEX_URL")
    jobs = [
        ("installing {} pinned packages (the first time 0.6 GB to download, more with CUDA)".format(pins),
         pip + ["-r", lock] + (["--extra-index-url", further] if further else [])),
        ("installing the course itself",
         pip + ["--no-deps", "--no-build-isolation", "-e", environment.root]),
        ("trying the imports", [environment.python, "-c", TRIAL]),
    ]
    for title, command in jobs:
        steps.say(title)
        status, lines = steps.run(command, environment.env)
        if status:
            raise Problem(failure_text(title, lines, steps.log))


def failure_text(title, lines, log):
    """The message for a command that failed while `title` was under way."""
    what, remedy = explain(lines)
    tail = "\n".join("    " + line.strip()[:160] for line in [row for row in lines if row.strip()][-5:])
    return "{}\n  This failed: {}.\n  What to do: {}\n  Last lines of its output:\n{}\n  Whole log: {}".format(
        what, title, remedy, tail, log)


def build(environment, steps, wanted=None):
    """Make the environment from nothing. Where that fails, an earlier finished one is put back, else nothing is left.

    Raises Problem.
    """
    python = choose_python(wanted)
    room = check_space(environment.root, environment.env)
    steps.say("Python {} ({}), {}".format(dotted(python["version"]), python["executable"], room))
    earlier = environment.set_aside()
    try:
        environment.folder.mkdir()
        environment.write_stamp("building")
        steps.say("making the virtual environment .venv")
        status, lines = steps.run([python["executable"], "-m", "venv", environment.folder], environment.env)
        if status:
            raise Problem(failure_text("making the virtual environment", lines, steps.log))
        install(environment, steps)
    except (Problem, KeyboardInterrupt) as error:
        shutil.rmtree(str(environment.folder), ignore_errors=True)
        if earlier:
            earlier.rename(environment.folder)
        if isinstance(error, KeyboardInterrupt):
            raise
        left = "The earlier .venv was put back" if earlier else "Nothing is half-installed: .venv was removed"
        raise Problem("{}\n  {}; finished downloads stay in pip's cache.".format(error, left)) from None
    if earlier:
        shutil.rmtree(str(earlier), ignore_errors=True)


def update(environment, steps):
    """Bring a finished environment up to date in place. Raises Problem."""
    steps.say("requirements.lock or pyproject.toml changed: bringing .venv up to date")
    environment.write_stamp("updating")
    try:
        install(environment, steps)
    except Problem as problem:
        raise Problem("{}\n  .venv was kept, but is not up to date. The next run tries again; `make clean` starts anew."
                      .format(problem)) from None


def main(root=None):
    wanted = os.environ.get("PYTHON") or None
    try:
        environment = Environment(root or Path(__file__).resolve().parent.parent)
        plan = environment.plan(wanted)
        if plan == "ready":
            return 0
        steps = Steps(environment.root / ".setup.log")
        if plan == "build":
            build(environment, steps, wanted)
        else:
            update(environment, steps)
        environment.write_stamp("complete")
        steps.say("ready")
    except Problem as problem:
        print("\nset-up failed: {}".format(problem), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted; the same command starts it again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
