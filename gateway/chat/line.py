"""What a chat needs of Victoria, by whatever way it gets there."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from consumers.sessions import SessionView
from gateway.http.bodies import Knowledge, TaskView
from gateway.http.health import Status
from schemas.errors import ErrorInfo
from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from schemas.plan import RunStatus


class Wish(msgspec.Struct, frozen=True):
    """What is said along with every goal of a chat; "" is whatever fits."""

    session: str
    strategy: str = ""
    expert: str = ""
    project: str = ""


class Ended(msgspec.Struct, frozen=True):
    """A run's end, and how its answer came about. What `--json` prints."""

    task_id: str
    status: RunStatus
    output: str
    knowledge: Knowledge
    error: ErrorInfo | None = None

    @classmethod
    def of(cls, run_id: str, end: RunFinished, agent: str) -> "Ended":
        """That of an event."""
        return cls(run_id, end.status, end.output, Knowledge.of(run_id, end, agent), end.error)


class Away(msgspec.Struct, frozen=True):
    """Nothing can be heard of a run for now. It is tried again."""

    why: str


class Heard(NamedTuple):
    """Something that happened in a run, and when."""

    at: datetime
    body: RunProgressed | AnswerProgressed | Ended | Away


class Line(Protocol):
    """A way to Victoria. Everything raises NotReachable where it stays away, and InvalidInput for what can't be."""

    @property
    def leads_to(self) -> str:
        """The server's address, without a password."""
        ...

    async def submit(self, goal: str, wish: Wish) -> str:
        """Publish a goal, once; its run's id. Raises Overloaded where too many wait."""
        ...

    def events(self, run_id: str) -> AsyncIterator[Heard]:
        """All that happens in a run from its beginning to its end, which is an Ended. Raises `run.unknown`."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask for a run's end, which its events then tell."""
        ...

    async def answer(self, question_id: str, text: str) -> None:
        """Answer a question. Raises `question.closed`, `question.unknown`, `answer.choice` and others."""
        ...

    async def task(self, run_id: str) -> TaskView:
        """Where a run stands, and what it waits for. Raises `run.unknown`."""
        ...

    async def status(self) -> Status:
        """What `GET /status` says."""
        ...

    async def experts(self) -> dict[str, str]:
        """Who can be wanted for a goal: names, and who that is."""
        ...

    async def strategies(self) -> dict[str, str]:
        """The shapes a plan can have: names, and what they are."""
        ...

    async def session(self, session: str) -> SessionView | None:
        """What was said in a session and the runs in its line, if anything is known of it."""
        ...

    async def clear(self, session: str) -> int:
        """Forget what was said in a session; how many exchanges."""
        ...
