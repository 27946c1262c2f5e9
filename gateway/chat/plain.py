"""A conversation without a terminal: each line that comes in is a turn, and each answer goes out as it is."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from consumers.intake import goal_submitted
from gateway.chat.line import Ended, Line, Wish
from gateway.chat.turn import Turn, facts
from gateway.complain import complain
from gateway.screen import answer, emit, note
from schemas.errors import VictoriaError
from schemas.events import RunProgressed

LINE_BYTES = 1 << 20
"""The longest line, which is longer than any goal: it is refused as one."""


async def talk(to: Line, wish: Wish, *, as_json: bool) -> bool:
    """Take all lines of standard input one after the other. Whether all were completed."""
    good = True
    async for goal in _goals():
        try:
            ended = await _answered(to, wish, goal)
        except VictoriaError as problem:
            if problem.exit_code == 130:
                raise
            complain(problem, as_json)
            good = False
            continue
        good &= ended.status == "completed"
        if as_json:
            emit(ended)
        else:
            answer(ended.output)
            if ended.error and ended.error.message not in ended.output:
                note(f"{ended.error.message} [{ended.error.code}] {ended.error.hint}".rstrip(), "red")
        note(facts(ended).text, "dim")
    return good


async def _answered(to: Line, wish: Wish, goal: str) -> Ended:
    goal_submitted(goal)  # what can't be one is not sent
    run_id = await to.submit(goal, wish)
    turn = Turn(run_id, datetime.now(UTC))
    async for heard in to.events(run_id):
        match heard.body:
            case Ended() as ended:
                return ended
            case RunProgressed(kind="question") as event:
                choices = f" ({' / '.join(event.choices)})" if event.choices else ""
                note(f'? {event.text}{choices}\n  answer it: victoria answer {event.question_id} "..."')
            case _:
                for said in turn.see(heard):
                    note(said.text, "dim")
    raise AssertionError("a run's events end with its end")


async def _goals() -> AsyncIterator[str]:
    """Lines with something in them; one that ends in a backslash goes on in the next. Too long ones are cut: they are
    refused as goals then."""
    goal = ""
    while data := await anyio.to_thread.run_sync(sys.stdin.buffer.readline, LINE_BYTES, abandon_on_cancel=True):
        part, ends = data.decode(errors="surrogateescape").rstrip("\r\n"), data.endswith(b"\n")
        goes_on = part.endswith("\\") and ends
        if len(goal) < LINE_BYTES:
            goal += f"{part[:-1]}\n" if goes_on else part
        if ends and not goes_on:
            if goal.strip():
                yield goal
            goal = ""
    if goal.strip():
        yield goal
