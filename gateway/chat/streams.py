"""A chat straight on the streams, beside the workers."""

from collections.abc import AsyncIterator

import anyio

from consumers.questions import checked_answer
from consumers.sessions import SessionView
from deploy.victoria import Victoria
from gateway.chat.line import Ended, Heard, Wish
from gateway.http.bodies import TaskView
from gateway.http.health import Status, look, status_of
from gateway.http.people import experts_of, strategies_of
from gateway.standing import Standings
from gateway.submit import Results, accepted
from schemas.envelope import Envelope
from schemas.errors import InvalidInput
from schemas.events import AnswerProgressed, RunFinished, RunProgressed
from streams.connection import masked, reachable

SKEW = 10_000
"""Milliseconds by which the clock of a run's door may be ahead of the server's."""
LOOK_AGAIN = 5.0
"""Seconds between looks whether a run has ended whose end is nowhere to be read: it may have been trimmed."""
COMING = 5.0
"""Seconds in which a question that was told of is in its run's state."""


class OnStreams:
    """The line that leads to the server's streams."""

    def __init__(self, victoria: Victoria) -> None:
        self._victoria = victoria

    @property
    def leads_to(self) -> str:
        """The server's address."""
        return masked(self._victoria.settings.redis_url) or "its embedded server"

    async def submit(self, goal: str, wish: Wish) -> str:
        """As Line says."""
        taken = accepted(self._victoria, goal, wish.project, wish.session, wish.strategy, wish.expert)
        await self._victoria.submit([(taken.run_id, taken.goal)], self._victoria.limits())
        return taken.run_id

    async def events(self, run_id: str) -> AsyncIterator[Heard]:
        """As Line says. The results are read from the run's beginning on, so any run can be taken up."""
        victoria, keys, agent = self._victoria, self._victoria.keys, self._victoria.settings.agent
        with reachable(victoria.url):
            began = int((await victoria.view(run_id)).submitted_at.timestamp() * 1000) - SKEW
        stream = keys.stream(keys.of_run(run_id), "results")
        results = Results(victoria, {stream: f"{max(began, 0)}-0", keys.feed(run_id): "0-0"})
        look_at = anyio.current_time()
        while True:
            batch = await results.next()
            for seen in sorted(batch, key=lambda each: [int(part) for part in each.id.split("-")]):
                match seen.envelope:
                    case Envelope(run=of, body=RunProgressed() | AnswerProgressed() as body, at=at) if of == run_id:
                        yield Heard(at, body)
                    case Envelope(run=of, body=RunFinished() as end, at=at) if of == run_id:
                        yield Heard(at, Ended.of(run_id, end, agent))
                        return
                    case _:
                        pass
            if not batch and anyio.current_time() - look_at > LOOK_AGAIN:
                look_at = anyio.current_time()
                with reachable(victoria.url):
                    view = await victoria.view(run_id)
                if view.finished:
                    yield Heard(view.submitted_at, Ended.of(run_id, view.finished, agent))
                    return

    async def cancel(self, run_id: str) -> None:
        """As Line says."""
        await self._victoria.cancel(run_id, "The user cancelled it.")

    async def answer(self, question_id: str, text: str) -> None:
        """As Line says."""
        with reachable(self._victoria.url), anyio.move_on_after(COMING):
            while True:
                try:
                    found = await self._victoria.questions.find(question_id)
                except InvalidInput as problem:
                    if problem.code != "question.unknown":
                        raise
                    await anyio.sleep(0.05)
                else:
                    await self._victoria.answer(found, checked_answer(found.asking, text))
                    return
        raise InvalidInput("question.unknown", f"There is no question {question_id[:120]!r}.")

    async def task(self, run_id: str) -> TaskView:
        """As Line says."""
        with reachable(self._victoria.url):
            return TaskView.of(await Standings(self._victoria).of(run_id), self._victoria.settings.agent)

    async def status(self) -> Status:
        """As Line says."""
        with reachable(self._victoria.url):
            return status_of(self._victoria, await look(self._victoria), self._victoria.settings.agent, 0)

    async def experts(self) -> dict[str, str]:
        """As Line says."""
        return {each.name: f"{each.display_name}, {each.title}" for each in experts_of(self._victoria.settings)}

    async def strategies(self) -> dict[str, str]:
        """As Line says."""
        return {each.name: each.description for each in strategies_of(self._victoria.settings)}

    async def session(self, session: str) -> SessionView | None:
        """As Line says."""
        with reachable(self._victoria.url):
            return await self._victoria.sessions.show(session)

    async def clear(self, session: str) -> int:
        """As Line says."""
        with reachable(self._victoria.url):
            return await self._victoria.sessions.clear(session)
