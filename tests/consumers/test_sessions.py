"""Sessions: turns in line, what was said before, and that nothing stops a line for good."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from redis.crc import key_slot

from consumers import intake, sessions
from consumers.admission import admit
from consumers.runs.state import STAGE, RunState
from consumers.sessions import NotYet, Sessions, Turn
from consumers.tools.workspace import Workspace
from consumers.understand import Reader
from consumers.words.names import Names
from schemas.errors import InvalidInput, Overloaded
from schemas.events import Exchange, ExchangeCompleted, GoalSubmitted, Metadata, RunFinished
from streams.append import Publisher
from streams.asking import Waiting
from streams.connection import Client
from streams.keys import Keys
from streams.testing import ScriptedContext
from tests.workshop import Workshop, eventually

HOSTILE = (
    "",
    " ",
    "trip",
    "trip ",
    "trip:said",
    "said:trip",
    "{trip}",
    "}{",
    "{victoria:0}:intake",
    "a\nb",
    "a\r\nb\x00c",
    "*?[a-z]",
    "поездка",
    "旅行 😀",
    "x" * 200,
)


@pytest.fixture
def workshop(client: Client, prefix: str) -> Workshop:
    return Workshop(client, Keys(prefix, partitions=8))


@pytest.fixture
def kept(workshop: Workshop) -> Sessions:
    return Sessions(workshop.client, workshop.keys)


async def submit(workshop: Workshop, kept: Sessions, *runs: str, session: str = "trip") -> None:
    goals = [(run, GoalSubmitted(goal=f"goal of {run}", session=session)) for run in runs]
    await admit(goals, "intake", workshop.publisher, kept)


async def end(
    workshop: Workshop,
    run: str,
    status: Literal["completed", "failed", "cancelled"] = "completed",
    session: str = "trip",
) -> None:
    """What aggregate leaves of a run that ended; without a session if it had no plan yet."""
    nothing = Metadata("none", "rules", None, 0, 0, 0.0, ())
    finished = RunFinished(status=status, output=f"answer of {run}", method="rules", metadata=nothing, stages=())
    state = RunState(goal="restated", session=session, finished=finished)
    await workshop.client.hset(workshop.keys.run(workshop.keys.of_run(run), run), STAGE, msgspec.json.encode(state))


def completed(run: str, session: str = "trip", expert: str = "") -> ExchangeCompleted:
    output = f"answer of {run}"
    return ExchangeCompleted(session=session, goal="restated", output=output, status="completed", expert=expert)


def said(*runs: str) -> tuple[Exchange, ...]:
    return tuple(Exchange(f"goal of {run}", f"answer of {run}") for run in runs)


async def take(kept: Sessions, *runs: str, session: str = "trip") -> None:
    for run in runs:
        assert not (await kept.enter(session, run)).over
        assert await kept.keep(run, completed(run, session))


async def ahead(kept: Sessions, run: str, session: str = "trip") -> str:
    with pytest.raises(NotYet) as wait:
        await kept.enter(session, run)
    return wait.value.ahead


async def test_the_second_turn_waits_for_the_first_and_sees_what_was_said(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two", "three")
    assert await ahead(kept, "two") == await ahead(kept, "three") == "one"
    assert await kept.enter("trip", "one") == Turn()
    assert await kept.enter("trip", "one") == Turn(), "it keeps its turn, however often it is handled"
    assert await ahead(kept, "two") == "one"
    assert await kept.keep("one", completed("one", expert="memo"))
    assert await kept.enter("trip", "two") == Turn(said("one"), "memo")
    assert await kept.keep("two", completed("two"))
    assert await kept.enter("trip", "three") == Turn(said("one", "two"), "memo")


async def test_sessions_do_not_wait_for_each_other(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one")
    await submit(workshop, kept, "two", session="work")
    assert await kept.enter("trip", "one") == await kept.enter("work", "two") == Turn()


async def test_turns_are_in_the_order_in_which_they_were_submitted_however_many_at_once(
    workshop: Workshop, kept: Sessions
) -> None:
    runs = [f"run-{number:03}" for number in range(600)]
    await submit(workshop, kept, *runs[:590])
    await submit(workshop, kept, *runs[590:], "run-000")
    view = await kept.show("trip")
    assert view
    assert list(view.line) == runs


async def test_a_clock_that_was_put_back_changes_no_order(workshop: Workshop, kept: Sessions) -> None:
    await workshop.client.zadd(workshop.keys.turns("trip"), {"one": 9e15})
    await submit(workshop, kept, "one", "two", "three")
    view = await kept.show("trip")
    assert view
    assert view.line == ("one", "two", "three")


async def test_an_exchange_is_kept_once_however_often_its_run_says_so(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two")
    await take(kept, "one")
    assert not await kept.keep("one", completed("one"))
    await submit(workshop, kept, "one")  # a door that tries again, of a run that is known
    assert await kept.enter("trip", "two") == Turn(said("one"))
    # A worker that slept since before the run's end puts it into the line once more.
    assert await ahead(kept, "one") == "two"
    await end(workshop, "one")
    assert await kept.enter("trip", "one") == Turn(over=True)
    await take(kept, "two")
    assert (await kept.enter("trip", "three")).history == said("one", "two")


async def test_of_31_exchanges_the_last_30_stay(workshop: Workshop, kept: Sessions) -> None:
    runs = [f"run-{number}" for number in range(31)]
    await submit(workshop, kept, *runs)
    await take(kept, *runs)
    assert (await kept.enter("trip", "next")).history == said(*runs[1:])


async def test_of_long_texts_beginning_and_end_are_kept(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one")
    long = ExchangeCompleted(session="trip", goal="g", output="a" + "x" * 100_000 + "z", status="completed")
    assert await kept.keep("one", long)
    (exchange,) = (await kept.enter("trip", "two")).history
    assert len(exchange.assistant) < 4_100
    assert exchange.assistant[0] + exchange.assistant[-1] == "az"
    assert "characters left out" in exchange.assistant


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("session", ["trip", ""], ids=["with a plan", "before its plan"])
async def test_a_run_that_ended_otherwise_stops_nobody_and_leaves_nothing(
    workshop: Workshop, kept: Sessions, status: Literal["failed", "cancelled"], session: str
) -> None:
    await submit(workshop, kept, "one", "two")
    await kept.enter("trip", "one")
    assert await ahead(kept, "two") == "one"
    await end(workshop, "one", status, session)
    assert await kept.enter("trip", "two") == Turn()
    assert await kept.enter("trip", "one") == Turn(over=True), "and is not begun again"
    assert await ahead(kept, "three") == "two"


async def test_a_run_that_was_cancelled_in_line_leaves_it(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two", "three")
    await end(workshop, "two", "cancelled", session="")
    assert await kept.enter("trip", "two") == Turn(over=True)
    view = await kept.show("trip")
    assert view
    assert view.line == ("one", "three")


async def test_what_was_said_is_there_for_the_next_turn_though_memory_compress_has_not_come_to_it(
    workshop: Workshop, kept: Sessions
) -> None:
    await submit(workshop, kept, "one", "two")
    await kept.enter("trip", "one")
    await end(workshop, "one")
    assert await kept.enter("trip", "two") == Turn(said("one"))
    assert not await kept.keep("one", completed("one")), "when it comes to it, nothing is left to do"
    assert (await kept.enter("trip", "two")).history == said("one")


async def test_a_door_that_died_before_it_published_stops_a_session_for_a_bounded_time(workshop: Workshop) -> None:
    kept = Sessions(workshop.client, workshop.keys, unpublished=0.3)
    assert await kept.line_up([("trip", "lost")]) == [True]
    await submit(workshop, kept, "two")
    assert await ahead(kept, "two") == "lost"

    async def its_turn() -> bool:
        try:
            return await kept.enter("trip", "two") == Turn()
        except NotYet:
            return False

    await eventually(its_turn, within=2)
    # If it was only slow, its run is taken when it comes.
    await submit(workshop, kept, "lost")
    assert await ahead(kept, "lost") == "two"


async def test_a_run_that_came_without_a_door_gets_its_place_when_it_is_handled(workshop: Workshop) -> None:
    kept = Sessions(workshop.client, workshop.keys, unpublished=0.0)
    assert await kept.enter("trip", "one") == Turn()
    assert await ahead(kept, "two") == "one", "it is alive, though nobody published it"
    assert await kept.keep("one", completed("one"))
    assert await kept.enter("trip", "two") == Turn((Exchange("restated", "answer of one"),))


async def test_a_run_of_which_nothing_is_left_stops_nobody(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two")
    await kept.enter("trip", "one")
    await end(workshop, "one", "failed", session="")
    await workshop.client.delete(workshop.keys.run(workshop.keys.of_run("one"), "one"))
    old = Sessions(workshop.client, workshop.keys, unpublished=0.0)
    assert await old.enter("trip", "two") == Turn()


async def test_a_waiting_run_leaves_word_for_whom_and_takes_it_back(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two")
    await ahead(kept, "two")
    key = workshop.keys.waiting("two")
    word = msgspec.json.decode(await workshop.client.get(key), type=Waiting)
    assert word.error
    assert word.error.code == "session.turn"
    assert "run one" in word.error.message
    assert "victoria cancel one" in word.error.hint
    assert 0 < await workshop.client.ttl(key) <= 21
    await take(kept, "one")
    await kept.enter("trip", "two")
    assert await workshop.client.get(key) is None


async def test_the_longer_a_run_waits_the_seldomer_it_looks(workshop: Workshop, kept: Sessions) -> None:
    await submit(workshop, kept, "one", "two", *(f"run-{number}" for number in range(400)))
    delays: list[float] = []
    for run in ("two", "run-399"):
        with pytest.raises(NotYet) as wait:
            await kept.enter("trip", run)
        delays.append(wait.value.delay)
    line = workshop.keys.turns("trip")
    for seconds in (30, 3_600):
        await workshop.client.zadd(line, {"two": await workshop.client.zscore(line, "two") - seconds * 1e6})
        await workshop.client.zadd(line, {"one": await workshop.client.zscore(line, "two") - 1})
        with pytest.raises(NotYet) as wait:
            await kept.enter("trip", "two")
        delays.append(wait.value.delay)
    soon, many, later, latest = delays
    assert (soon, latest) == (0.1, 10.0)
    assert many == pytest.approx(401 / 50)
    assert 3 <= later < 4


async def test_clearing_forgets_what_was_said_also_in_turns_that_have_not_ended(
    workshop: Workshop, kept: Sessions
) -> None:
    await submit(workshop, kept, "one", "two", "three")
    await kept.enter("trip", "one")
    await kept.keep("one", completed("one", expert="memo"))
    await kept.enter("trip", "two")
    assert await kept.clear("trip") == 1
    assert await ahead(kept, "three") == "two", "the order stays"
    assert not await kept.keep("two", completed("two", expert="memo"))
    await submit(workshop, kept, "four")
    assert await kept.enter("trip", "three") == Turn()
    assert not await kept.keep("three", completed("three"))
    assert await kept.enter("trip", "four") == Turn(), "what is said from now on is kept again"
    assert await kept.keep("four", completed("four"))
    assert await kept.clear("trip") == 1
    assert (await kept.show("trip"), await kept.newest(10), await kept.clear("trip")) == (None, [], 0)
    await submit(workshop, kept, "five")
    await take(kept, "five")
    assert (await kept.enter("trip", "six")).history == said("five")


async def test_hostile_ids_stay_apart_and_in_their_slot(workshop: Workshop, kept: Sessions) -> None:
    keys = workshop.keys
    for number, session in enumerate(HOSTILE):
        assert intake.session_named(session) == session
        run = f"run-{number}"
        await kept.line_up([(session, run)])
        await kept.keep(run, completed(run, session))
        names = keys.turns(session), keys.said(session), keys.session(session), keys.sessions(keys.of_session(session))
        assert len({key_slot(name.encode()) for name in names}) == 1
    for number, session in enumerate(HOSTILE):
        assert [each.run for each in await of(kept, session)] == [f"run-{number}"]
    assert {row.session for row in await kept.newest(100)} == set(HOSTILE)
    for number, session in enumerate(HOSTILE):
        assert await kept.clear(session) == 1
        assert len(await kept.newest(100)) == len(HOSTILE) - number - 1


async def of(kept: Sessions, session: str) -> Sequence[sessions.Said]:
    view = await kept.show(session)
    assert view
    return view.said


@pytest.mark.parametrize(("session", "code"), [("x" * 201, "session.too_long"), ("a\udcff", "goal.encoding")])
def test_a_session_that_cannot_be_is_refused_at_the_door(session: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        intake.goal_submitted("hi", session=session)
    assert refusal.value.code == code


async def test_the_sessions_are_listed_the_newest_first_and_no_more_than_wanted(
    workshop: Workshop, kept: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"session-{number}" for number in range(20)]
    for number, name in enumerate(names):
        await submit(workshop, kept, f"run-{number}", session=name)
        await take(kept, f"run-{number}", session=name)
    await submit(workshop, kept, "again", session="session-3")
    rows = await kept.newest(3)
    assert [(row.session, row.said, row.line) for row in rows] == [
        ("session-3", 1, 1),
        ("session-19", 1, 0),
        ("session-18", 1, 0),
    ]
    monkeypatch.setattr(sessions, "LISTED", 1)
    for number, name in enumerate(names):
        await submit(workshop, kept, f"more-{number}", session=name)
    assert len(await kept.newest(100)) == len({workshop.keys.of_session(name) for name in names})


async def test_a_session_without_turns_goes(workshop: Workshop) -> None:
    kept = Sessions(workshop.client, workshop.keys, keep=0.2)
    await submit(workshop, kept, "one", "two")
    await take(kept, "one")
    keys = workshop.keys
    names = keys.turns("trip"), keys.said("trip"), keys.session("trip")

    async def gone() -> bool:
        return await workshop.client.exists(*names) == 0

    await eventually(gone, within=2)
    await submit(workshop, kept, "three", session="other")
    assert [row.session for row in await kept.newest(10)] == ["other"]
    lasting = Sessions(workshop.client, workshop.keys, keep=100)
    await submit(workshop, lasting, "four", "five")
    assert await lasting.keep("four", completed("four", expert="memo"))
    for name in names:
        assert 0 < await workshop.client.pttl(name) <= 100_000


@pytest.mark.parametrize("full", ["the line", "intake"])
async def test_what_is_refused_at_the_door_is_in_no_line(
    workshop: Workshop, kept: Sessions, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    keys, publisher = workshop.keys, workshop.publisher
    if full == "intake":
        keys = Keys(keys.prefix)
        publisher = Publisher(workshop.client, keys, {"intake": ("understand",)}, backlog=4)
        kept = Sessions(workshop.client, keys)
    else:
        monkeypatch.setattr(sessions, "ROOM", 2)
    goals = [(f"run-{number}", GoalSubmitted(goal="hi", session="trip" if number % 2 else "")) for number in range(8)]
    with pytest.raises(Overloaded) as refusal:
        await admit(goals, "intake", publisher, kept)
    places: dict[str, Callable[[int], bool]] = {"the line": lambda n: n % 2 == 0 or n < 4, "intake": lambda n: n < 4}
    taken = [places[full](number) for number in range(8)]
    assert refusal.value.results == ["appended" if each else "refused" for each in taken]
    assert refusal.value.code == ("intake.overloaded" if full == "intake" else "session.overloaded")
    view = await kept.show("trip")
    assert view
    assert view.line == ("run-1", "run-3")
    # Those that are known are not refused, however full it is.
    assert await admit(goals[:4], "intake", publisher, kept) == ["known"] * 4


async def test_what_was_said_in_the_session_goes_before_what_came_with_the_goal(
    workshop: Workshop, kept: Sessions
) -> None:
    given = (Exchange("BANANA?", "CHERRY!"),)
    goal = GoalSubmitted(goal="Помоги с анализом данных о продажах", session="trip", history=given)
    said_before: list[list[bool]] = []
    for run in ("one", "two"):
        ctx = ScriptedContext[None]()
        ctx.run_id = run
        await Reader(Names(lambda _project: Workspace(Path(__file__).parent)), sessions=kept).handle(goal, ctx)
        ((_, question),) = ctx.asked
        said_before.append([word in question.user for word in ("CHERRY!", "answer of one")])
        await kept.keep(run, completed(run))
    assert said_before == [[True, False], [False, True]]


async def test_a_session_without_a_past_takes_no_trust_from_a_goal(workshop: Workshop, kept: Sessions) -> None:
    goal, trusts = GoalSubmitted(goal="ls docs", session="trip"), list[str]()
    for run in ("one", "two"):
        ctx = ScriptedContext[None]()
        ctx.run_id = run
        await Reader(Names(lambda _project: Workspace(Path(__file__).parent)), sessions=kept).handle(goal, ctx)
        await kept.keep(run, completed(run))
        trusts.append(ctx.trust)
    assert trusts == ["user", "tool"], "answers may hold what tools read"
