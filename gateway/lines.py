"""Goals from lines of NDJSON, checked one by one, as they come."""

import os
import select
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

import anyio
import msgspec

from consumers.intake import GOAL_BYTES, goal_submitted
from deploy.projects import Projects
from gateway.submit import Accepted, Refused
from schemas.errors import InvalidInput, VictoriaError
from schemas.events import Exchange
from streams.append import new_run_id

LINE_BYTES = 16 * GOAL_BYTES
"""A longer line is refused; no more of it is kept."""
CHUNK = 64 * 1024


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of NDJSON: a goal, and what may go with it. `run_id` makes publishing it again harmless."""

    goal: str
    project: str = ""
    session: str = ""
    history: tuple[Exchange, ...] = ()
    run_id: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z_.-]{1,80}$")] = ""


async def batches(fd: int) -> AsyncIterator[list[bytes]]:
    """The lines of an open file: each time all that are there, so that none waits for later ones."""
    rest = b""
    while True:
        if not select.select([fd], [], [], 0)[0]:  # files are always ready, and epoll does not take them
            await anyio.wait_readable(fd)
        chunk = os.read(fd, CHUNK)
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[: LINE_BYTES + 1]
        yield whole
    yield [rest]


def read(lines: Iterable[bytes], first: int, projects: Projects, unless_said: Line) -> Iterable[Accepted | Refused]:
    """Each non-empty line, accepted or refused, numbered from `first`; project and session `unless_said` otherwise."""
    for number, raw in enumerate(lines, first):
        if raw.strip():
            try:
                yield _read(raw, number, projects, unless_said)
            except VictoriaError as problem:
                yield Refused(number, problem)


def _read(raw: bytes, number: int, projects: Projects, unless_said: Line) -> Accepted:
    if len(raw) > LINE_BYTES:
        raise InvalidInput("line.too_large", f"It has more than {LINE_BYTES:,} bytes.", "Give it fewer.")
    try:
        line = msgspec.json.decode(raw, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidInput(
            "line.malformed", f"It is no JSON object of a goal: {problem}", 'Write {"goal": "List the files"}.'
        ) from problem
    project = projects.require(line.project or unless_said.project or projects.main)
    event = goal_submitted(line.goal, project, line.session or unless_said.session, line.history)
    return Accepted(line.run_id or new_run_id(), event, number)
