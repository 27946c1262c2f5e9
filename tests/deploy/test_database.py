"""The embedded database as who does not keep it running finds it; tests/gateway/test_memory.py has it running."""

from pathlib import Path

import pytest

from consumers.memory import ASLEEP, NOWHERE
from consumers.postgres.memories import Memories
from deploy.database import Nearby, folder_of
from deploy.settings import Settings
from schemas.errors import NotReachable
from schemas.events import MemoryKept
from tests.memories import AT


async def test_while_nobody_runs_it_nothing_is_recalled_and_who_keeps_is_told_whether_to_wait(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    nearby = Nearby(settings)
    memories = Memories(nearby)
    for code in (NOWHERE, ASLEEP):
        assert not nearby.awake
        assert await memories.recall("shop", "", "tulips") == ()
        with pytest.raises(NotReachable) as told:
            await memories.keep("m", MemoryKept(text="x"), AT)
        assert told.value.code == code
        folder_of(settings).mkdir(exist_ok=True)


async def test_one_that_was_killed_is_no_longer_waited_for(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    folder_of(settings).mkdir()
    socket = tmp_path / "run"
    socket.mkdir(mode=0o700)
    (folder_of(settings) / "socket").write_text(str(socket / ".s.PGSQL.5432"))
    nearby = Nearby(settings)
    assert nearby.awake
    assert await Memories(nearby).recall("shop", "", "tulips") == ()
    with pytest.raises(NotReachable, match="No database answers"):
        await Memories(nearby).keep("m", MemoryKept(text="x"), AT)
