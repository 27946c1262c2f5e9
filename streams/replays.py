"""Replays of many runs: what has changed since they were recorded."""

from collections.abc import Callable, Mapping
from time import monotonic

import msgspec

from streams.history import History
from streams.replay import Verdict, replay
from streams.topology import Topology

SHOWN = 3
"""Differences that are kept to be shown."""


class Summary(msgspec.Struct):
    """What came of many replays. `first` are the first ones that were not identical; `missing` is what the streams do
    not hold any more, so that runs which began there are not among them."""

    runs: int = 0
    identical: int = 0
    different: int = 0
    incomplete: int = 0
    events: int = 0
    outputs: int = 0
    seconds: float = 0.0
    first: list[Verdict] = msgspec.field(default_factory=list[Verdict])
    missing: tuple[str, ...] = ()

    def add(self, verdict: Verdict) -> None:
        """Count one."""
        self.runs += 1
        self.identical += verdict.verdict == "identical"
        self.different += verdict.verdict == "different"
        self.incomplete += verdict.verdict == "incomplete"
        self.events += verdict.events
        self.outputs += verdict.outputs
        if verdict.verdict == "different" and len(self.first) < SHOWN:
            self.first.append(verdict)


async def replay_all(
    history: History,
    topology: Topology,
    since: int,
    tell: Callable[[Summary], None],
    stage: str = "",
    runs: Mapping[str, set[str]] | None = None,
) -> Summary:
    """Replay the runs that began at `since`, ms since 1970, or later, and have ended; `tell` hears of each. With `runs`
    only those, and of `stage` only these events."""
    summary, began = Summary(missing=await history.gone(since) if runs is None else ()), monotonic()
    async for tape in history.tapes(since, runs):
        events = runs[tape.run] if runs else None
        verdict = await replay(tape, topology, stage, events)
        if verdict.verdict == "different" and len(summary.first) < SHOWN:  # once more, with what models were asked
            verdict = await replay(await history.tape(tape.run), topology, stage, events)
        summary.add(verdict)
        summary.seconds = monotonic() - began
        tell(summary)
    return summary
