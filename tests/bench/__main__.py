"""Measure Victoria beside its peers: python -m tests.bench [WHAT ...] [--quick].

Everything by default. Prints as it goes, writes tests/bench/RESULTS.md and charts beside it; ends with 4 when something
promised does not hold. `--quick` only shows that everything runs: it writes and judges nothing.
"""

import argparse
import sys

from gateway import logs
from tests.bench.sections import SECTIONS

PROMISE_BROKEN = 4


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure Victoria beside its peers.")
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"any of {', '.join(SECTIONS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="only show that everything runs; judge nothing")
    given = parser.parse_args()
    if unknown := set(given.what) - set(SECTIONS):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}")
    logs.configure("warning")
    broken = 0
    for name in given.what or SECTIONS:
        print(f"{name}", flush=True)
        section = SECTIONS[name](given.quick)
        if not given.quick:
            broken += section.broken()
            section.write()
    if broken:
        print(f"{broken} of what is promised does not hold", file=sys.stderr)
    return PROMISE_BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
