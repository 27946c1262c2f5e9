"""What an answer rests on, as far as it can be looked at again: a call of a tool, and what it gave, by its hash."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from consumers.tools.registry import Registry, carried_out
from consumers.tools.tool import Asked, Missing, Site, ToolArguments
from schemas.errors import VictoriaError
from schemas.plan import Seen, ToolCall

MOST = 16
"""Things that an answer may rest on: more are not looked at again."""


def with_seen(sources: tuple[Seen, ...] | None, call: ToolArguments, gave: str) -> tuple[Seen, ...] | None:
    """These sources and one more; None where they can't all be looked at again."""
    if sources is None or not call.again:
        return None
    seen = Seen(_call(call), _digest(gave))
    if seen in sources:
        return sources
    return (*sources, seen) if len(sources) < MOST else None


async def unchanged(sources: Sequence[Seen], tools: Registry, site: Site) -> bool:
    """Whether the same calls give the same now. Only what may be called again is."""
    for each in sources[: MOST + 1]:
        try:
            call = tools.parse(each.call)
            if not call.again or _digest(await carried_out(call, site)) != each.digest:
                return False
        except (VictoriaError, Asked, Missing):
            return False
    return len(sources) <= MOST


def _call(call: ToolArguments) -> ToolCall:
    arguments = msgspec.to_builtins(call)
    return ToolCall(call.name, {name: value for name, value in arguments.items() if name not in ("tool", "thought")})


def _digest(gave: str) -> str:
    return blake2b(gave.encode(errors="surrogatepass"), digest_size=32).hexdigest()
