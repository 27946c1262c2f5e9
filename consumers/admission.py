"""Goals on their way in: those of a session stand in its line before they are on their stream, so that turns are taken
in the order in which they were submitted, whichever worker reads them first."""

from collections.abc import Sequence

from consumers.sessions import ROOM, Sessions
from schemas.errors import Overloaded, Published
from schemas.events import GoalSubmitted
from schemas.plan import Limits
from streams.append import RETRY_AFTER, Publisher


async def admit(
    goals: Sequence[tuple[str, GoalSubmitted]],
    stream: str,
    publisher: Publisher,
    sessions: Sessions,
    limits: Limits | None = None,
) -> list[Published]:
    """Publish (run id, goal) pairs; what became of each. Trying again publishes nothing twice. `limits` hold for each
    run.

    Raises Overloaded (`intake.overloaded`, `session.overloaded`) with the results when some were refused, after all
    that fit were published; of a session's turns, those that are refused come behind those that were not. Raises redis
    errors when the server is in trouble.
    """
    turns = [number for number, (_, goal) in enumerate(goals) if goal.session]
    fits = await sessions.line_up([(goals[number][1].session, goals[number][0]) for number in turns])
    full = {number for number, fit in zip(turns, fits, strict=True) if not fit}
    problem: Overloaded | None = None
    try:
        fitting = [goal for number, goal in enumerate(goals) if number not in full]
        found = await publisher.publish(fitting, stream, limits=limits)
    except Overloaded as overloaded:
        problem, found = overloaded, overloaded.results
    rest = iter(found)
    results: list[Published] = ["refused" if number in full else next(rest) for number in range(len(goals))]
    for number in turns:
        if results[number] == "refused" and number not in full:
            await sessions.leave(goals[number][1].session, goals[number][0])
    if problem:
        raise Overloaded(problem.code, problem.message, problem.hint, problem.retry_after, results)
    if full:
        session = goals[min(full)][1].session
        raise Overloaded(
            "session.overloaded",
            f"{ROOM:,} turns wait in the session {session!r} already.",
            f"Try again in {RETRY_AFTER:g} s, or as its turns end.",
            RETRY_AFTER,
            results,
        )
    return results
