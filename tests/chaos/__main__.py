"""`python -m tests.chaos`: kill everything, at any time, and count. `make chaos` runs it with the crash matrix."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import msgspec

from tests.chaos.chaos import Plan, Report, chaos
from tests.chaos.judge import FAULTS


def main() -> int:
    """Run the seeds one after the other; 0 if in all of them nothing was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; a seed is a schedule (default 1)")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds (default 5)")
    parser.add_argument("--runs", type=int, default=500, help="runs of each seed (default 500)")
    parser.add_argument("--calamities", type=int, default=40, help="calamities of each seed (default 40)")
    parser.add_argument("--keep", action="store_true", help="keep the data of seeds that held as well")
    parser.add_argument("--json", action="store_true", help="one JSON object for each seed")
    asked = parser.parse_args()
    if min(asked.seeds, asked.runs) < 1:
        parser.error("without a seed and a run nothing is shown")
    reports = [
        _seed(Plan(seed, asked.runs, asked.calamities), as_json=asked.json, keep=asked.keep)
        for seed in range(asked.seed, asked.seed + asked.seeds)
    ]
    if not asked.json:
        print(table(reports))
    return 0 if all(report.holds for report in reports) else 1


def _seed(plan: Plan, *, as_json: bool, keep: bool) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="victoria-chaos-"))

    def say(text: str) -> None:
        if not as_json:
            print(f"seed {plan.seed}: {text}", file=sys.stderr)

    report = anyio.run(chaos, plan, folder, say)
    if as_json:
        print(msgspec.json.encode(summary(report)).decode(), flush=True)
    for line in trouble(report):
        print(f"seed {plan.seed}: {line}", file=sys.stderr)
    if report.holds and not keep:
        shutil.rmtree(folder)
    else:
        print(f"seed {plan.seed}: streams, ledger and logs are kept in {folder}", file=sys.stderr)
    return report


def summary(report: Report) -> dict[str, Any]:
    """A report as data."""
    verdict = report.verdict
    return {
        "seed": report.plan.seed,
        "holds": report.holds,
        "runs": verdict.runs,
        "ended_once": verdict.ended_once,
        "calamities": report.plan.calamities,
        "faults": verdict.faults,
        "repeats": verdict.repeats,
        "unknown_outcomes": verdict.unknowns,
        "dead_letters": dict(verdict.letters),
        "died": list(report.died),
        "exit_codes": list(report.codes),
        "seconds": round(report.seconds, 1),
    }


def trouble(report: Report) -> list[str]:
    """What to look at, at most 10 of each kind."""
    lines = [f"{fault}: {what}" for fault, found in report.verdict.faults.items() for what in found[:10]]
    lines += report.died
    if any(report.codes):
        lines.append(f"workers stopped with {list(report.codes)}")
    return lines


def table(reports: list[Report]) -> str:
    """All seeds as a table; a row of its own for each fact, so that it fits any terminal."""
    rows: list[tuple[str, list[str]]] = [
        ("seed", [str(r.plan.seed) for r in reports]),
        ("runs", [str(r.verdict.runs) for r in reports]),
        ("ended exactly once", [str(r.verdict.ended_once) for r in reports]),
    ]
    rows += [(fault, [str(r.verdict.count(fault)) for r in reports]) for fault in FAULTS]
    rows += [
        ("workers that ended by themselves", [str(len(r.died)) for r in reports]),
        ("workers that did not stop with 0", [str(sum(map(bool, r.codes))) for r in reports]),
        ("repeats before a record (allowed)", [str(r.verdict.repeats) for r in reports]),
        ("outcomes unknown (allowed)", [str(r.verdict.unknowns) for r in reports]),
        ("dead letters effect.unknown", [str(r.verdict.letters["effect.unknown"]) for r in reports]),
        ("calamities", [str(r.plan.calamities) for r in reports]),
        ("seconds", [f"{r.seconds:.1f}" for r in reports]),
    ]
    wide = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{wide}}" + "".join(f"{value:>8}" for value in values) for name, values in rows)


if __name__ == "__main__":
    sys.exit(main())
