"""Writes requirements.lock from pyproject.toml for Python 3.11 to 3.13 on Linux, macOS and Windows.

Usage: python .ci/lock.py [--upgrade]      (what `make lock` does; needs the network)

uv resolves for all these systems at once; it is installed into a temporary folder. Pins that still fit are kept unless
--upgrade is given. The CUDA packages that torch's Linux build asks for are left out: torch pins them itself, and the
CPU build must not pull them in.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.8"
BROUGHT_BY_TORCH = re.compile(r"(cuda|nvidia)-|triton==")
HEADER = """\
# Every package of the course, pinned, for Python 3.11 to 3.13. Written by `make lock` from pyproject.toml: do not edit.
# torch's CUDA libraries for Linux are not listed: torch itself asks for exact versions of them.
"""


def main():
    lock = ROOT / "requirements.lock"
    with tempfile.TemporaryDirectory() as tools:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", tools, UV], check=True)
        result = Path(tools) / "lock.txt"
        if lock.exists():
            result.write_text(lock.read_text())
        subprocess.run([str(Path(tools) / "bin" / "uv"), "--system-certs", "pip", "compile", "pyproject.toml",
                        "--extra", "dev", "--extra", "site", "--universal", "--python-version", "3.11", "--no-header",
                        "--no-annotate", "--quiet", "--output-file", str(result), *sys.argv[1:]],
                       cwd=ROOT, env=dict(os.environ, VIRTUAL_ENV=""), check=True, stdout=subprocess.DEVNULL)
        pins = [line for line in result.read_text().splitlines()
                if not BROUGHT_BY_TORCH.match(line) and "sys_platform == 'emscripten'" not in line]
    lock.write_text(HEADER + "\n".join(pins) + "\n")
    print(f"{lock.name}: {len(pins)} pins")


if __name__ == "__main__":
    main()
