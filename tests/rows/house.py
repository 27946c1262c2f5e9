"""A whole Victoria for a test: every stage as the settings wire it, on a real server, with a scripted model.

The model is a fake that says what the test has it say; all else is what runs in production.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import anyio
import msgspec

from consumers.experts.expert import FOLDER, Expert
from consumers.experts.roster import Folders
from consumers.intake import goal_submitted
from deploy.loading import load
from deploy.victoria import Victoria
from deploy.wiring import opened
from llm.engine import Generation
from llm.prompts import names, prompt
from llm.scripted import ScriptedEngine
from schemas.errors import ModelFailed
from schemas.events import Event, Exchange, RunFinished
from schemas.plan import Limits
from streams.follow import Seen, seen
from tests.workshop import eventually

E = TypeVar("E", bound=Event)
FILES = {"README.md": "# A small project\n", "docs/alpha.txt": "This is alpha.\n", "docs/beta.txt": "This is beta.\n"}
FOLDERS = ("experts_dir", "strategies_dir", "tools_dir", "state_dir")
PROMPTS = tuple(prompt(name) for name in names())


class Asked(NamedTuple):
    """What the model was asked: the prompt's name, its two messages, and its answer's schema."""

    prompt: str
    system: str
    user: str
    schema: Mapping[str, Any] | None


Reply = str | Mapping[str, Any] | Exception
Says = Reply | Callable[[Asked], Reply]
"""What is always said, or made of what is asked. A mapping is said as JSON."""


def in_turn(*says: Says) -> Says:
    """The first to the first question, and so on; further ones are refused."""
    left = iter(says)

    def said(asked: Asked) -> Reply:
        following = next(left, ModelFailed("model.refused", f"The test has no more for {asked.prompt!r}."))
        return following(asked) if callable(following) else following

    return said


def act(tool: str, **arguments: str) -> Reply:
    """An action of a loop, as a model says it."""
    return {"tool": tool, "thought": "", **arguments}


def finish(answer: str) -> Reply:
    """The last action of a loop."""
    return act("finish", answer=answer)


def step(id_: str, instruction: str, expert: str = "backend", *needs: str) -> dict[str, Any]:
    """A step as a model proposes it."""
    return {"id": id_, "title": f"Step {id_}", "instruction": instruction, "expert": expert, "depends_on": needs}


def decomposition(*steps: Mapping[str, Any], aggregate: bool = True) -> Reply:
    """A plan as a model proposes it."""
    return {"intent": "what is wanted", "steps": steps, "aggregate": aggregate}


@dataclass
class Model:
    """Says for each prompt, by its file's name, what it is to say. What it has nothing for, it refuses."""

    says: Mapping[str, Says]
    delay: float = 0.0
    asked: list[Asked] = field(default_factory=list[Asked])

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self._reply, slots=8, delay=self.delay)

    def _reply(self, request: Generation) -> str | Exception:
        if len(request.messages) == 1:
            return "Hi."  # a trial, of an engine that had failed
        system, user = (message.content for message in request.messages)
        name = next(each.name for each in PROMPTS if system.startswith(each.system))
        asked = Asked(name, system, user, request.schema)
        self.asked.append(asked)
        said = self.says.get(name, ModelFailed("model.refused", f"The test has nothing to say to {name!r}."))
        if callable(said):
            said = said(asked)
        return said if isinstance(said, str | Exception) else msgspec.json.encode(said).decode()


@dataclass
class House:
    """A Victoria at work, in a small project's folder."""

    victoria: Victoria
    folder: Path
    model: Model

    @property
    def asked(self) -> list[str]:
        """The names of the prompts the model was asked, in turn."""
        return [each.prompt for each in self.model.asked]

    def heard(self, name: str) -> list[Asked]:
        """What the model was asked by one prompt."""
        return [each for each in self.model.asked if each.prompt == name]

    def expert(self, name: str) -> Expert:
        """An expert there is."""
        return Folders(FOLDER).roster().experts[name]

    async def submit(
        self,
        goal: str,
        run_id: str = "",
        *,
        limits: Limits | None = None,
        session: str = "",
        history: tuple[Exchange, ...] = (),
        **fields: Any,
    ) -> str:
        """Publish a goal; its run's id. `fields` are further ones of GoalSubmitted."""
        run_id = run_id or f"run-{uuid4().hex[:8]}"
        submitted = goal_submitted(goal, self.victoria.projects.main, session, history)
        await self.victoria.submit([(run_id, msgspec.structs.replace(submitted, **fields))], limits)
        return run_id

    async def publish(self, run_id: str, event: Event, stream: str) -> None:
        """Publish an event of a run from outside."""
        await self.victoria.publisher.add(run_id, event, stream)

    async def run(self, goal: str, **fields: Any) -> RunFinished:
        """Submit a goal and wait for its end."""
        return await self.end(await self.submit(goal, **fields))

    async def end(self, run_id: str, within: float = 20.0) -> RunFinished:
        """Wait for a run's end."""
        return await self.said(run_id, RunFinished, within=within)

    async def said(self, run_id: str, kind: type[E], number: int = 1, within: float = 20.0) -> E:
        """Wait for a run's first event of a kind, or its `number`th."""
        found: list[E] = []

        async def there() -> bool:
            found[:] = await self.events(run_id, kind)
            return len(found) >= number

        await eventually(there, within)
        return found[number - 1]

    async def waits(self, run_id: str) -> bool:
        """Whether a run waits for a person."""
        return (await self.victoria.view(run_id)).status == "waiting"

    async def events(self, run_id: str, kind: type[E] = Event) -> list[E]:
        """A run's events of a kind, by default all, on all streams, as they came."""
        envelopes = (each.envelope for each in await self.entries(run_id))
        return [each.body for each in envelopes if each and isinstance(each.body, kind)]

    async def at(self, run_id: str, kind: type[Event]) -> tuple[int, ...]:
        """When a run's first event of a kind came onto its stream, by the server's clock."""
        entries = await self.entries(run_id)
        return next(_place(each) for each in entries if each.envelope and isinstance(each.envelope.body, kind))

    async def entries(self, run_id: str) -> list[Seen]:
        """All entries of a run, of whatever stream, as they came."""
        v, client = self.victoria, _any(self.victoria.client)
        reads = [stage.reads for stage in v.topology.stages]
        found: list[Seen] = []
        for stream in dict.fromkeys((*v.topology.entries.values(), *reads, "results")):
            for partition in v.keys.of_stream(stream):
                rows = await client.xrange(v.keys.stream(partition, stream))
                found += [seen(stream, entry_id, fields) for entry_id, fields in rows]
        own = [each for each in found if each.envelope and each.envelope.run == run_id]
        return sorted(own, key=_place)


@asynccontextmanager
async def at_work(
    url: str,
    prefix: str,
    folder: Path,
    says: Mapping[str, Says] | None,
    *,
    delay: float = 0.0,
    measured: bool = False,
    **settings: Any,
) -> AsyncGenerator[House]:
    """Inside, a worker runs all stages these settings need, in a project in `folder`. `says` is what the model says,
    None for no model."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    own = {name: str(folder.parent / f"{folder.name}-{name}") for name in FOLDERS}
    # Answers are found anew: what a test tells of the way to them holds the second time as well.
    own["answer_cache"] = "0"
    chosen = {"redis_url": url, "prefix": prefix, "grace": "1", "model": "none" if says is None else "local"}
    async with opened(load({**own, **chosen, **settings}, {}, folder), url, measured=measured) as victoria:
        model = Model(says or {}, delay)
        if says is not None:
            victoria.engines.use("local", model.engine)
        worker = victoria.worker(await victoria.needed())
        async with anyio.create_task_group() as tasks:
            await tasks.start(worker.run)
            yield House(victoria, folder, model)
            worker.stop()


def _place(entry: Seen) -> tuple[int, ...]:
    return tuple(map(int, entry.id.split("-")))


def _any(client: Any) -> Any:
    return client  # tests use commands whose types the client leaves open
