"""`make portable`: the recorded numbers and the golden tests under other instruction sets, threads and one other seed.

  make portable                                          golden tests, all notebooks: hours; may be interrupted
  python -m tests.portability 08 14                      two notebooks, all variants
  python -m tests.portability golden --variants avx2-1   the golden tests under one variant
  python -m tests.portability --table                    write the table from what has been measured; run nothing
  python -m tests.portability --fast                     what continuous integration runs: no table is written

Results are kept in build/portability, so that a sweep goes on where it stopped and only what changed (a notebook, its
parameters, the library) runs again. The table (tests/portability/spread.<profile>.csv) is written after every notebook;
lines of notebooks that were not asked for stay. Exit status: 0 all well; 1 a number spreads over more than half of its
tolerance, or something failed or is missing; 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.course.record import Record
from anytext_lib.errors import CourseError
from anytext_lib.publishing.numbers import Baselines
from tests.portability import table
from tests.portability.sweep import Case, cases
from tests.portability.variants import FAST, FAST_NOTEBOOKS, PLAIN, VARIANTS


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.portability", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="NN|golden", help="notebooks, or golden; all if none is named")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME",
                        help=f"some of {', '.join(VARIANTS)}")
    parser.add_argument("--profile", default="quick", help="of the notebooks (default: quick)")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument("--any-library", action="store_true", help="results of other versions of the library count")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table")
    parser.add_argument("--fast", action="store_true", help=f"golden, {', '.join(FAST_NOTEBOOKS)} under "
                        f"{' and '.join(FAST)}, held to the baselines")
    options = parser.parse_args(arguments)
    if options.fast:
        options.what, options.variants = ["golden", *FAST_NOTEBOOKS], list(FAST)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; see the module."""
    options = parse(arguments)
    try:
        wanted = cases(options.what, [VARIANTS[name] for name in options.variants], options.profile)
        baselines = Baselines(notebooks_folder(), options.profile, "cpu")
    except CourseError as error:
        print(f"tests.portability: {error}", file=sys.stderr)
        return 2
    return fast(wanted, baselines, options) if options.fast else sweep(wanted, baselines, options)


def measured(wanted: list[Case], options: argparse.Namespace):
    """Yield (case, result) in order, with what is kept where it counts; result is None where nothing may be run."""
    def one(case: Case) -> dict | None:
        kept = case.result(options.any_library)
        return kept if kept or options.table else case.run()

    with ThreadPoolExecutor(options.jobs) as pool:
        yield from zip(wanted, pool.map(one, wanted), strict=True)


def title(case: Case) -> str:
    return f"{case.book.name if case.book else 'golden tests':<28} {case.variant.name:<12}"


def fast(wanted: list[Case], baselines: Baselines, options: argparse.Namespace) -> int:
    """Hold each result to the baselines, a line each."""
    bad = 0
    for case, result in measured(wanted, options):
        problems = [result["failure"]] if result["failure"] else []
        if case.book and not problems:
            records = [Record(name, value, None) for name, value in result["records"].items()]
            problems = baselines.compare(case.book.number, records)
        bad += bool(problems)
        print(f"{title(case)} {result['seconds']:7.1f} s  {'wrong' if problems else 'ok'}  "
              f"{len(result['records'])} numbers", flush=True)
        print("".join(f"  {problem}\n" for problem in problems), end="", flush=True)
    print(f"portable: {len(wanted) - bad} of {len(wanted)} well ({options.profile}; {', '.join(options.variants)})")
    return 1 if bad else 0


def sweep(wanted: list[Case], baselines: Baselines, options: argparse.Namespace) -> int:
    """Measure, write the table after each notebook, and say what is unstable."""
    path = table.path_of(options.profile)
    for case, result in measured(wanted, options):
        state = "not measured" if result is None else f"{result['seconds']:7.1f} s  " + (
            f"failed: {result['failure'].splitlines()[-1]}" if result["failure"] else "ok")
        print(f"{title(case)} {state}", flush=True)
        if case is wanted[-1] or wanted[wanted.index(case) + 1].book != case.book:
            update(path, case, baselines, options)
    rows = table.read(path)
    asked = {case.book.number if case.book else "golden" for case in wanted}
    complaints = table.complaints([line for line in rows if line["notebook"] in asked], len(PLAIN))
    print("".join(f"  {message}\n" for message in complaints), end="")
    print(f"portable: {len(complaints)} complaints about {len(asked)} notebooks or tests; the table is {path}")
    return 1 if complaints else 0


def update(path, case: Case, baselines: Baselines, options: argparse.Namespace) -> None:
    """Write the lines of one notebook, or of the golden tests, from all of its results that count."""
    number = case.book.number if case.book else "golden"
    results = {name: result for name, variant in VARIANTS.items() if (case.book or not variant.other_seed)
               if (result := Case(case.book, variant, options.profile).result(options.any_library))}
    seed = results.pop("own-1-seed", None)
    if case.book is None:
        own = table.golden_rows(results)
    else:
        own = [table.row(number, name, expected, results, seed)
               for name, expected in baselines.entries.get(number, {}).items()]
    table.write(path, [line for line in table.read(path) if line["notebook"] != number] + own)


if __name__ == "__main__":
    sys.exit(main())
