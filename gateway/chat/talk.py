"""A conversation on a terminal: goals, commands and answers go in, turns are shown one after the other."""

from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

import anyio

from consumers.intake import goal_submitted
from consumers.sessions import SessionView
from gateway.chat import commands
from gateway.chat.line import Ended, Line, Wish
from gateway.chat.terminal import Rows, Terminal
from gateway.chat.turn import Styled, Turn, facts
from gateway.http.health import Status
from gateway.progress import MARKS
from gateway.screen import fit, line
from schemas.errors import InvalidInput, VictoriaError

KEYS = "Alt-Enter or a \\ at the end begins a new line; ↑ brings back what was typed; Tab completes commands."
SILENCE = 3.0
"""Seconds without news after which it is asked what a run waits for."""
SHORT = 3
"""Exchanges of a session that are shown when it goes on."""


class Talk:
    """One conversation over a line."""

    def __init__(self, to: Line, wish: Wish, history: Path, *, known: bool) -> None:
        self._line, self._wish, self._known = to, wish, known
        self._turn: Turn | None = None
        self._heard_at = 0.0
        self._waiting: deque[tuple[str, datetime]] = deque()
        self._new = anyio.Event()
        self._asking = ""
        self._experts: dict[str, str] = {}
        self._strategies: dict[str, str] = {}
        self._terminal = Terminal(self._region, self._label, self._words, self._interrupted, history)
        self._typed, self._to_do = anyio.create_memory_object_stream[str](1_000)
        self._tasks: Any = None

    async def go_on(self) -> None:
        """Talk until the user leaves. Raises what keeps it from beginning."""
        self._experts, self._strategies = await self._line.experts(), await self._line.strategies()
        async with self._terminal.open(), anyio.create_task_group() as self._tasks:
            await self._greet()
            self._tasks.start_soon(self._follow)
            self._tasks.start_soon(self._obey)
            self._tasks.start_soon(self._look)
            with suppress(EOFError):
                while True:
                    self._typed.send_nowait(await self._terminal.read())
            self._tasks.cancel_scope.cancel()
        await self._part()

    # What is shown beside what stays.

    def _region(self, width: int, height: int) -> list[Styled]:
        if self._turn is None:
            return []
        lines = self._turn.region(width, height, datetime.now(UTC))
        if self._waiting:
            lines.append(Styled(fit(f"  goals that wait for their turn: {len(self._waiting)}", width), "dim"))
        return lines

    def _label(self) -> str:
        return "answer › " if self._question() else "› "

    def _question(self) -> Any:
        return self._turn.questions[0] if self._turn and self._turn.questions and not self._turn.cancelled else None

    def _words(self, begun: str) -> list[tuple[str, str]]:
        if question := self._question():
            return [(each, "") for each in question.choices if begun and each.casefold().startswith(begun.casefold())]
        for command, names in (("/expert ", self._experts), ("/strategy ", self._strategies)):
            if begun.startswith(command):
                return [
                    (command + name, what) for name, what in names.items() if name.startswith(begun[len(command) :])
                ]
        return (
            [(name, what) for name, what in commands.COMMANDS.items() if name.startswith(begun)]
            if begun[:1] == "/"
            else []
        )

    # What is typed.

    def _interrupted(self) -> bool:
        """Ctrl-C: the run under way is cancelled; whoever presses it again wants to leave."""
        if self._turn is None:
            return False
        if self._turn.cancelled:
            self._terminal.leave()
        else:
            self._turn.cancelled = True
            self._tasks.start_soon(self._safely, self._cancel, self._turn)
        return True

    async def _obey(self) -> None:
        async for text in self._to_do:
            await self._safely(self._take, text)

    async def _safely(self, work: Any, *given: Any) -> None:
        """Do it, and say what is wrong rather than end."""
        try:
            await work(*given)
        except VictoriaError as problem:
            await self._complain(problem)

    async def _take(self, text: str) -> None:
        if command := commands.parsed(text):
            await self._command(*command)
        elif question := self._question():
            await self._answer(question, text)
        elif text.strip():
            goal_submitted(text)  # before it goes anywhere
            self._waiting.append((await self._line.submit(text, self._wish), datetime.now(UTC)))
            self._known = True
            self._new.set()

    async def _answer(self, question: Any, text: str) -> None:
        if not text.strip():
            await self._terminal.show(Styled(f"? {question.text}", "bold"), Styled("  It needs an answer.", "dim"))
            return
        try:
            await self._line.answer(question.id, question.meant(text))
        except InvalidInput as problem:
            if problem.code not in ("question.closed", "question.unknown"):
                raise
            await self._terminal.show(Styled("That question needs no answer any more.", "dim"))
        if self._turn:
            self._turn.close(question)
        self._terminal.remember(answers=self._question() is not None)

    async def _command(self, name: str, given: str) -> None:
        match name:
            case "/help" | "/?" | "/":
                await self._terminal.show(Rows(commands.COMMANDS.items()), Styled(KEYS, "dim"))
            case "/quit" | "/exit":
                self._terminal.leave()
            case "/cancel" if self._turn:
                await self._cancel(self._turn)
            case "/cancel":
                await self._terminal.show(Styled("Nothing is under way.", "dim"))
            case "/status":
                await self._status()
            case "/experts":
                await self._terminal.show(_listed(self._experts, self._wish.expert))
            case "/strategies":
                await self._terminal.show(_listed(self._strategies, self._wish.strategy))
            case "/expert":
                await self._wished(name, given, "whoever fits")
            case "/strategy" if given or self._wish.strategy:
                await self._wished(name, given, "whatever fits")
            case "/strategy":
                await self._terminal.show(_listed(self._strategies, ""))
            case "/session":
                await self._session(given)
            case "/clear":
                count = await self._line.clear(self._wish.session)
                await self._terminal.show(Styled(f"{count} exchange{'' if count == 1 else 's'} forgotten", "dim"))
            case _:
                raise commands.unknown(name)

    async def _wished(self, name: str, given: str, without: str) -> None:
        self._wish = await commands.wished(self._line, self._wish, name, given) or self._wish
        await self._terminal.show(Styled(f"from now on {given or without}", "dim"))

    async def _cancel(self, turn: Turn) -> None:
        turn.cancelled = True
        self._terminal.remember(answers=False)
        try:
            await self._line.cancel(turn.run_id)
        except VictoriaError:
            turn.cancelled = False
            raise

    async def _status(self) -> None:
        lines: list[Styled] = []
        if self._turn:
            task = await self._line.task(self._turn.run_id)
            lines.append(Styled(f"run {task.task_id} {task.status}"))
            lines += [
                Styled(f"{MARKS.get(each.status, '·')} {each.id}  {each.title} · {each.status}") for each in task.steps
            ]
            lines += [Styled(f"waits for {task.waits_for}", "warn")] if task.waits_for else []
        lines += _told(await self._line.status(), self._line.leads_to)
        wishes = [f"session {self._wish.session}", self._wish.expert, self._wish.strategy, self._wish.project]
        await self._terminal.show(*lines, Styled(" · ".join(filter(None, wishes)), "dim"))

    async def _session(self, given: str) -> None:
        if not given:
            await self._terminal.show(Styled(f"session {self._wish.session}", "dim"))
        elif self._turn or self._waiting:
            raise InvalidInput("chat.busy", "A run is under way in this session.", "Wait for it, or /cancel it.")
        else:
            self._wish, self._known = (
                await commands.wished(self._line, self._wish, "/session", given) or self._wish,
                True,
            )
            await self._greet()

    async def _greet(self) -> None:
        """Say where we are, what was said last, and go on with runs that are under way."""
        found = await self._line.session(self._wish.session) if self._known else None
        head = f"Victoria at {self._line.leads_to} · session {self._wish.session} · /help"
        await self._terminal.show(Styled(head, "dim"), *(_said(found) if found else ()))
        if found and found.line:
            self._waiting.extend((run_id, datetime.now(UTC)) for run_id in found.line)
            self._new.set()

    # What happens.

    async def _follow(self) -> None:
        while True:
            while self._waiting:
                run_id, since = self._waiting.popleft()
                self._turn = Turn(run_id, since)
                await self._safely(self._through, self._turn)
                self._turn = None
                self._terminal.remember(answers=False)
            self._new = anyio.Event()
            await self._new.wait()

    async def _through(self, turn: Turn) -> None:
        self._heard_at = anyio.current_time()
        try:
            async for heard in self._line.events(turn.run_id):
                self._heard_at = anyio.current_time()
                await self._terminal.show(*turn.see(heard))
                self._terminal.remember(answers=self._question() is not None)
                if isinstance(heard.body, Ended):
                    self._turn = None  # from here on Ctrl-C leaves
                    await self._tell(heard.body)
        except VictoriaError as problem:
            found = f"Run {turn.run_id} is kept: /session {self._wish.session} finds it again."
            problem.hint = f"{problem.hint} {found}".strip()
            raise

    async def _tell(self, ended: Ended) -> None:
        lines = [Styled(""), Styled(ended.output.rstrip("\n").expandtabs(4)), Styled("")] if ended.output else []
        if ended.error and ended.error.message not in ended.output:
            lines.append(Styled(f"{ended.error.message} [{ended.error.code}] {ended.error.hint}".rstrip(), "bad"))
        lines += [Styled(note, "warn") for note in ended.knowledge.notes]
        await self._terminal.show(*lines, facts(ended), Styled(""))

    async def _look(self) -> None:
        """Where a run says nothing for a while, see why: somebody else may have answered its question."""
        while True:
            await anyio.sleep(SILENCE)
            turn = self._turn
            if turn is None or anyio.current_time() - self._heard_at < SILENCE:
                continue
            asked, since = [*turn.questions], self._heard_at
            try:
                task = await self._line.task(turn.run_id)
            except VictoriaError:  # who follows hears of it
                continue
            if asked and not (task.waiting and task.waiting.question):
                for question in asked:
                    turn.close(question)
                self._terminal.remember(answers=self._question() is not None)
            if since == self._heard_at:
                turn.trouble = "" if asked else task.waits_for

    async def _complain(self, problem: VictoriaError) -> None:
        lines = [Styled(f"{problem.message} [{problem.code}]", "bad")]
        await self._terminal.show(*lines, *([Styled(f"  {problem.hint}", "dim")] if problem.hint else []))

    async def _part(self) -> None:
        """Say how to come back, where there is anything to come back to."""
        if not self._known:
            return
        again = f"victoria chat --session {quote(self._wish.session)}"
        again += f" --url {self._line.leads_to}" if self._line.leads_to.startswith("http") else ""
        left = 1 + len(self._waiting) if self._turn else 0
        head = f"{left} run{'' if left == 1 else 's'} under way, to be found again by: " if left else "to go on: "
        await self._terminal.show(Styled(head + again, "" if left else "dim"))


def _listed(names: dict[str, str], wanted: str) -> Rows:
    return Rows([(f"{'•' if name == wanted else ' '} {name}", what) for name, what in names.items()])


def _told(about: Status, at: str) -> list[Styled]:
    """How Victoria is: what there is, and what is missing or has much to do."""
    levels = ", ".join(name for name in ("agent", "enhanced", "initiative") if getattr(about.victoria_levels, name))
    models = ", ".join(dict.fromkeys(model.name for model in about.models if model.breaker != "open"))
    lines = [Styled(f"Victoria {about.version} at {at} · {about.server} · levels {levels}")]
    lines.append(Styled(f"models {models}" if models else "no model is offered: rules alone answer"))
    # Of the inference consumers one is enough.
    idle = [stage.name for stage in about.stages if not stage.workers and not stage.name.startswith("infer.")]
    lines += [Styled(f"no worker for {', '.join(idle)}", "warn")] if idle else []
    busy = [f"{stage.name} {stage.lag}" for stage in about.stages if stage.lag]
    return [*lines, Styled(f"waiting at {', '.join(busy)}", "dim")] if busy else lines


def _said(found: SessionView) -> list[Styled]:
    lines = [Styled(f"… {len(found.said) - SHORT} exchanges before", "dim")] if len(found.said) > SHORT else []
    for said in found.said[-SHORT:]:
        lines += [Styled(f"› {line(said.user, less=3)}", "dim"), Styled(f"  {line(said.assistant, less=3)}", "dim")]
    return lines
