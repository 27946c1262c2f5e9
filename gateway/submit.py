"""Goals on their way in, from an argument or from lines of NDJSON; and waiting for runs to end."""

from collections.abc import AsyncIterator, Collection, Iterable
from typing import Annotated, NamedTuple

import msgspec

from consumers.intake import GOAL_BYTES, goal_submitted
from deploy.wiring import Victoria
from schemas.errors import InvalidInput, NotReachable, VictoriaError
from schemas.events import Exchange, GoalSubmitted, RunFinished, RunProgressed
from streams.append import new_run_id
from streams.connection import reachable
from streams.follow import Seen, follow, last_id

LINE_BYTES = 16 * GOAL_BYTES
"""A longer line of NDJSON is refused unread."""
BATCH = 500


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of NDJSON: a goal, and what may go with it. `run_id` makes publishing it again harmless."""

    goal: str
    project: str = ""
    session: str = ""
    history: tuple[Exchange, ...] = ()
    run_id: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z_.-]{1,80}$")] = ""


class Accepted(NamedTuple):
    """A goal with its run's id, and the line it came from (0: none)."""

    run_id: str
    goal: GoalSubmitted
    line: int = 0


class Refused(NamedTuple):
    """A line that was not accepted, and why."""

    line: int
    error: VictoriaError


def accepted(victoria: Victoria, goal: str, project: str = "", session: str = "") -> Accepted:
    """One checked goal. Raises InvalidInput."""
    if project:
        victoria.projects.require(project)
    return Accepted(new_run_id(), goal_submitted(goal, project or victoria.projects.main, session))


def read_lines(victoria: Victoria, lines: Iterable[bytes]) -> Iterable[Accepted | Refused]:
    """Each non-empty line of NDJSON, accepted or refused, with its number from 1."""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            yield _read_line(victoria, number, raw)
        except VictoriaError as problem:
            yield Refused(number, problem)


def _read_line(victoria: Victoria, number: int, raw: bytes) -> Accepted:
    if len(raw) > LINE_BYTES:
        raise InvalidInput("line.too_large", f"It has {len(raw):,} bytes; at most {LINE_BYTES:,} are taken.")
    try:
        line = msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise InvalidInput(
            "line.malformed", f"It is no JSON object of a goal: {problem}", 'Write {"goal": "List the files"}.'
        ) from problem
    if line.project:
        victoria.projects.require(line.project)
    project = line.project or victoria.projects.main
    event = goal_submitted(line.goal, project, line.session, line.history)
    return Accepted(line.run_id or new_run_id(), event, number)


class Results:
    """The results streams from now on. Make it before publishing, so that nothing is missed."""

    def __init__(self, victoria: Victoria, cursors: dict[str, str]) -> None:
        self._victoria, self._cursors = victoria, cursors

    @classmethod
    async def from_now(cls, victoria: Victoria, run_ids: Collection[str]) -> "Results":
        """The results of these runs, from what is newest now on."""
        keys = victoria.keys
        streams = {keys.stream(keys.of_run(run_id), "results") for run_id in run_ids}
        with reachable(victoria.url):
            return cls(victoria, {stream: await last_id(victoria.client, stream) for stream in streams})

    async def of(self, run_ids: Collection[str]) -> AsyncIterator[Seen]:
        """Progress and ends of these runs, until all have ended. Raises NotReachable when the server goes away."""
        waiting = set(run_ids)
        with reachable(self._victoria.url):
            async for batch in follow(self._victoria.client, self._cursors):
                for seen in batch:
                    envelope = seen.envelope
                    if envelope and envelope.run in waiting and isinstance(envelope.body, RunProgressed | RunFinished):
                        yield seen
                        if isinstance(envelope.body, RunFinished):
                            waiting.discard(envelope.run)
                if not waiting:
                    return


__all__ = ["BATCH", "Accepted", "NotReachable", "Refused", "Results", "accepted", "read_lines"]
