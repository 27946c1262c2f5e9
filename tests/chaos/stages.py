"""Victoria's own five stages with side effects that can be counted, and a scripted model (a fake: it runs nothing).

Before a stage does its own work it does three outside actions: `look`, which changes nothing; `note`, which may be
repeated; and `pay`, which must never be. Where `pay`'s outcome is unknown after a crash, understand, plan and
step-execute give their event up (a dead letter `effect.unknown`, the run ends as failed), aggregate and infer.local go
on. So both ways out are walked. After the look some events are snoozed, once by each process that gets them.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from os import getpid
from pathlib import Path
from typing import Any
from uuid import uuid4

from consumers.agents.http import Agents
from consumers.agents.load import AgentLoad
from consumers.clock import seconds_left
from consumers.delegate import Delegation
from consumers.experts.roster import Folders
from consumers.hypotheses import Hypotheses
from consumers.inference import Desk, Inference
from consumers.intake import goal_submitted
from consumers.offers import Board
from consumers.questions import Questions
from consumers.sessions import Sessions
from consumers.tools.workspace import Workspace
from consumers.topology import Parts, topology
from llm.engine import Generation
from llm.pool import Pool
from llm.scripted import ScriptedEngine
from llm.sources import Ready
from schemas.errors import OutcomeUnknown
from schemas.events import Event, GoalSubmitted, InferenceRequested
from streams.append import Publisher
from streams.connection import Client
from streams.endings import ended
from streams.journal import Journal
from streams.keys import Keys
from streams.stage import AnyStage, Context, Effects, Snooze
from streams.topology import Topology
from tests.chaos.ledger import Kind, Ledger, Line

INFERENCE = "infer.local"
STAGES = ("understand", "plan", "step-execute", "aggregate", INFERENCE)
GOES_ON = ("aggregate", INFERENCE)
"""Stages that go on after `effect.unknown`: nobody else could end their run."""
EFFECTS: tuple[tuple[str, Kind, Effects], ...] = (
    ("peek", "none", "none"),
    ("note", "repeat", "repeat"),
    ("pay", "unknown", "unknown"),
)
SNOOZED, SNOOZE = 8, 0.02
"""One of so many events is snoozed, for so many seconds."""
SLOTS = 8
SAID = "It is as the script says."
FILES = {"alpha.txt": "This is alpha.\n", "beta.txt": "This is beta.\n"}

GOALS = (
    ("Investigate it, then say what it means", SAID),
    ("What is a Redis stream?", SAID),
    ("List the files in the folder docs and read docs/beta.txt", "This is beta."),
)
"""Goals, and what the answer to each must hold: by two rounds of tools and a fusion, by one answer, by rules alone."""

Moment = Callable[[str], None]
"""Hears `before` and `after` around each outside action; it may end the process."""
_effect: ContextVar[tuple[str, str, str]] = ContextVar("_effect")


def unheard(_when: str) -> None:
    """Nobody listens."""


def goal(number: int) -> GoalSubmitted:
    """The goal of the run with this number."""
    return goal_submitted(GOALS[number % len(GOALS)][0])


def expected(number: int) -> str:
    """What the answer of the run with this number must hold."""
    return GOALS[number % len(GOALS)][1]


def project(folder: Path) -> Path:
    """A small project to read, made in `folder` unless it is there: others may be reading it."""
    docs = folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        if not (docs / name).exists():
            (docs / name).write_text(text)
    return folder


def chaos_topology(
    client: Client, keys: Keys, folder: Path, ledger: Ledger, delay: float = 0.0, moment: Moment = unheard
) -> Topology:
    """Victoria's topology with counted side effects. `delay` is seconds an answer of the model takes."""

    def script(request: Generation) -> str:
        handling, run, effect = _effect.get()
        moment("before")
        ledger.write(Line("done", handling, getpid(), run, effect, "ask"))
        moment("after")
        return _answer(request)

    engine = ScriptedEngine(script, slots=SLOTS, delay=delay)

    board, source = Board(client, keys), Ready("local", engine)
    desk = Desk(client, keys, Journal(client, keys), board)
    local = Inference("local", SLOTS, lambda: Pool([source]), desk)
    alone = Delegation(Agents({}), AgentLoad(client, keys, (), 1), partial(ended, client, keys))
    asked, left = Questions(client, keys), partial(seconds_left, client, keys)
    sessions, experts = Sessions(client, keys), Folders()
    guesses = Hypotheses(client, keys, Publisher(client, keys))
    parts = Parts(lambda _project: Workspace(folder), (local,), asked, left, sessions, alone, guesses, experts=experts)
    real = topology(parts)
    return replace(real, stages=tuple(_counted(stage, ledger, moment) for stage in real.stages))


def _counted(stage: AnyStage, ledger: Ledger, moment: Moment) -> AnyStage:
    """The same stage, its outside actions in front."""
    snoozed = set[str]()

    async def handle(event: Event, ctx: Context[Any]) -> Sequence[Event]:
        handling, pid, run = uuid4().hex, getpid(), ctx.run_id
        ledger.write(Line("begun", handling, pid, run))
        learnt: list[Line] = []  # a look is recorded together with what comes next

        for name, kind, effects in EFFECTS:

            async def act(_request: str, key: str, kind: Kind = kind) -> str:
                moment("before")
                token = uuid4().hex
                ledger.write(Line("done", handling, pid, run, key, kind, token))
                moment("after")
                return token

            key = f"{ctx.event_id}/{name}"
            try:
                token = await ctx.call(name, act, stage.name, str, effects)
            except OutcomeUnknown:
                ledger.write(Line("unknown", handling, pid, run, key, kind))
                if stage.name not in GOES_ON:
                    raise
            else:
                learnt.append(Line("recorded", handling, pid, run, key, kind, token))
            if kind != "none":
                for line in learnt:
                    ledger.write(line)
                learnt.clear()
            elif int(ctx.event_id, 16) % SNOOZED == 0 and ctx.event_id not in snoozed:
                snoozed.add(ctx.event_id)
                raise Snooze(SNOOZE)

        if isinstance(event, InferenceRequested):
            # The engine knows no effect: this tells its script for which one it answers.
            reset = _effect.set((handling, run, event.effect))
            try:
                said = await stage.handle(event, ctx)
            finally:
                _effect.reset(reset)
            ledger.write(Line("recorded", handling, pid, run, event.effect, "ask"))
            return said
        return await stage.handle(event, ctx)

    return replace(stage, handle=handle)


def _answer(request: Generation) -> str:
    user = request.messages[-1].content
    asked = str(request.schema)
    if "Understanding" in asked:
        category = "multi_step" if "nvestigate" in user else "simple"
        return f'{{"restated":"?","category":"{category}","first_step":""}}'
    if "Decomposition" in asked:
        return (
            '{"intent":"?","steps":[{"id":"1","title":"look","instruction":"Look into it.","expert":"veronica"},'
            '{"id":"2","title":"judge","instruction":"Say why.","expert":"victoria","depends_on":["1"]}]}'
        )
    if "ReadFile" in asked:
        if "list_directory:" in user:
            return f'{{"tool":"finish","thought":"","answer":"{SAID}"}}'
        return '{"tool":"list_directory","thought":"","path":"docs"}'
    return SAID
