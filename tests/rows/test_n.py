"""N. Sessions: one turn after the other, each knowing what was said before."""

from schemas.events import ExchangeCompleted, RunFinished, StepReady
from schemas.plan import Limits
from tests.rows.conftest import Build
from tests.rows.house import Asked, House, Reply
from tests.workshop import eventually

TURNS = ("Zzz one", "Zzz two", "Zzz three")


def echo(asked: Asked) -> Reply:
    return f"You said: {asked.user.partition('<goal>')[2].partition('</goal>')[0]}"


def context(asked: Asked) -> str:
    return asked.user.partition("<context>")[2].partition("</context>")[0]


async def kept(home: House, session: str, exchanges: int) -> None:
    """Wait until so many exchanges are kept."""

    async def there() -> bool:
        found = await home.victoria.sessions.show(session)
        return found is not None and len(found.said) == exchanges

    await eventually(there)


async def test_N1_turns_of_a_session_wait_for_each_other_in_their_order_and_those_of_others_do_not(
    house: Build,
) -> None:
    async with house({"answer": echo}, delay=0.2) as home:
        runs = [await home.submit(turn, session="ours") for turn in TURNS]
        other = await home.submit("Zzz else", session="theirs")
        await home.end(other)
        assert (await home.victoria.view(runs[2])).status == "queued", "the other session did not wait for this one"
        for run in runs:
            await home.end(run)
        begun = [await home.at(run, StepReady) for run in runs]
        ended = [await home.at(run, RunFinished) for run in runs]
        assert begun[0] < ended[0] < begun[1] < ended[1] < begun[2]


async def test_N1_a_turn_knows_what_was_said_in_its_own_session_only(house: Build) -> None:
    async with house({"answer": echo}) as home:
        for turn in TURNS:
            await home.run(turn, session="ours")
        await home.run("Zzz else", session="theirs")
        first, second, third, else_ = map(context, home.heard("answer"))
        assert first == else_ == ""
        assert "User: Zzz one\nVictoria: You said: Zzz one" in second
        assert all(f"User: {turn}" in third for turn in TURNS[:2])


async def test_N1_what_was_said_is_recorded_in_full_for_completed_turns_only(house: Build) -> None:
    async with house({"answer": echo}) as home:
        run = await home.submit("Zzz one", session="ours")
        await home.end(run)
        await home.run("Zzz two", session="ours", expert="gardener")  # nobody has that name: it fails
        await home.run("Zzz three", session="ours")
        await kept(home, "ours", 2)
        shown = await home.victoria.sessions.show("ours")
        assert shown
        assert [(said.user, said.assistant) for said in shown.said] == [
            ("Zzz one", "You said: Zzz one"),
            ("Zzz three", "You said: Zzz three"),
        ]
        assert shown.said[0].run == run
        assert len(await home.events(run, ExchangeCompleted)) == 1


async def test_N1_a_cleared_session_has_forgotten_all_that_was_said(house: Build) -> None:
    async with house({"answer": echo}) as home:
        await home.run("Zzz one", session="ours")
        await kept(home, "ours", 1)
        assert await home.victoria.sessions.clear("ours") == 1
        await home.run("Zzz two", session="ours")
        assert context(home.heard("answer")[-1]) == ""


async def test_N1_a_turn_that_is_stopped_at_a_limit_leaves_its_place_to_the_next(house: Build) -> None:
    async with house({"answer": echo}) as home:
        stopped = await home.run("Zzz one", session="ours", limits=Limits(tokens=1))
        assert stopped.status == "failed"
        assert (await home.run("Zzz two", session="ours")).output == "You said: Zzz two"
