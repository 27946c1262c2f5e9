"""How fast recorded runs are replayed: a real run of the real stages, and many copies of it, read and folded again."""

from typing import Any

import anyio
import msgspec

from consumers.intake import goal_submitted
from schemas.errors import VictoriaError
from schemas.events import GoalSubmitted, RunFinished
from streams.append import Publisher, new_run_id
from streams.bench import Progress, name_of_server, own_keys, working
from streams.connection import Client
from streams.follow import follow
from streams.history import History
from streams.keys import Keys
from streams.replays import Summary, replay_all
from streams.tape import Tape
from streams.topology import Topology

GOAL = "List the files here, then list the files in the folder docs"
WITHIN = 60.0
"""Seconds in which the run to be copied must end."""
AT_ONCE = 200
"""Copies written in one call."""


class ReplayFigures(msgspec.Struct, frozen=True):
    """`events` of `runs` were handled again and their outputs compared, reading the streams included."""

    runs: int
    events: int
    outputs: int
    seconds: float
    events_per_s: float
    runs_per_s: float
    server: str


async def replays(
    client: Client, prefix: str, topology: Topology, still: Topology, runs: int, progress: Progress
) -> ReplayFigures:
    """Make `runs` runs by `topology`, and replay them by the same one as it is `still`, with nothing to reach. Raises
    VictoriaError `bench.different` where one does not come to the same."""
    async with own_keys(client, prefix) as keys:
        async with working(client, keys, topology):
            run_id = new_run_id()
            events = follow(client, {keys.stream("0", "results"): "0-0"})
            await Publisher(client, keys).publish([(run_id, goal_submitted(GOAL))], topology.entries[GoalSubmitted])
            with anyio.fail_after(WITHIN):
                async for batch in events:
                    if any(seen.type == RunFinished.__name__ for seen in batch):
                        break
            await events.aclose()
        history = History(client, keys, topology)
        tape = await history.tape(run_id)
        for done in range(1, runs, AT_ONCE):
            count = min(AT_ONCE, runs - done)
            await _copy(client, keys, tape, count)
            progress("runs", done + count, runs)

        def tell(summary: Summary) -> None:
            progress("replayed", summary.runs, runs)

        summary = await replay_all(history, still, 0, tell)
        if summary.identical != runs:
            raise VictoriaError(
                "bench.different",
                f"Of {runs:,} runs {summary.identical:,} came to the same: {summary}"[:1000],
                "Something else uses these keys, or a stage does not come to the same twice.",
            )
    return ReplayFigures(
        runs=runs,
        events=summary.events,
        outputs=summary.outputs,
        seconds=round(summary.seconds, 3),
        events_per_s=round(summary.events / summary.seconds, 1),
        runs_per_s=round(runs / summary.seconds, 1),
        server=await name_of_server(client),
    )


async def _copy(client: Client, keys: Keys, tape: Tape, count: int) -> None:
    """Write a run's entries and journal as those of other runs. What arrived when stays: handlers see that time."""
    pipeline: Any = client.pipeline(transaction=False)
    old = tape.run.encode()
    for _ in range(count):
        run_id = new_run_id()
        new = run_id.encode()
        for entry in tape.entries:
            arrived = entry.arrived or int(entry.id.partition("-")[0])
            fields = {"type": entry.type, "event": bytes(entry.event).replace(old, new), "arrived": arrived}
            pipeline.xadd(keys.stream("0", entry.stream), fields)
        pipeline.hset(keys.journal(run_id), mapping={k: v.replace(old, new) for k, v in tape.effects.items()})
        for state in tape.states.values():
            kept = {state.stage: bytes(state.data).replace(old, new), f"{state.stage}.v": state.version}
            pipeline.hset(keys.run("0", run_id), mapping=kept)
    await pipeline.execute()
