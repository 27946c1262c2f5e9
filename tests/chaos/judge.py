"""The verdict on what happened. Pure: evidence in, verdict out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from schemas.events import RunFinished
from streams.outcome import DeadLetter
from tests.chaos.evidence import STATEFUL, Evidence
from tests.chaos.ledger import Line

EXPECTED_LETTERS = frozenset({"effect.unknown"})
LOST_RUN, ENDED_TWICE, WRONG = "lost runs", "runs ended twice", "wrong ends"
LOST_EVENT, DOUBLED = "lost events", "doubled outputs"
STATE_DOUBLED, STATE_LOST = "doubled state changes", "lost state changes"
REPEATED, UNKNOWN_TWICE = "recorded effects repeated", "unknown effects done twice"
RECORD_LOST, RECORD_CHANGED, KEY_CHANGED = "lost records", "changed records", "changed idempotency keys"
LETTER = "unexpected dead letters"
FAULTS = (
    LOST_RUN,
    ENDED_TWICE,
    WRONG,
    LOST_EVENT,
    DOUBLED,
    STATE_DOUBLED,
    STATE_LOST,
    REPEATED,
    UNKNOWN_TWICE,
    RECORD_LOST,
    RECORD_CHANGED,
    KEY_CHANGED,
    LETTER,
)
"""All that must never happen."""


@dataclass(frozen=True)
class Verdict:
    """`faults` names for each kind of fault what to look at. `repeats` counts doings of effects (and questions to the
    model) beyond the first, allowed before their record; `unknowns` effects given up as unknown."""

    runs: int
    ended_once: int
    faults: dict[str, list[str]]
    repeats: int = 0
    unknowns: int = 0
    letters: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        """Whether every run ended exactly once and nothing was lost or doubled."""
        return self.ended_once == self.runs and not any(self.faults.values())

    def count(self, fault: str) -> int:
        """How often a fault was found."""
        return len(self.faults[fault])


def judge(evidence: Evidence) -> Verdict:
    """Look at everything, and name what is wrong."""
    faults: dict[str, list[str]] = {fault: [] for fault in FAULTS}
    ends = _ends(evidence)
    gave_up = {line.run for line in evidence.lines if line.fact == "unknown"}
    for run, holds in evidence.runs.items():
        found = ends.get(run, [])
        if not found:
            faults[LOST_RUN].append(run)
        elif len(found) > 1:
            faults[ENDED_TWICE].append(run)
        for end in found[:1]:
            # After an unknown outcome a run may fail, or lack a step's answer.
            if run not in gave_up and (end.status != "completed" or holds not in end.output):
                faults[WRONG].append(f"{run}: {end.status} {end.output[:200]!r}")
    faults[WRONG] += [f"{run}: nobody submitted it" for run in ends.keys() - evidence.runs.keys()]
    faults[LOST_EVENT] += [f"{stream}: {count} not settled" for stream, count in evidence.unsettled.items()]
    faults[DOUBLED] += _doubled(evidence)
    for fault, text in _state_faults(evidence, gave_up):
        faults[fault].append(text)
    for fault, text in _effect_faults(evidence, ends.keys()):
        faults[fault].append(text)
    letters = [msgspec.json.decode(entry.text, type=DeadLetter) for entry in evidence.of("dead")]
    faults[LETTER] += [
        f"{letter.stage} {letter.entry}: {letter.error.code} {letter.error.message}"
        for letter in letters
        if letter.error.code not in EXPECTED_LETTERS
    ]
    return Verdict(
        runs=len(evidence.runs),
        ended_once=sum(len(ends.get(run, ())) == 1 for run in evidence.runs),
        faults=faults,
        repeats=_repeats(evidence.lines),
        unknowns=len({line.key for line in evidence.lines if line.fact == "unknown"}),
        letters=Counter(letter.error.code for letter in letters),
    )


def _ends(evidence: Evidence) -> dict[str, list[RunFinished]]:
    ends: dict[str, list[RunFinished]] = defaultdict(list)
    for entry in evidence.of("results"):
        if entry.envelope and isinstance(entry.envelope.body, RunFinished):
            ends[entry.envelope.run].append(entry.envelope.body)
    return ends


def _doubled(evidence: Evidence) -> Iterator[str]:
    """Events that were said twice: one id on two entries of a stream, not counting what retries put back."""
    for stream, entries in evidence.streams.items():
        said = Counter(entry.envelope.id for entry in entries if entry.envelope and not entry.again)
        yield from (f"{stream}: event {event} {count} times" for event, count in said.items() if count > 1)


def _state_faults(evidence: Evidence, gave_up: set[str]) -> Iterator[tuple[str, str]]:
    """Every event of a run that a stage with state handled has changed the state once: so often was it saved."""
    events: dict[str, set[str]] = defaultdict(set)
    for entry in evidence.of(STATEFUL):
        if entry.envelope:
            events[entry.envelope.run].add(entry.envelope.id)
    for run in evidence.runs:
        saved, heard = evidence.versions.get(run, 0), len(events[run])
        if saved > heard:
            yield STATE_DOUBLED, f"{run}: saved {saved} times after {heard} events"
        if saved < heard and run not in gave_up:  # what comes after an early end changes nothing
            yield STATE_LOST, f"{run}: saved {saved} times after {heard} events"


def _effect_faults(evidence: Evidence, ended: Collection[str]) -> Iterator[tuple[str, str]]:
    recorded: dict[str, int] = {}
    tokens: dict[str, set[str]] = defaultdict(set)
    begun: dict[str, int] = {}
    done: Counter[str] = Counter()
    settled: set[str] = set()
    for number, line in enumerate(evidence.lines):
        match line.fact:
            case "begun":
                begun[line.handling] = number
            case "recorded":
                recorded.setdefault(line.key, number)
                settled.add(line.key)
                if line.kind != "ask":
                    tokens[line.key].add(line.token)
            case "unknown":
                settled.add(line.key)
            case "done":
                done[line.key] += 1
                # Two may do it side by side; one who began when the record was there must have taken the record.
                # Not so a look: who got the entry first may look late, and is then told to take the record.
                if line.kind != "none" and begun[line.handling] > recorded.get(line.key, number):
                    yield REPEATED, f"{line.run}: {line.key} by process {line.pid}"
    once = {line.key: line.run for line in evidence.lines if line.kind == "unknown"}
    yield from ((UNKNOWN_TWICE, f"{run}: {key} {done[key]} times") for key, run in once.items() if done[key] > 1)
    # When a run is over, every action of its handlers was recorded or given up, under the key they know it by.
    actions = {line.key for line in evidence.lines if line.fact == "done" and line.kind != "ask" and line.run in ended}
    yield from ((KEY_CHANGED, f"{key} is nobody's key") for key in actions - settled)
    of_run = {line.key: line.run for line in evidence.lines}
    for key, found in tokens.items():
        if len(found) > 1:
            yield RECORD_CHANGED, f"{of_run[key]}: {key} had {len(found)} results"
        if evidence.records.get(of_run[key], {}).get(key) not in found:
            yield RECORD_LOST, f"{of_run[key]}: {key}"


def _repeats(lines: Iterable[Line]) -> int:
    done = Counter(line.key for line in lines if line.fact == "done")
    return sum(count - 1 for count in done.values())
