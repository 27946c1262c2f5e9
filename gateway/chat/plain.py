"""A conversation without a terminal: each line that comes in is a turn, and each answer goes out as it is."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from consumers.intake import goal_submitted
from gateway.chat import commands
from gateway.chat.line import Ended, Line, Wish
from gateway.chat.turn import Question, Turn, facts
from gateway.complain import complain
from gateway.screen import answer, emit, note
from schemas.errors import InvalidInput, VictoriaError

LINE_BYTES = 1 << 20
"""The longest line, which is longer than any goal: it is refused as one."""


async def talk(to: Line, wish: Wish, *, as_json: bool) -> bool:
    """Take all lines of standard input one after the other: goals, commands, and answers where a step asks. Whether all
    were completed."""
    good, lines = True, _lines()
    async for line in lines:
        try:
            if command := commands.parsed(line):
                if command[0] in ("/quit", "/exit"):
                    break
                wish = await _obeyed(to, wish, *command)
                continue
            ended = await _answered(to, wish, line, lines)
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


async def _obeyed(to: Line, wish: Wish, name: str, given: str) -> Wish:
    """After a command: those that only show something are for terminals. Raises InvalidInput."""
    if name == "/clear":
        await to.clear(wish.session)
        return wish
    changed = await commands.wished(to, wish, name, given)
    if changed is None and name in commands.COMMANDS:
        raise InvalidInput("chat.terminal", f"{name} is for a terminal.", "In a pipe there are /expert, /strategy, ...")
    if changed is None:
        raise commands.unknown(name)
    return changed


async def _answered(to: Line, wish: Wish, goal: str, lines: AsyncIterator[str]) -> Ended:
    goal_submitted(goal)  # what can't be one is not sent
    run_id = await to.submit(goal, wish)
    turn = Turn(run_id, datetime.now(UTC))
    async for heard in to.events(run_id):
        if isinstance(heard.body, Ended):
            return heard.body
        for said in turn.see(heard):
            note(said.text, "dim")
        while turn.questions:
            await _reply(to, turn, turn.questions[0], await anext(lines, None))
    raise AssertionError("a run's events end with its end")


async def _reply(to: Line, turn: Turn, question: Question, line: str | None) -> None:
    """Answer with the next line. Raises InvalidInput `chat.unanswered` where there is none."""
    if line is None:
        raise InvalidInput(
            "chat.unanswered",
            f"Run {turn.run_id} waits for an answer, and there is no further line.",
            f'Answer it: victoria answer {question.id} "..."; or cancel it: victoria cancel {turn.run_id}',
        )
    try:
        await to.answer(question.id, question.meant(line))
    except InvalidInput as problem:
        if problem.code == "answer.choice":
            note(f"{problem.message} {problem.hint}", "red")
            return
        if problem.code not in ("question.closed", "question.unknown"):
            raise
    turn.close(question)


async def _lines() -> AsyncIterator[str]:
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
