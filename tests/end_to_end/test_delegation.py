"""Two Victorias, each with processes, streams and a model of its own: one has steps done by the other, over HTTP."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from schemas.events import CancelRequested, Event, GoalSubmitted, RunFinished
from streams.connection import Client
from streams.keys import Keys
from tests.consumers.agents import Script, endless, fake_agent, says, sends
from tests.end_to_end.conftest import Processes
from tests.llm.fake_ollama import Body, FakeOllama, Reply, fake_ollama
from tests.workshop import Workshop, eventually, wipe

STAGES = ("understand", "plan", "step-execute", "aggregate", "clock")
GOAL = "Copy the old files into another folder"
"""What Veronica is best at, and no rule does."""


async def ends(workshop: Workshop, run: str = "") -> list[RunFinished]:
    """The ends of all runs, or of one."""
    said = [entry.envelope for entry in await workshop.entries("results") if entry.envelope]
    return [each.body for each in said if isinstance(each.body, RunFinished) and run in ("", each.run)]


class Veronica:
    """An installation of its own, on its own streams; what its model is asked waits until it is `free`."""

    def __init__(self, workshop: Workshop, ollama: FakeOllama, environ: dict[str, str], project: Any) -> None:
        self.workshop, self.ollama, self.project = workshop, ollama, project
        self.free = asyncio.Event()
        self.asked = 0
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        ollama.scripts["/api/chat"] = self._chat
        self.environ = environ | {
            "VICTORIA_PREFIX": workshop.keys.prefix,
            "VICTORIA_AGENT": "veronica",
            "VICTORIA_MODEL": "ollama",
            "OLLAMA_HOSTS": ollama.url,
        }

    async def _chat(self, reply: Reply, body: Body) -> None:
        await reply.begin()
        if body["messages"][-1]["content"] and "format" not in body:
            self.asked += 1
            await self.free.wait()
        await reply.say("Veronica did it.")
        await reply.done()

    async def open(self, **environ: str) -> None:
        """Start it, and wait for its door."""
        command = (sys.executable, "-m", "gateway.cli", "serve", "--port", "0")
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=self.project, env=self.environ | environ, stderr=asyncio.subprocess.PIPE
        )
        assert self.process.stderr
        with anyio.fail_after(60):
            while not (found := re.search(rb"ready: (http://\S+);", line := await self.process.stderr.readline())):
                assert line, "it ended"
        self.url = found[1].decode()

    async def works(self) -> None:
        """Start all its stages without a door."""
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "up"),
            cwd=self.project,
            env=self.environ,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def goals(self) -> list[Event]:
        """What it was given to do. What had to wait for a model stands on the stream again, under its old id."""
        given = [entry.envelope for entry in await self.workshop.entries("intake") if entry.envelope]
        return list({each.id: each.body for each in given}.values())

    async def at_work(self) -> bool:
        return bool(self.asked)

    async def ended(self) -> list[RunFinished]:
        return await ends(self.workshop)


@pytest.fixture
async def veronica(processes: Processes, client: Client, prefix: str) -> AsyncIterator[Veronica]:
    far = f"{prefix}-far"
    async with fake_ollama() as ollama:
        one = Veronica(Workshop(client, Keys(far)), ollama, processes.environ, processes.project)
        yield one
        await one.kill()
    await wipe(client, far)


class Victoria:
    """The one who delegates: without a model, so that what is done here can be told from what is done there."""

    def __init__(self, processes: Processes) -> None:
        self.processes, self.workshop = processes, processes.workshop

    async def work(self, url: str, *, apart: bool = False, **environ: str) -> None:
        """Start all stages in one process, or `delegate` in one of its own."""
        self.processes.environ |= {"VICTORIA_MODEL": "none", "VERONICA_URL": url, **environ}
        if apart:
            self.processes.start(*STAGES)
            self.processes.start("delegate")
        else:
            self.processes.start(*STAGES, "delegate")
        await self.processes.ready(*STAGES, "delegate")

    async def runs(self, number: int = 0) -> None:
        """Have a run begin."""
        await self.workshop.publisher.publish([(f"run-{number}", GoalSubmitted(goal=GOAL))], "intake")

    async def forgive(self) -> None:
        """Let Veronica not be passed over for what she did before."""
        await self.workshop.client.delete(self.workshop.keys.works("veronica"))

    async def end(self, number: int = 0) -> RunFinished:
        """Its one end."""

        async def found() -> list[RunFinished]:
            return await ends(self.workshop, f"run-{number}")

        await eventually(found, within=30)
        (end,) = await found()
        return end


@pytest.fixture
def victoria(processes: Processes) -> Victoria:
    return Victoria(processes)


async def test_another_victoria_does_the_step_and_is_named(victoria: Victoria, veronica: Veronica) -> None:
    veronica.free.set()
    await veronica.open()
    await victoria.work(veronica.url)
    await victoria.runs()
    end = await victoria.end()
    assert (end.status, end.output) == ("completed", "Veronica did it.")
    assert (end.metadata.delegated_to, end.metadata.source, end.metadata.model) == ("veronica", "agent", "m:latest")
    assert end.metadata.steps[0].agent == "veronica"
    assert end.metadata.tokens_out > 0, "what it took there counts here"
    (given,) = await veronica.goals()
    assert isinstance(given, GoalSubmitted)
    assert (given.goal, given.delegated_by) == (GOAL, "victoria")


async def test_what_was_delegated_is_not_delegated_back(victoria: Victoria, veronica: Veronica) -> None:
    veronica.free.set()
    async with fake_agent() as third:
        await veronica.open(VICTORIA_URL=third.url, VICTORIA_AGENTS=f"veronica={third.url}")
        await victoria.work(veronica.url)
        await victoria.runs()
        assert (await victoria.end()).output == "Veronica did it."
    assert third.asked == []


@pytest.mark.heavy
async def test_a_killed_delegate_is_replaced_and_the_work_done_once(victoria: Victoria, veronica: Veronica) -> None:
    await veronica.open()
    await victoria.work(veronica.url, apart=True)
    await victoria.runs()
    await eventually(veronica.at_work, within=30)
    victoria.processes.running["delegate"].kill()
    victoria.processes.running["delegate"].wait()
    victoria.processes.start("delegate")
    veronica.free.set()
    end = await victoria.end()
    assert (end.output, end.metadata.delegated_to) == ("Veronica did it.", "veronica")
    assert len(await veronica.goals()) == 1
    assert veronica.asked == 1


async def test_cancelling_the_run_cancels_the_work_there(victoria: Victoria, veronica: Veronica) -> None:
    await veronica.open()
    await victoria.work(veronica.url)
    await victoria.runs()
    await eventually(veronica.at_work, within=30)
    await victoria.workshop.publisher.add("run-0", CancelRequested(), "aggregate")
    assert (await victoria.end()).status == "cancelled"
    await eventually(veronica.ended)
    assert [end.status for end in await veronica.ended()] == ["cancelled"]


@pytest.mark.heavy
async def test_when_it_takes_too_long_it_is_stopped_there_and_the_run_goes_on_here(
    victoria: Victoria, veronica: Veronica
) -> None:
    await veronica.open()
    await victoria.work(veronica.url, VICTORIA_DELEGATE_TIMEOUT="3")
    await victoria.runs()
    end = await victoria.end()
    assert (end.status, end.metadata.delegated_to) == ("completed", None)
    assert "not ready within 3 s" in " ".join(end.metadata.notes)
    await eventually(veronica.ended)
    assert [end.status for end in await veronica.ended()] == ["cancelled"]


async def test_when_it_dies_in_mid_work_the_run_goes_on_here(victoria: Victoria, veronica: Veronica) -> None:
    await veronica.open()
    await victoria.work(veronica.url)
    await victoria.runs()
    await eventually(veronica.at_work, within=30)
    await veronica.kill()
    end = await victoria.end()
    assert (end.status, end.metadata.delegated_to) == ("completed", None)
    assert "went away in mid-work" in " ".join(end.metadata.notes)
    veronica.free.set()
    await veronica.works()
    await eventually(veronica.ended, within=30)
    assert [end.status for end in await veronica.ended()] == ["cancelled"], "what is done here goes on nowhere else"


BAD: dict[str, tuple[Script, str]] = {
    "500": (says({}, 500), "status 500"),
    "hang": (sends(hold=True), "not ready within"),
    "garbage": (says(b"\xff<html>"), "no answer"),
    "no end": (endless, "more than"),
    "disappears": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "went away"),
    "failed": (says({"status": "error", "output": "no", "knowledge": {}}), "could not do it: no"),
}


@pytest.mark.heavy
async def test_whatever_an_agent_does_instead_the_run_ends_here(victoria: Victoria) -> None:
    async with fake_agent() as agent:
        await victoria.work(agent.url, VICTORIA_DELEGATE_TIMEOUT="4")
        for number, (name, (script, why)) in enumerate(BAD.items()):
            agent.script = script
            await victoria.forgive()
            await victoria.runs(number)
            end = await victoria.end(number)
            assert (end.status, end.metadata.delegated_to) == ("completed", None), name
            assert why in " ".join(end.metadata.notes)
            assert len(agent.asked) == number + 1, "nobody asks twice for what may have been done"


async def test_an_agent_that_failed_is_passed_over_for_a_while(victoria: Victoria) -> None:
    async with fake_agent() as agent:
        agent.script = says({}, 500)
        await victoria.work(agent.url)
        for number in range(2):
            await victoria.runs(number)
            await victoria.end(number)
        assert len(agent.asked) == 1


async def test_an_agent_that_is_not_there_costs_a_moment(victoria: Victoria) -> None:
    await victoria.work("http://127.0.0.1:1")
    await victoria.runs()
    end = await victoria.end()
    assert (end.status, end.metadata.delegated_to) == ("completed", None)
    assert end.metadata.seconds < 10
