"""A stage that asks, and inference consumers as the settings make them, on a test's streams."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio

from consumers.inference import Desk
from consumers.offers import Board, OfferRouter
from deploy.engines import Engines
from deploy.settings import Settings
from llm.engine import Engine
from llm.models import Backend, Offer
from llm.pool import Pool
from schemas.errors import EffectFailed, ErrorInfo
from schemas.events import Event, GoalSubmitted
from schemas.inference import Question
from streams.connection import Client
from streams.journal import Journal, Record
from streams.keys import Keys
from streams.stage import Policy
from streams.worker import Terms
from tests.workshop import Workshop, eventually, intake_stage, understood

PATIENT = Policy(attempts=3, timeout=900, concurrency=256)
NAME = "question"


class Said(NamedTuple):
    """What a stage got for its question: an answer, or why there is none; and the tries it took."""

    question: Question[Any]
    answer: Any
    error: ErrorInfo | None
    tries: Sequence[Record]

    @property
    def node(self) -> str:
        """The server that answered last."""
        return self.tries[-1].usage.node


class Room(Workshop):
    """Ask questions of real engines."""

    def __init__(self, client: Client, keys: Keys) -> None:
        super().__init__(client, keys)
        self.board = Board(client, keys)
        self.journal = Journal(client, keys)
        self._said: dict[str, Said] = {}
        self._questions: list[Question[Any]] = []

    @asynccontextmanager
    async def asking(
        self, *backends: Backend, seconds: float = 300, engine: Engine | None = None, **settings: Any
    ) -> AsyncGenerator[dict[Backend, Pool]]:
        """Inside, these back ends' consumers are at work, and a stage that asks them; their pools. `engine` is taken
        instead of that of the settings, `seconds` is how long a question may take."""
        desk = Desk(self.client, self.keys, self.journal, self.board, hold=5)
        engines = Engines(Settings(**settings), desk)
        if engine:
            engines.use(backends[0], engine)
        consumers = [engines.consumers[backend] for backend in backends]
        stages = [intake_stage(self._ask, PATIENT), *(stage for each in consumers for stage in each.stages())]
        router = OfferRouter(self.board, engines.wish, engines.priority)
        terms = Terms(lease=5, grace=5, model_timeout=seconds)
        try:
            await engines.load(backends)
            companions = [each.attend for each in consumers]
            async with self.working(*stages, router=router, terms=terms, companions=companions):
                yield {backend: engines.consumers[backend].pool for backend in backends}
        finally:
            with anyio.CancelScope(shield=True):
                await engines.close()

    async def put(self, *questions: Question[Any]) -> list[str]:
        """Have a stage ask these, a run each; the runs."""
        first = len(self._questions)
        self._questions += questions
        runs = [f"run-{number}" for number in range(first, len(self._questions))]
        goals = [(run, GoalSubmitted(goal=run.removeprefix("run-"))) for run in runs]
        await self.publisher.publish(goals, "intake")
        return runs

    async def heard(self, *runs: str, within: float = 120) -> list[Said]:
        """Wait until the stage has got something for the questions of these runs."""

        async def all_said() -> bool:
            return all(run in self._said for run in runs)

        await eventually(all_said, within)
        return [self._said[run] for run in runs]

    async def ask(self, *questions: Question[Any], within: float = 120) -> list[Said]:
        """`put`, and what is `heard`."""
        return await self.heard(*await self.put(*questions), within=within)

    async def begun(self, run: str, within: float = 60) -> None:
        """Wait until the answer's first words have come: an engine is in the middle of it."""

        async def speaks() -> bool:
            return await self.client.exists(self.keys.feed(run))

        await eventually(speaks, within)

    async def offers(self) -> list[Offer]:
        """What is offered now."""
        return await self.board.offers(fresh=True)

    async def _ask(self, event: GoalSubmitted, ctx: Any) -> Sequence[Event]:
        question = self._questions[int(event.goal)]
        answer, error = None, None
        try:
            answer = await ctx.ask(NAME, question)
        except EffectFailed as problem:
            error = problem.info
        records = await self.journal.everything(ctx.run_id)
        tries = [records[effect] for effect in sorted(records)]
        self._said[ctx.run_id] = Said(question, answer, error, tries)
        return [understood(event.goal)]
