"""A live replay: a run is done anew, with models asked again, in a place of its own.

That place is an embedded server in a folder that is removed afterwards, with the very stages of production: events,
journal and state are there, and production is not even connected to. What the run's journal has of calls is used as
long as they ask for the same; what else would act outside is refused.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, TypeVar, cast

import anyio
import msgspec

from consumers import delegate, step_execute
from consumers.topology import AFTERWARDS
from deploy.embedded import embedded, find
from deploy.loading import Loaded
from deploy.victoria import Victoria
from deploy.wiring import opened
from gateway.complain import Interrupted
from gateway.diff import diff
from gateway.interrupt import interruptible
from gateway.options import event_loop
from gateway.policies import with_policies
from gateway.progress import Progress
from gateway.screen import OUT, fit, styled
from gateway.submit import Results
from schemas.envelope import Envelope, decode
from schemas.errors import EffectFailed, InvalidInput, VictoriaError
from schemas.events import Event, GoalSubmitted, PlanProposed, QuestionAnswered, QuestionAsked, RunFinished
from schemas.plan import Limits, least_trusted
from streams.context import result_of
from streams.journal import decoded, request_hash
from streams.stage import Action, AnyStage, Context, Effects
from streams.tape import Tape

A = TypeVar("A")
R = TypeVar("R")

OUTSIDE = (step_execute.NAME, delegate.NAME)
"""Stages whose effects reach further than the server."""
REFUSED = "replay.refused"
STOPS_WITHIN = 5.0
"""Seconds in which the server of that place has stopped."""


class Side(msgspec.Struct, frozen=True):
    """One run in figures, as it was or as it would be. Times are seconds."""

    status: str = ""
    method: str = ""
    plan: tuple[str, ...] = ()
    answer: str = ""
    model: str = ""
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    events: int = 0


class WhatIf(msgspec.Struct, frozen=True):
    """A run as it was, and as it came out anew. `different` says whether plan, answer or status are; `refused` are
    effects that were not let happen; `note` says why it did not come to an end, if it did not."""

    run: str
    recorded: Side
    replayed: Side
    different: tuple[str, ...]
    refused: tuple[str, ...]
    note: str = ""

    def print(self) -> None:
        """Both side by side, then what is different in full."""
        for field in ("status", "method", "model", "calls", "tokens_in", "tokens_out", "seconds", "events"):
            then, now = getattr(self.recorded, field), getattr(self.replayed, field)
            style = "" if then == now else "yellow"
            OUT.print(styled(f"{field:<12}{fit(str(then), 30):<32}", (fit(str(now), 30), style)))
        for field in ("plan", "answer"):
            then, now = getattr(self.recorded, field), getattr(self.replayed, field)
            if then == now:
                OUT.print(f"{field:<12}the same")
                continue
            OUT.print(field)
            for text in diff(*(value.splitlines() if isinstance(value, str) else value for value in (then, now))):
                OUT.print(text, soft_wrap=True)
        for effect in self.refused:
            OUT.print(styled(("refused ", "yellow"), f"{effect}  (--allow-effects lets it happen)"))
        if self.note:
            OUT.print(styled((self.note, "yellow")), soft_wrap=True)
        OUT.print(f"{'✗ different: ' + ', '.join(self.different) if self.different else '✓ the same'}  run {self.run}")


def what_if(
    loaded: Loaded, tape: Tape, policies: Sequence[str] = (), *, allow_effects: bool, own: bool = True
) -> WhatIf:
    """Do a run anew, and compare. `policies` of stages are others, as in plan.timeout=5. What a person allowed in a run
    that is not this installation's `own` allows nothing here. Raises InvalidInput `tape.no_goal`, `stage.unknown`,
    `policy.*`."""
    goal = next((each for each in _events(tape) if isinstance(each.body, GoalSubmitted)), None)
    if goal is None:
        raise InvalidInput("tape.no_goal", "The run's goal is not there any more.", "It can't be done anew.")
    with _folder() as folder, embedded(folder) as url:
        settings = msgspec.structs.replace(loaded.settings, redis_url=url, database_url="", state_dir=folder)
        there = msgspec.structs.replace(loaded, settings=settings)
        return event_loop(lambda: _done(there, url, tape, goal, policies, allow_effects, own))


@contextmanager
def _folder() -> Generator[Path]:
    """A folder for a server, removed once that has stopped."""
    with TemporaryDirectory(prefix="victoria-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        yield folder
        give_up = monotonic() + STOPS_WITHIN
        while find(folder) and monotonic() < give_up:
            sleep(0.02)


async def _done(
    loaded: Loaded,
    url: str,
    tape: Tape,
    goal: Envelope[Any],
    policies: Sequence[str],
    allow_effects: bool,
    own: bool,
) -> WhatIf:
    refused: list[str] = []
    async with opened(loaded, url) as there:
        topology = with_policies(there.topology, policies)
        stages = tuple(_shadowed(stage, tape, refused, allow_effects) for stage in topology.stages)
        shadow = replace(there, topology=replace(topology, stages=stages))
        with Progress() as progress:
            events, problem = await _run(shadow, tape, goal, progress, approvals=own or not allow_effects)
    recorded, replayed = _side(_events(tape)), _side(events)
    fields = ("status", "plan", "answer")
    different = tuple(field for field in fields if getattr(recorded, field) != getattr(replayed, field))
    return WhatIf(tape.run, recorded, replayed, different, tuple(refused), problem)


async def _run(
    shadow: Victoria, tape: Tape, goal: Envelope[Any], progress: Progress, *, approvals: bool
) -> tuple[list[Envelope[Event]], str]:
    """The run on the shadow's server to its end, or to a question that nobody answered then: its events, and why it has
    no end. Without `approvals` nobody's of then count."""
    problem, ended = "", False
    replies = {e.body.question_id: e.body for e in _events(tape) if isinstance(e.body, QuestionAnswered)}
    wanted = [stage for stage in await shadow.needed() if stage not in AFTERWARDS]
    shadow.engines.check(await shadow.engines.wanted())
    shadow.engines.progress = progress.download
    events: list[Envelope[Event]] = []
    async with interruptible(lambda: Interrupted("interrupted", "Interrupted; nothing was changed.")):
        await shadow.ready(wanted)
        results = await Results.from_now(shadow)
        worker = shadow.worker(wanted)
        async with anyio.create_task_group() as tasks:
            await tasks.start(worker.run)
            await shadow.require_model()
            await shadow.publisher.publish(
                [(tape.run, goal.body)],
                shadow.topology.entries[GoalSubmitted],
                least_trusted(goal.trust, "user"),
                _limits(goal),
            )
            while not (ended or problem):
                for seen in await results.next():
                    if seen.envelope is None:
                        continue
                    progress.waiting(type(seen.envelope.body).__name__)
                    match seen.envelope.body:
                        case RunFinished():
                            ended = True
                        case QuestionAsked() as asked if asked.question_id in replies and (
                            approvals or not asked.approval
                        ):
                            answer = replies[asked.question_id]
                            await shadow.publisher.add(tape.run, answer, "aggregate", about=answer.question_id)
                        case QuestionAsked() as asked:
                            problem = f"It asks what nobody answered then: {asked.question}"
                            if asked.approval and not approvals:
                                problem = f"It asks what a file can't allow: {asked.question}"
                        case _:
                            pass
            worker.stop()
        for stream in shadow.topology.streams():
            for partition in shadow.keys.of_stream(stream):
                for _, fields in await cast("Any", shadow.client).xrange(shadow.keys.stream(partition, stream)):
                    events.append(decode(fields[b"type"].decode(), fields[b"event"]))
    return events, problem


def _limits(goal: Envelope[Any]) -> Limits | None:
    """Those of the run, its time anew."""
    limits = goal.limits
    if limits is None or limits.ends is None:
        return limits
    left = max(limits.ends - goal.at, timedelta(seconds=1))
    return msgspec.structs.replace(limits, ends=datetime.now(UTC) + left)


def _shadowed(stage: AnyStage, tape: Tape, refused: list[str], allow_effects: bool) -> AnyStage:
    """The same stage; what it called before is taken from the tape, and what acts outside is refused."""
    outside = stage.name in OUTSIDE and not allow_effects

    async def handle(event: Event, ctx: Context[Any]) -> Sequence[Event]:
        return await stage.handle(event, cast("Context[Any]", _Shadow(ctx, tape.effects, refused, outside)))

    return replace(stage, handle=handle)


class _Shadow:
    """A live context whose calls are looked up first."""

    def __init__(self, ctx: Context[Any], effects: Mapping[str, bytes], refused: list[str], outside: bool) -> None:
        self.__dict__["_live"] = (ctx, effects, refused, outside)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._live[0], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._live[0], name, value)

    async def call(self, name: str, action: Action[A, R], request: A, returns: type[R], effects: Effects = "none") -> R:
        """What the tape has for this very request; else it is done, if it may be."""
        ctx, taped, refused, outside = self._live
        data, hashed = taped.get(f"{ctx.event_id}/{name}"), request_hash([request])

        async def act(asked: A, key: str) -> R:
            if data and (record := decoded(data)).request == hashed:
                try:
                    return msgspec.json.decode(result_of(record, hashed, key), type=returns)
                except EffectFailed as problem:
                    raise _Failed(problem.code, problem.message, problem.hint) from None
            if effects != "none" and outside:
                what = f"{name} {msgspec.json.encode(request).decode()[:200]}"
                refused.append(what)
                raise _Failed(REFUSED, f"A replay does not act outside: {what}", "--allow-effects")
            return await action(asked, key)

        return await ctx.call(name, act, request, returns, effects)


class _Failed(VictoriaError):
    """What an action ended with, or that it was not let begin."""


def _events(tape: Tape) -> list[Envelope[Event]]:
    found: list[Envelope[Event]] = []
    for entry in tape.entries:
        try:
            found.append(decode(entry.type, bytes(entry.event)))
        except InvalidInput:
            continue
    return found


def _side(events: Sequence[Envelope[Event]]) -> Side:
    plans = [each.body.plan for each in events if isinstance(each.body, PlanProposed)]
    steps = tuple(f"{step.how} {step.expert}: {step.title}".replace(" :", ":") for plan in plans for step in plan.steps)
    end = next((each.body for each in events if isinstance(each.body, RunFinished)), None)
    if end is None:
        return Side(plan=steps, events=len(events))
    meta = end.metadata
    return Side(
        end.status,
        end.method,
        steps,
        end.output,
        meta.model,
        meta.calls,
        meta.tokens_in,
        meta.tokens_out,
        round(meta.seconds, 3),
        len({each.id for each in events}),
    )
