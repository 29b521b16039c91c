"""Writes the lock files from pyproject.toml for Python 3.11 to 3.14 on Linux, macOS and Windows.

Usage: python .ci/lock.py [--upgrade]      (what `make lock` does; needs the network)

requirements.lock  every package of the course, pinned
hashes.lock        the same without torch, with the hashes of the files: what `make setup` installs first
oldest.lock        the oldest versions that pyproject.toml allows, for Python 3.11: `make oldest` tests with them

uv resolves for all these systems at once; it is installed into a temporary folder. Pins that still fit are kept unless
--upgrade is given. The CUDA packages that torch's Linux build asks for are left out: torch pins them itself, and the
CPU build must not pull them in. That build comes from an index of its own, with files of its own: so torch has no
hashes.
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
WRITTEN = "Written by `make lock` from pyproject.toml: do not edit."
PINS = f"""\
# Every package of the course, pinned, for Python 3.11 to 3.14. {WRITTEN}
# torch's CUDA libraries for Linux are not listed: torch itself asks for exact versions of them.
"""
HASHES = f"# requirements.lock without torch, with the hashes of the files. {WRITTEN}\n"
OLDEST = f"# The oldest versions that pyproject.toml allows, for Python 3.11. {WRITTEN}\n"


def compiled(uv: Path, *options: str, start: str = "", leave_out: re.Pattern = BROUGHT_BY_TORCH) -> str:
    """What uv makes of pyproject.toml with `options`; pins in the text `start` are kept where they fit."""
    result = uv.parent.parent / "result.txt"
    result.write_text(start, encoding="utf-8")
    subprocess.run([str(uv), "--system-certs", "pip", "compile", "pyproject.toml", "--extra", "course", "--extra",
                    "dev", "--extra", "site", "--python-version", "3.11", "--no-header", "--no-annotate", "--quiet",
                    "--output-file", str(result), *options],
                   cwd=ROOT, env=dict(os.environ, VIRTUAL_ENV=""), check=True, stdout=subprocess.DEVNULL)
    entries = re.findall(r"^\S.*\n(?:[ \t].*\n)*", result.read_text(encoding="utf-8"), re.MULTILINE)
    return "".join(entry for entry in entries if not leave_out.match(entry) and "== 'emscripten'" not in entry)


def main() -> None:
    lock, upgrade = ROOT / "requirements.lock", sys.argv[1:]
    with tempfile.TemporaryDirectory() as tools:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", tools, UV], check=True)
        uv = Path(tools) / "bin" / "uv"
        pins = compiled(uv, "--universal", *upgrade, start=lock.read_text(encoding="utf-8") if lock.exists() else "")
        hashes = compiled(uv, "--universal", "--generate-hashes", start=pins,
                          leave_out=re.compile(BROUGHT_BY_TORCH.pattern + "|torch=="))
        oldest = compiled(uv, "--resolution", "lowest-direct", "--only-binary", ":all:")
    for path, text in ((lock, PINS + pins), (ROOT / ".ci" / "hashes.lock", HASHES + hashes),
                       (ROOT / ".ci" / "oldest.lock", OLDEST + oldest)):
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(re.findall('^[a-z].*==', text, re.MULTILINE))} pins")


if __name__ == "__main__":
    main()
