"""What is worth knowing is kept once, and waits for the database as long as that is away."""

from datetime import datetime

import pytest

from consumers.memory import ASLEEP, NOWHERE
from consumers.remember import handle, stage
from schemas.errors import NotReachable
from schemas.events import MemoryKept
from streams.stage import Snooze
from streams.testing import ScriptedContext


class Kept:
    """Keeps in memory, unless `away` says why not."""

    def __init__(self, away: str = "") -> None:
        self.found: dict[str, MemoryKept] = {}
        self.away = away

    async def keep(self, memory_id: str, kept: MemoryKept, at: datetime) -> bool:
        del at
        if self.away:
            raise NotReachable(self.away, "It is away.")
        return self.found.setdefault(memory_id, kept) is kept


FACT = MemoryKept(text="The gate opens at nine", project="shop", tag="fact")


async def test_it_is_kept_under_its_events_id() -> None:
    keeper = Kept()
    for _ in range(2):
        assert await handle(FACT, ScriptedContext[None](), keeper) == []
    assert keeper.found == {"event-1": FACT}


@pytest.mark.parametrize("away", ["database.unreachable", ASLEEP])
async def test_while_the_database_is_away_it_is_tried_again_without_end(away: str) -> None:
    with pytest.raises(Snooze):
        await handle(FACT, ScriptedContext[None](), Kept(away))


async def test_without_a_database_and_without_words_there_is_nothing_to_keep() -> None:
    ctx, keeper = ScriptedContext[None](), Kept()
    await handle(FACT, ctx, None)
    assert await handle(FACT, ScriptedContext[None](), Kept(NOWHERE)) == []
    await handle(MemoryKept(text=" \n"), ctx, keeper)
    assert ctx.called == []
    assert MemoryKept in stage(None).accepts
