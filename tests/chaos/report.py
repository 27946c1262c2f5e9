"""The crash matrix as Markdown."""

from collections import Counter
from collections.abc import Sequence

from tests.chaos.bench import Crash
from tests.chaos.judge import (
    DOUBLED,
    LOST_EVENT,
    LOST_RUN,
    RECORD_CHANGED,
    RECORD_LOST,
    REPEATED,
    STATE_DOUBLED,
    STATE_LOST,
    UNKNOWN_TWICE,
)
from tests.chaos.stages import STAGES

COLUMNS = (
    "group",
    "subscribe",
    "lease",
    "reclaim",
    "promote",
    "turn",
    "retain",
    "read",
    "state",
    "journal",
    "intent",
    "action",
    "record",
    "question",
    "hint",
    "settle",
    "read again",
    "leave",
)
"""Meanings in the order in which a worker comes by them; others follow by name."""
COUNTED = (
    LOST_RUN,
    LOST_EVENT,
    DOUBLED,
    STATE_DOUBLED,
    STATE_LOST,
    REPEATED,
    UNKNOWN_TWICE,
    RECORD_LOST,
    RECORD_CHANGED,
)

ALLOWED = ("actions repeated as allowed", "outcomes unknown")

HEAD = """# The crash matrix

`python -m tests.chaos.matrix` writes this file (`make chaos` runs it). Each number is crashes: in one run of the five
stages, the row's stage is a process of its own and is ended by SIGKILL right before a command reaches the server (first
number) or after it was carried out and before the process hears of it (second number), at every command of the column
in turn; `action` is the outside action itself. Then another worker takes over. A column that a worker repeats by the
clock (lease, reclaim, promote, turn, retain) is crashed at its first times only.

- group, subscribe, lease: how a worker begins; reclaim, promote: what it does for others
- turn, retain: whose turn it is to trim the streams, and one of them trimmed
- read: XREADGROUP; state: a run's state is read; journal: a record is looked up
- intent, record: written before and after an action, or after an answer of a model
- question: put to the model's stream; hint: the asking stage is told of the answer
- settle: state, outputs and acknowledgement, in one step
- read again, leave: how a worker stops
"""
FOUND = """What was found afterwards, all crashes of a stage together. Where a crash comes between an intent and its
record, the action's policy decides: `repeat` does it again with the same key, `unknown` never does.
"""


def markdown(crashes: Sequence[Crash], server: str) -> str:
    """The whole file."""
    made = Counter((c.cell.stage, c.cell.boundary.meaning, c.cell.boundary.when) for c in crashes if c.cell.boundary)
    found = {meaning for _, meaning, _ in made}
    columns = [c for c in COLUMNS if c in found] + sorted(found - set(COLUMNS))
    wrong = [crash for crash in crashes if not crash.holds]
    parts = [
        HEAD,
        f"{len(crashes)} crashes, {server}: {len(wrong)} with anything lost, doubled or repeated.\n",
        _table(
            ["stage", *columns],
            [[stage, *(_pair(made, stage, column) for column in columns)] for stage in STAGES],
        ),
        FOUND,
        _table(
            [
                "stage",
                "crashes",
                "runs ended exactly once",
                *COUNTED,
                *ALLOWED,
            ],
            [_totals(stage, [c for c in crashes if c.cell.stage == stage]) for stage in STAGES],
        ),
    ]
    return "\n".join(parts)


def _pair(made: Counter[tuple[str, str, str]], stage: str, column: str) -> str:
    before, after = made[stage, column, "before"], made[stage, column, "after"]
    return f"{before} + {after}" if before or after else ""


def _totals(stage: str, crashes: Sequence[Crash]) -> list[str]:
    verdicts = [crash.verdict for crash in crashes]
    numbers = [
        len(crashes),
        sum(verdict.ended_once for verdict in verdicts),
        *(sum(verdict.count(fault) for verdict in verdicts) for fault in COUNTED),
        sum(verdict.repeats for verdict in verdicts),
        sum(verdict.unknowns for verdict in verdicts),
    ]
    return [stage, *map(str, numbers)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
