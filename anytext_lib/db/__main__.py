"""`python -m anytext_lib.db`: the same as `anytext db`."""

import sys

from anytext_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["db", *sys.argv[1:]]))
