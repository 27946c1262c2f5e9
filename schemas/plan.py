"""Values that events carry: understanding, plan, steps, usage."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

Category = Literal["simple", "investigate", "multi_step"]
TaskKind = Literal["fast", "coding", "general", "reasoning", "planning", "execution", "complex"]
StepStatus = Literal["pending", "running", "ok", "partial", "failed", "blocked", "skipped", "waiting"]
RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
Source = Literal["rules", "tool", "model", "agent"]
"""Who made an answer."""
Trust = Literal["operator", "user", "model", "tool"]
"""Where content comes from, most trusted first."""
Verdict = Literal["confirmed", "refuted", "open"]
"""What becomes of a hypothesis."""
_TRUST: tuple[Trust, ...] = ("operator", "user", "model", "tool")


def least_trusted(one: Trust, other: Trust) -> Trust:
    """The less trusted of two labels: what is made of both deserves no more."""
    return one if _TRUST.index(one) >= _TRUST.index(other) else other


Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone: one without could not be compared with the server's."""
MOST = 1_000_000_000_000
"""The highest limit: of numbers a thousand times as large a script still knows each one."""


class Usage(msgspec.Struct, frozen=True):
    """What model calls cost. Durations are seconds.

    `cached` counts those of `tokens_in` that an engine had in a cache and did not read again, 0 where it doesn't say.
    `model` is the one that answered last, or with no `calls` the one that gave no answer; `node` is its server,
    `host:port`, or `engine@host` for engines in their consumer's process.
    """

    model: str = ""
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    cached: int = 0
    node: str = ""

    def __add__(self, other: "Usage") -> "Usage":
        last = other if other.calls or not self.calls else self
        return Usage(
            model=last.model,
            calls=self.calls + other.calls,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            seconds=self.seconds + other.seconds,
            cached=self.cached + other.cached,
            node=last.node,
        )


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run may cost: tokens and calls of models, 0 for any number, and when it must have ended. An `unattended`
    one asks no person anything: nobody is there to answer. What one in the `background` asks models comes behind what
    others do. `validates` is the hypothesis that hears of its end. `model` is the one to ask, named as in the settings,
    "" for any."""

    tokens: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 0
    calls: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 0
    ends: Moment | None = None
    unattended: bool = False
    background: bool = False
    validates: Annotated[str, msgspec.Meta(max_length=80)] = ""
    model: str = ""


class Spent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage's share of a run: when its event was said, and its model usage."""

    stage: str
    at: Moment
    usage: Usage = Usage()


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool by name with its arguments, JSON values, before it is checked against the registry."""

    tool: str
    arguments: dict[str, Any] = {}


class Seen(msgspec.Struct, frozen=True):
    """What a tool gave, by its hash: the same call shows whether that still holds."""

    call: ToolCall
    digest: str


class Known(msgspec.Struct, frozen=True):
    """Where an answer was known from: the run that found it, and when that was."""

    run: str
    at: Moment


Caching = Literal["use", "renew", "off"]
"""Whether a known answer is given and a new one kept, it is made anew and kept, or neither."""
How = Literal["tool", "answer", "think", "react", "vote", "choose"]
"""How a step is carried out: by its sure tool call; by one answer of a model; by its thoughts, at length; by a loop of
thinking and acting; by a short answer that others are counted against; by the choice of the best of its inputs."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a plan.

    `expert` does it, at `agent`'s if that is named, and has `capability` for it. `depends_on` holds ids of steps of the
    same plan: all of them must have gone well, or, where `any_input`, one of them once all have ended. `call` is a tool
    call that rules are sure of. What an `inner` step gives only feeds others: it is no part of the answer.
    """

    id: str
    title: str
    instruction: str
    how: How = "react"
    expert: str = ""
    agent: str = ""
    capability: str = ""
    depends_on: tuple[str, ...] = ()
    any_input: bool = False
    expected: str = ""
    call: ToolCall | None = None
    inner: bool = False


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checked plan. `strategy` shaped its steps; `notes` say what was repaired, or why it is empty.

    With `aggregate`, several answers are fused into one. Once `quorum` of the steps that vote agree, the other ones
    are skipped. Of a `revisable` plan, what is left may be planned again.
    """

    strategy: str
    steps: tuple[Step, ...] = ()
    aggregate: bool = False
    quorum: int = 0
    revisable: bool = False
    notes: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a step had come when it had to wait, or was handed on: what it needs to go on elsewhere.

    `observations` are what its tools gave, `calls` the calls made, as JSON, `tools` their names, `best` its best answer
    so far. `pending` is the call, as JSON, that waits for a person's answer. `sources` are what it rests on, None where
    that can't be looked at again.
    """

    rounds: int = 0
    observations: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    best: str = ""
    pending: str = ""
    sources: tuple[Seen, ...] | None = None


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that has ended, for those who plan what is left."""

    step: Step
    status: StepStatus
    output: str = ""
    error: str = ""
