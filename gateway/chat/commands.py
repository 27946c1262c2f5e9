"""What can be typed beside goals, and what of it says how the next goals are wanted."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from msgspec.structs import replace

from consumers.intake import session_named
from gateway.chat.line import Line, Wish
from schemas.errors import InvalidInput

COMMANDS = {
    "/help": "what can be typed",
    "/status": "where the run stands, and the server",
    "/cancel": "end the run that is under way (Ctrl-C)",
    "/experts": "who there is",
    "/expert": "NAME: who does the next goals; without a name, whoever fits",
    "/strategies": "the shapes that plans can have",
    "/strategy": "NAME: the shape of the next plans; without a name, whatever fits",
    "/session": "ID: go on with another conversation; without an id, which one this is",
    "/clear": "forget what was said in this session",
    "/quit": "leave (Ctrl-D); what is under way is kept",
}


def parsed(text: str) -> tuple[str, str] | None:
    """A command and what is given to it; None for a goal, which may begin with a path."""
    found = re.fullmatch(r"(/[a-z?]*)(?:\s+(.*?))?\s*", text, re.DOTALL)
    return (found[1], found[2] or "") if found else None


async def wished(to: Line, wish: Wish, name: str, given: str) -> Wish | None:
    """What the next goals are wanted like after a command; None where it says nothing of that. Raises InvalidInput."""
    match name:
        case "/expert":
            return replace(wish, expert=_one_of("expert", given, await to.experts()))
        case "/strategy":
            return replace(wish, strategy=_one_of("strategy", given, await to.strategies()))
        case "/session" if given:
            return replace(wish, session=session_named(given))
        case _:
            return None


def unknown(name: str) -> InvalidInput:
    """There is no such command."""
    near = get_close_matches(name, COMMANDS, 1, 0.5)
    hint = f"Did you mean {near[0]}?" if near else "/help shows them."
    return InvalidInput("chat.command", f"There is no command {name[:40]}.", hint)


def _one_of(what: str, given: str, names: Iterable[str]) -> str:
    if given and given not in names:
        near = get_close_matches(given, names, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."
        raise InvalidInput(f"{what}.unknown", f"No {what} is called {given[:80]!r}.", hint)
    return given
