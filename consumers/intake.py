"""What may come in: a goal checked before it is published, so that bad input gets its answer at the door."""

from schemas.errors import InvalidInput
from schemas.events import Exchange, GoalSubmitted

GOAL_BYTES = 64 * 1024
HISTORY_PAIRS = 30


def goal_submitted(
    goal: str, project: str = "", session: str = "", history: tuple[Exchange, ...] = ()
) -> GoalSubmitted:
    """A GoalSubmitted of checked parts; of `history` the last 30 pairs are kept.

    Raises InvalidInput with code `goal.empty` or `goal.too_large`.
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
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise InvalidInput("goal.encoding", "The goal is not valid Unicode text.", "Send it as UTF-8.") from cause
    return GoalSubmitted(goal=text, project=project, session=session, history=history[-HISTORY_PAIRS:])
