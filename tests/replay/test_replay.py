"""A recorded run, folded again, comes to the same, without a model; where it does not, the place is shown."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from consumers.postgres.database import Database
from consumers.postgres.projector import Projector
from consumers.postgres.taped import add_archived
from consumers.runs.fork import forked, publish
from deploy.projects import Projects
from deploy.wiring import still_topology
from llm.prompts import replaced
from schemas.errors import InvalidInput
from schemas.events import (
    GoalUnderstood,
    HypothesisRaised,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    StepFinished,
    StepReady,
)
from streams.connection import Client
from streams.history import History
from streams.ranges import parse
from streams.replay import replay
from streams.replays import replay_all
from streams.tape import Tape
from streams.topology import Topology
from tests.rows.conftest import Build
from tests.rows.house import House, act, decomposition, finish, step
from tests.rows.investigation import GOAL, SAYS
from tests.workshop import eventually


async def taped(home: House, run: str) -> Tape:
    v = home.victoria
    return await History(v.client, v.keys, v.topology).tape(run)


def changed(topology: Topology, name: str, line: Any) -> Topology:
    """The topology with one line of a stage changed: what it says goes through `line`."""

    def altered(stage: Any) -> Any:
        async def handle(event: Any, ctx: Any) -> Sequence[Any]:
            return [line(each) for each in await stage.handle(event, ctx)]

        return replace(stage, handle=handle) if stage.name == name else stage

    return replace(topology, stages=tuple(map(altered, topology.stages)))


async def checksum(client: Client, prefix: str) -> str:
    """Of all keys and what they hold; leases and other signs of life change by themselves, in streams too: there it is
    the entries that count, and who reads them."""
    digest, raw = hashlib.blake2b(), cast_any(client)
    for key in sorted([key async for key in raw.scan_iter(match=f"{{{prefix}:*", count=1000)]):
        if key.endswith((b":leases", b"offers", b"retaining")):
            continue
        if await raw.type(key) == b"stream":
            readers = sorted(group["name"] for group in await raw.xinfo_groups(key))
            digest.update(repr((key, await raw.xrange(key), readers)).encode())
        else:
            digest.update(key + (await raw.dump(key) or b""))
    return digest.hexdigest()


def unheard(_summary: object) -> None:
    """Nobody listens."""


def cast_any(client: Any) -> Any:
    return client


async def test_a_run_with_tools_and_models_comes_to_the_same_without_any_model(house: Build, tmp_path: Path) -> None:
    async with house(SAYS) as home:
        run = await home.submit(GOAL)
        await home.end(run)
        asked = len(home.asked)
        tape = await taped(home, run)
    verdict = await replay(tape, home.victoria.topology)
    assert (verdict.verdict, verdict.difference, verdict.missing, verdict.open) == ("identical", None, (), ())
    assert (verdict.events, verdict.asks) == (8, asked)

    tape.save(tmp_path / "run")
    text = (tmp_path / "run").read_text()
    assert "All in all: alpha." in text
    elsewhere = still_topology(home.victoria.settings, Projects("", {}))
    assert await replay(Tape.load(tmp_path / "run"), elsewhere) == verdict


async def test_what_can_not_be_read_of_a_run_is_told_and_ends_no_replay(house: Build) -> None:
    async with house(None) as home:
        run = await home.submit("List the files in docs")
        await home.end(run)
        tape = await taped(home, run)
    for effect, data in tape.effects.items():
        for broken in (b"{", data.replace(b'"kind":"', b'"kind":"x'), data.replace(b'"at":"', b'"at":"x')):
            wrong = msgspec.structs.replace(tape, effects={**tape.effects, effect: broken})
            verdict = await replay(wrong, home.victoria.topology)
            assert verdict.verdict != "identical"
            assert any(effect in each for each in verdict.missing)
    states = {name: msgspec.structs.replace(one, data=msgspec.Raw(b"[1")) for name, one in tape.states.items()}
    verdict = await replay(msgspec.structs.replace(tape, states=states), home.victoria.topology)
    assert verdict.verdict == "incomplete"


async def test_a_run_may_begin_with_a_hypothesis(house: Build) -> None:
    async with house(None) as home:
        v = home.victoria
        raised = HypothesisRaised(statement="The file docs/alpha.txt is empty.")
        await home.publish("hypothesis-1", raised, v.topology.entries[HypothesisRaised])
        tape = await taped(home, "hypothesis-1")
    assert tape.missing == ()
    assert tape.entries


async def test_a_changed_prompt_is_shown_where_it_is_asked(house: Build) -> None:
    async with house(SAYS) as home:
        run = await home.submit(GOAL)
        await home.end(run)
        tape = await taped(home, run)
    text = (Path(__file__).parents[2] / "llm/prompts/act.md").read_text()
    with replaced("act", text.replace("\n---\n", " Hurry.\n---\n")):
        verdict = await replay(tape, home.victoria.topology)
    found = verdict.difference
    assert found
    assert (verdict.verdict, found.stage, found.type) == ("different", "step-execute", "StepReady")
    assert found.field == "question act-1.messages[0].content"
    assert found.replayed.replace(" Hurry.", "") == found.recorded


async def test_one_changed_line_of_a_stage_is_shown_with_event_and_field(house: Build) -> None:
    async with house(SAYS) as home:
        run = await home.submit(GOAL)
        await home.end(run)
        tape, real = await taped(home, run), home.victoria.topology

    def output(event: Any) -> Any:
        return msgspec.structs.replace(event, output=event.output.upper()) if isinstance(event, StepFinished) else event

    def restated(event: Any) -> Any:
        return msgspec.structs.replace(event, confidence=0.123) if isinstance(event, GoalUnderstood) else event

    found = (await replay(tape, changed(real, "step-execute", output))).difference
    assert found
    assert (found.stage, found.field) == ("step-execute", "StepFinished.output")
    assert (found.recorded, found.replayed) == ("There is alpha.", "THERE IS ALPHA.")
    found = (await replay(tape, changed(real, "understand", restated))).difference
    assert found
    assert (found.stage, found.type, found.field) == ("understand", "GoalSubmitted", "GoalUnderstood.confidence")


async def test_a_run_that_asked_a_person_comes_to_the_same(house: Build) -> None:
    def ask(asked: Any) -> Any:
        return finish("Done.") if "the user's answer" in asked.user else act("ask_user", question="Which one?")

    async with house({**SAYS, "act": ask, "decompose": decomposition(step("1", "Ask."), aggregate=False)}) as home:
        run = await home.submit(GOAL)
        question = await home.said(run, QuestionAsked)
        early = await replay(await taped(home, run), home.victoria.topology)
        assert (early.verdict, early.ended) == ("identical", False)
        assert any("clock" in each for each in early.open)
        answer = QuestionAnswered(question_id=question.question_id, answer="The first.")
        await home.publish(run, answer, "aggregate")
        await home.end(run)
        verdict = await replay(await taped(home, run), home.victoria.topology)
    assert (verdict.verdict, verdict.difference) == ("identical", None)


async def test_many_runs_and_a_range_of_one_stage_are_replayed_and_nothing_is_written(
    house: Build, client: Client, prefix: str
) -> None:
    async with house(None) as home:
        v = home.victoria
        runs = [await home.submit("List the files in docs, then read README.md") for _ in range(40)]
        for run in runs:
            await home.end(run)
        history = History(v.client, v.keys, v.topology)

        async def nothing_to_do() -> bool:
            return all((lag.undelivered, lag.pending, lag.delayed) == (0, 0, 0) for lag in (await v.lags()).values())

        await eventually(nothing_to_do)
        before = await checksum(client, prefix)
        summary = await replay_all(history, v.topology, 0, unheard)
        assert (summary.runs, summary.identical, summary.first) == (40, 40, [])
        entries = await home.entries(runs[3])
        (one,) = [each for each in entries if each.type == "GoalUnderstood"]
        within = await history.within("plan", parse(f"{one.id}:{one.id}"))
        assert list(within) == [runs[3]]
        part = await replay_all(history, v.topology, await history.began(within), unheard, "plan", within)
        assert (part.runs, part.events, part.identical) == (1, 1, 1)

        def titled(event: Any) -> Any:
            return msgspec.structs.replace(event, revision=7) if isinstance(event, PlanProposed) else event

        wrong = await replay_all(history, changed(v.topology, "plan", titled), 0, unheard)
        assert (wrong.different, len(wrong.first)) == (40, 3)
        assert wrong.first[0].difference
        assert wrong.first[0].difference.field == "PlanProposed.revision"
        assert await checksum(client, prefix) == before
        assert summary.missing == ()
        await cast_any(client).xtrim(v.keys.stream("0", "intake"), maxlen=30, approximate=False)
        (gone,) = (await replay_all(history, v.topology, 0, unheard)).missing
        assert "intake" in gone, "runs that can't be looked at are told"


async def test_a_run_whose_streams_are_trimmed_is_read_from_the_archive_and_what_is_missing_is_said(
    house: Build, database: Database
) -> None:
    async with house(SAYS) as home:
        v = home.victoria
        run = await home.submit(GOAL)
        await home.end(run)
        projector = Projector(v.client, v.keys, v.topology, database)
        async with anyio.create_task_group() as tasks:
            await tasks.start(projector.run)

            async def archived() -> bool:
                tape = Tape(run)
                await add_archived(database, tape)
                return any(entry.type == "RunFinished" for entry in tape.entries)

            await eventually(archived)
            projector.stop()
        whole = await replay(await taped(home, run), v.topology)
        raw = cast_any(v.client)
        for stream in ("intake", "plan"):
            await raw.xtrim(v.keys.stream("0", stream), maxlen=0)
        tape = await taped(home, run)
        assert lost_intake(tape)
        assert (await replay(tape, v.topology)).verdict == "incomplete"
        for stream in v.topology.streams():
            for partition in v.keys.of_stream(stream):
                await raw.delete(v.keys.stream(partition, stream))
        await raw.delete(v.keys.journal(run), v.keys.run("0", run))
        tape = await taped(home, run)
        assert tape.entries == []
        await add_archived(database, tape)
        tape.missing = ()
        again = await replay(tape, v.topology)
        assert (again.verdict, again.difference) == ("identical", None)
        assert again.asks == whole.asks
        # Dead letters are in no archive: that some went which may be the run's is said.
        history, dead = History(v.client, v.keys, v.topology), v.keys.dead("0")
        await raw.xadd(dead, {"type": "DeadLetter", "event": "{}"})
        assert await history.letters_gone(tape) == ()
        await raw.xtrim(dead, maxlen=0)
        tape.perhaps = await history.letters_gone(tape)
        assert "on the stream dead" in tape.perhaps[0]
        assert (await replay(tape, v.topology)).missing == (), "it was not needed"
        tape.entries = [each for each in tape.entries if each.type != "PlanProposed"]
        assert tape.perhaps[0] in (await replay(tape, v.topology)).missing


def lost_intake(tape: Tape) -> bool:
    return any("intake" in each for each in tape.missing)


async def test_a_fork_shares_the_past_and_comes_to_an_end_of_its_own(house: Build) -> None:
    async with house(SAYS) as home:
        v = home.victoria
        run = await home.submit(GOAL)
        end = await home.end(run)
        tape = await taped(home, run)
        ready = [e for e in await home.entries(run) if e.envelope and isinstance(e.envelope.body, StepReady)]
        at = ready[1].envelope
        assert at
        edit = {"inputs": {"1": "There is beta."}}
        begun = await forked(tape, v.topology, at.id[:8], "run-fork", edit)
        await publish(begun, v.client, v.keys, v.topology)
        other = await home.end("run-fork")
        assert (other.status, other.output) == (end.status, end.output)
        (first,) = [s for s in home.heard("act") if "There is beta." in s.user][:1]
        assert first
        own = {e.envelope.id: e.envelope for e in await home.entries("run-fork") if e.envelope}
        past = {e.envelope.id for e in await home.entries(run) if e.envelope}
        assert set(begun.past) <= past
        cause = next(e for e in own.values() if isinstance(e.body, RunFinished)).cause
        while cause in own:
            cause = own[cause].cause
        assert cause in past, "the chain leads back into the other run"
        assert at.id in {each.cause for each in own.values()}
        assert not set(own) & past
        again = await replay(await taped(home, "run-fork"), v.topology)
        assert (again.verdict, again.difference) == ("identical", None)
        assert (await replay(await taped(home, run), v.topology)).verdict == "identical"
        with pytest.raises(InvalidInput, match="is read by a stage"):
            await forked(tape, v.topology, "nothing", "run-x")


async def test_a_fork_goes_on_with_the_model_it_is_given(house: Build) -> None:
    async with house(SAYS) as home:
        v = home.victoria
        run = await home.submit(GOAL)
        await home.end(run)
        asked, tape = len(home.asked), await taped(home, run)
        first = next(e.envelope.id for e in await home.entries(run) if e.type == "GoalSubmitted" and e.envelope)
        begun = await forked(tape, v.topology, first, "fork-none", model="none")
        await publish(begun, v.client, v.keys, v.topology)
        end = await home.end("fork-none")
        assert (end.metadata.model, end.metadata.calls, len(home.asked)) == ("none", 0, asked)
        with pytest.raises(InvalidInput, match="no field 'goall'"):
            await forked(tape, v.topology, first, "fork-x", {"goall": "x"})


async def test_a_run_can_be_forked_at_each_of_its_events(house: Build) -> None:
    async with house(SAYS) as home:
        v = home.victoria
        run = await home.submit(GOAL)
        await home.end(run)
        tape = await taped(home, run)
        ids = list(
            dict.fromkeys(
                e.envelope.id
                for e in await home.entries(run)
                if e.envelope and e.stream in {"intake", "plan", "aggregate", "step-execute"}
            )
        )
        for each in ids:
            begun = await forked(tape, v.topology, each, f"fork-{each}")
            await publish(begun, v.client, v.keys, v.topology)
            assert (await home.end(f"fork-{each}")).output == "All in all: alpha."
            again = await replay(await taped(home, f"fork-{each}"), v.topology)
            assert (again.verdict, again.difference) == ("identical", None)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"line":"run"}', b"\xff\xfe", b'{"line":"event"}\n'])
def test_a_file_that_is_no_run_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(InvalidInput, match="no saved run"):
        Tape.load(tmp_path / "file")
