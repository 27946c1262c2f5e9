"""G4. The answer cache: the same goal has the same answer, without a model, as long as nothing it rests on changes."""

from collections.abc import Mapping
from typing import Any

from consumers.answer_cache import clear
from consumers.postgres.database import Database
from consumers.postgres.memories import Memories
from schemas.errors import ModelFailed
from schemas.events import AnswerFound, Exchange, MemoryKept, RunFinished
from schemas.plan import Limits
from streams.connection import Client
from streams.replay import replay
from tests.replay.test_replay import taped
from tests.rows.conftest import Build
from tests.rows.house import FILES, Asked, House, Says, act, finish
from tests.workshop import eventually

ON = "600"
QUESTION = "What is a Redis stream?"
READ = "Read docs/alpha.txt and summarise it"
SAYS: Mapping[str, Says] = {
    "understand": {"restated": QUESTION, "category": "simple", "first_step": ""},
    "answer": "A log of entries.",
}


async def kept(home: House, goal: str, **fields: Any) -> tuple[str, RunFinished]:
    """A run that is done anew, and its answer kept."""
    run = await home.submit(goal, **fields)
    end = await home.end(run)
    assert end.known is None
    assert await is_kept(home, run)
    return run, end


async def is_kept(home: House, run: str) -> bool:
    """Whether a run that has ended has left its answer."""
    client: Any = home.victoria.client
    return any(effect.endswith(b"/keep_answer") for effect in await client.hkeys(home.victoria.keys.journal(run)))


async def known(home: House, goal: str, **fields: Any) -> bool:
    """Whether a run's answer was known; then no model was asked."""
    before = len(home.asked)
    end = await home.run(goal, **fields)
    assert end.status == "completed"
    assert (end.known is not None) == (len(home.asked) == before)
    return end.known is not None


async def test_G4_the_second_run_of_a_goal_asks_no_model_and_says_whose_answer_it_gives(house: Build) -> None:
    async with house(SAYS, answer_cache=ON) as home:
        first, end = await kept(home, QUESTION)
        asked = len(home.asked)
        again = await home.submit(f"  {QUESTION} ")
        second = await home.end(again)
        assert len(home.asked) == asked
        assert (second.output, second.method, second.metadata.model) == (end.output, end.method, end.metadata.model)
        assert second.known
        assert second.known.run == first
        assert (second.metadata.calls, second.metadata.tokens_in, second.metadata.source) == (0, 0, "model")
        assert first in second.metadata.notes[0]
        (entry,) = [
            each.envelope
            for each in await home.entries(again)
            if each.envelope and type(each.envelope.body) is AnswerFound
        ]
        assert entry.trust in ("model", "tool")
        assert not await is_kept(home, again), "what is given again is not as new"
        view = await home.victoria.view(again)
        assert (view.status, view.finished) == ("completed", second)
        for run in (first, again):
            verdict = await replay(await taped(home, run), home.victoria.topology)
            assert (verdict.verdict, verdict.difference) == ("identical", None)


async def test_G4_another_strategy_expert_model_setting_history_or_asker_has_an_answer_of_its_own(house: Build) -> None:
    async with house({**SAYS, "think": "Hm."}, answer_cache=ON) as home:
        await kept(home, QUESTION)
        assert not await known(home, QUESTION, strategy="extended_thinking")
        assert not await known(home, QUESTION, expert="qa", strategy="simple")
        assert not await known(home, QUESTION, setting="You are a pirate.")
        assert not await known(home, QUESTION, asker="backup-1")
        assert not await known(home, QUESTION, limits=Limits(model="scripted"))
        assert not await known(home, QUESTION, history=(Exchange("Hello", "Hi"),))
        assert not await known(home, QUESTION, delegated_by="veronica")
        assert not await known(home, QUESTION, cache="off")
        assert await known(home, QUESTION)


async def test_G4_what_is_found_anew_takes_the_place_of_what_was_known(house: Build) -> None:
    said = iter(["One.", "Two."])

    def answer(_asked: Asked) -> str:
        return next(said)

    async with house({**SAYS, "answer": answer}, answer_cache=ON) as home:
        await kept(home, QUESTION)
        run, _ = await kept(home, QUESTION, cache="renew")
        end = await home.run(QUESTION)
        assert (end.output, end.known and end.known.run) == ("Two.", run)
        assert await clear(home.victoria.client, home.victoria.keys, home.victoria.projects.main) == 1
        assert await clear(home.victoria.client, home.victoria.keys, home.victoria.projects.main) == 0


async def test_G4_an_answer_expires_and_with_none_kept_each_is_found_anew(house: Build, client: Client) -> None:
    async with house(SAYS, answer_cache=ON) as home:
        await kept(home, QUESTION)
        (key,) = await entries(home, client)
        left: Any = await client.pttl(key)
        assert 0 < left <= 600_000
        assert await known(home, QUESTION)
        await client.pexpire(key, 1)
        await eventually(lambda: gone(client, key))
        assert not await known(home, QUESTION)
    async with house(SAYS, answer_cache="0") as home:
        assert not await known(home, QUESTION)


async def entries(home: House, client: Any) -> list[bytes]:
    """The keys of all answers of the main project."""
    keys, project = home.victoria.keys, home.victoria.projects.main
    listed: list[bytes] = await client.zrange(keys.all_known(project), 0, -1)
    return [keys.known(project, each.decode()).encode() for each in listed]


async def gone(client: Client, key: bytes) -> bool:
    return not await client.exists(key)


async def test_G4_a_file_that_changed_makes_the_answer_unknown(house: Build) -> None:
    says = {**SAYS, "answer": "It says alpha."}
    async with house(says, answer_cache=ON) as home:
        await kept(home, READ)
        assert await known(home, READ)
        (home.folder / "docs/alpha.txt").write_text("something else")
        assert not await known(home, READ)
        (home.folder / "docs/alpha.txt").unlink()
        assert (await home.run(READ)).known is None
        (home.folder / "docs/alpha.txt").write_text(FILES["docs/alpha.txt"])


async def test_G4_what_a_loop_looked_at_is_looked_at_again_and_what_acts_or_fails_is_never_kept(house: Build) -> None:
    goal, path = "Investigate what the folder docs means to us", ["docs"]

    def look(asked: Asked) -> Any:
        if "list_directory:" in asked.user or "list_directory failed" in asked.user:
            return finish("There is alpha.")
        return act("list_directory", path=path[0])

    says = {"understand": {"restated": goal, "category": "investigate", "first_step": ""}, "act": look}
    async with house(says, answer_cache=ON) as home:
        await kept(home, goal, strategy="react")
        assert await known(home, goal, strategy="react")
        (home.folder / "docs/new.txt").touch()
        assert not await known(home, goal, strategy="react")
        path[0] = "nowhere"
        run = await home.submit(goal, strategy="react", cache="renew")
        assert (await home.end(run)).output == "There is alpha."
        assert not await is_kept(home, run), "a failed look is nothing to rest on"


async def test_G4_what_a_loop_could_have_looked_up_and_did_not_is_not_kept(house: Build) -> None:
    goal = "Remember that the milk is sour"
    async with house({**SAYS, "act": finish("Noted.")}, answer_cache=ON) as home:
        run = await home.submit(goal)
        assert (await home.end(run)).output == "Noted."
        assert not await is_kept(home, run), "the next time it may really be noted"
        assert not await known(home, goal)


async def test_G4_what_is_not_whole_is_not_kept(house: Build) -> None:
    async with house({**SAYS, "answer": ModelFailed("model.refused", "No.")}, answer_cache=ON) as home:
        run = await home.submit(QUESTION)
        assert (await home.end(run)).known is None
        assert not await is_kept(home, run)
        listed = await home.submit("List the files in the folder docs")
        assert (await home.end(listed)).metadata.source == "tool"
        assert not await is_kept(home, listed)


async def test_G4_in_a_session_the_same_words_later_are_another_goal(house: Build) -> None:
    async with house(SAYS, answer_cache=ON) as home:
        await kept(home, QUESTION, session="one")
        assert not await known(home, QUESTION, session="one")
        assert await known(home, QUESTION, session="two"), "nothing was said there before"
        later = await home.run("And why?", session="two")
        assert later.known is None
        assert any(QUESTION in each.user for each in home.heard("answer")), "it was an exchange like any other"


async def test_G4_a_forgotten_memory_makes_the_answer_unknown(
    house: Build, database: Database, database_url: str
) -> None:
    async with house(SAYS, answer_cache=ON, database_url=database_url, embedder="none") as home:
        memories = Memories(database, resolved=home.victoria.projects.resolve)
        at = (await home.victoria.view(await home.submit("ls docs"))).submitted_at
        fact = MemoryKept(text="A Redis stream is what our shop keeps orders in.", project=home.victoria.projects.main)
        await memories.keep("m-1", fact, at)
        await kept(home, QUESTION)
        assert await known(home, QUESTION)
        await memories.forget("m-1")
        assert not await known(home, QUESTION)


async def test_G4_what_somebody_else_put_in_its_place_is_no_answer(house: Build, client: Client) -> None:
    async with house(SAYS, answer_cache=ON) as home:
        await kept(home, QUESTION)
        (key,) = await entries(home, client)
        for garbage in (b"", b"{", b'{"output": 1}', b"[" * 100_000, b"\xff\xfe"):
            await client.set(key, garbage)
            run = await home.submit(QUESTION)
            assert (await home.end(run)).known is None
            assert await is_kept(home, run)
