"""Events of other types than goals from people: a JSON object with the event's own fields."""

from typing import Annotated, Any, NamedTuple

import msgspec

from consumers.intake import session_named
from deploy.victoria import Victoria
from gateway.lines import LINE_BYTES
from schemas.envelope import UNREADABLE
from schemas.errors import InvalidInput
from schemas.events import CATALOGUE, Event, GoalSubmitted
from streams.append import new_run_id

BY_COMMAND = {"CancelRequested": "victoria cancel", "QuestionAnswered": "victoria answer"}
"""Events that belong to a run that is there already."""


class Named(msgspec.Struct):
    """What a body may have beside the event's fields: `run_id` makes publishing it again harmless."""

    run_id: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z_.-]{1,80}$")] = ""


class Body(NamedTuple):
    """An event that begins a run."""

    run_id: str
    event: Event


def publishable(victoria: Victoria, name: str) -> type[Event]:
    """The event type of that name, if it may begin a run. Raises InvalidInput `event.unknown_type`, `publish.type`."""
    event = CATALOGUE.get(name)
    if event is None:
        raise InvalidInput("event.unknown_type", f"No event type is called {name!r}.", "`victoria events` lists them.")
    if event not in victoria.topology.entries or name in BY_COMMAND:
        names = ", ".join(e.__name__ for e in victoria.topology.entries if e.__name__ not in BY_COMMAND)
        hint = f"Use `{BY_COMMAND[name]}`." if name in BY_COMMAND else f"These can: {names}."
        raise InvalidInput("publish.type", f"{name} can't be published by hand.", hint)
    return event


def body(victoria: Victoria, event: type[Event], raw: bytes, project: str, session: str) -> Body:
    """An event of its fields as JSON; project and session as given, where it has these and does not say them itself.

    Raises InvalidInput `event.malformed`, which names the field, and others.
    """
    name = event.__name__
    if len(raw) > LINE_BYTES:
        raise InvalidInput("line.too_large", f"It has more than {LINE_BYTES:,} bytes.", "Give it fewer.")
    known = {field.encode_name for field in msgspec.structs.fields(event)}
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        run_id = msgspec.json.decode(raw, type=Named).run_id if "run_id" not in known else ""
        for given, value in (("project", project), ("session", session)):
            if value and given in known and not fields.get(given):
                fields[given] = value
        said = msgspec.convert(fields, event)
    except UNREADABLE as problem:
        hint = f"`victoria events {name}` shows its fields."
        raise InvalidInput("event.malformed", f"This is no {name}: {problem}", hint) from problem
    if unknown := fields.keys() - known - {"run_id"}:
        raise InvalidInput(
            "event.malformed",
            f"This is no {name}: it has no field `{min(unknown)[:80]}`.",
            f"Its fields are {', '.join(sorted(known))}, and `run_id`.",
        )
    if "project" in known:
        where = victoria.projects.require(fields.get("project") or victoria.projects.main)
        said = msgspec.structs.replace(said, project=where)
    if "session" in known:
        session_named(fields.get("session") or "")
    return Body(run_id or new_run_id(), said)


def is_goal(name: str) -> bool:
    """Whether these are goals, which come in their own way."""
    return name in ("", GoalSubmitted.__name__)
