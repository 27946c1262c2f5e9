"""A recorded run, folded again, comes to the same, without a model; where it does not, the place is shown."""

from collections.abc import Mapping

from streams.history import History
from streams.replay import replay
from streams.tape import Tape
from tests.rows.conftest import Build
from tests.rows.house import House, Says, act, decomposition, finish, in_turn, step

SAYS: Mapping[str, Says] = {
    "understand": {"restated": "?", "category": "multi_step", "first_step": ""},
    "decompose": decomposition(step("1", "Look into it."), step("2", "Say why.", "backend", "1")),
    "act": in_turn(
        act("list_directory", path="docs"),
        finish("There is alpha."),
        act("read_file", path="README.md"),
        finish("Because."),
    ),
    "fuse": "All in all: alpha.",
}
GOAL = "Investigate the folder docs, then say what it means"


async def taped(home: House, run: str) -> Tape:
    v = home.victoria
    return await History(v.client, v.keys, v.topology).tape(run)


async def test_a_run_with_tools_and_models_comes_to_the_same_without_any_model(house: Build) -> None:
    async with house(SAYS) as home:
        run = await home.submit(GOAL)
        print(await home.end(run))
        asked = len(home.asked)
        tape = await taped(home, run)
        verdict = await replay(tape, home.victoria.topology)
        print(verdict)
        assert verdict.verdict == "identical"
        assert len(home.asked) == asked
        assert verdict.events >= 8
