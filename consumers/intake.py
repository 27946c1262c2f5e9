"""What may come in: a goal checked before it is published, so that bad input gets its answer at the door."""

from schemas.errors import InvalidInput
from schemas.events import Exchange, GoalSubmitted

GOAL_BYTES = 64 * 1024
HISTORY_PAIRS = 30
HISTORY_CHARACTERS = 256 * 1024
SESSION_CHARACTERS = 200


def goal_submitted(
    goal: str, project: str = "", session: str = "", history: tuple[Exchange, ...] = (), setting: str = ""
) -> GoalSubmitted:
    """A GoalSubmitted of checked parts; of `history` the last 30 pairs are kept.

    Raises InvalidInput with code `goal.empty`, `goal.too_large`, `goal.encoding`, `history.too_large` or
    `session.too_long`.
    """
    text = goal.strip()
    if not text:
        raise InvalidInput("goal.empty", "The goal is empty.", 'Say what you want: victoria run "List the files".')
    size = len(text.encode(errors="surrogatepass"))
    if size > GOAL_BYTES:
        raise InvalidInput(
            "goal.too_large",
            f"The goal has {size:,} bytes; at most {GOAL_BYTES:,} are taken.",
            "Put long material into a file of the project and name the file.",
        )
    history = history[-HISTORY_PAIRS:]
    said = len(setting) + sum(len(turn.user) + len(turn.assistant) for turn in history)
    if said > HISTORY_CHARACTERS:
        raise InvalidInput(
            "history.too_large",
            f"The history has {said:,} characters; at most {HISTORY_CHARACTERS:,} are taken.",
            "Send its last turns only.",
        )
    _check_unicode("goal", text)
    _check_unicode("project", project)
    session_named(session)
    _check_unicode("history", setting, *(part for turn in history for part in (turn.user, turn.assistant)))
    return GoalSubmitted(goal=text, project=project, session=session, history=history, setting=setting)


def session_named(session: str) -> str:
    """A session's id, checked. Raises InvalidInput with code `session.too_long` or `goal.encoding`."""
    if len(session) > SESSION_CHARACTERS:
        raise InvalidInput(
            "session.too_long",
            f"The session's id has {len(session):,} characters; at most {SESSION_CHARACTERS} are taken.",
            "Give it a shorter one.",
        )
    _check_unicode("session", session)
    return session


def _check_unicode(what: str, *texts: str) -> None:
    """Refuse lone surrogates, which come from bytes that are not UTF-8: no event could carry them."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as cause:
        raise InvalidInput("goal.encoding", f"The {what} is not valid Unicode text.", "Send it as UTF-8.") from cause
