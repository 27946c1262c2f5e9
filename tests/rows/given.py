"""Plans that a test gives: by a strategy of the user's own, a file in the folder for them, which shapes what it finds
beside it."""

from pathlib import Path
from typing import Any

import msgspec

from schemas.events import PlanProposed
from schemas.plan import Plan, Step
from tests.rows.house import House

STRATEGY = """
from pathlib import Path

import msgspec

from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan


class Given(Strategy):
    name = "given"
    description = "the plan of a test"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        return msgspec.json.decode(Path(__file__).with_name("plan.json").read_bytes(), type=Plan)
"""


def strategy_in(folder: Path) -> None:
    """Put the strategy into a folder of strategies."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "given.py").write_text(STRATEGY)


def step(id_: str, *needs: str, how: Any = "answer", **more: Any) -> Step:
    """A step of such a plan, by default one answer of the model to `Do <id>.`"""
    return Step(id_, f"title {id_}", more.pop("instruction", f"Do {id_}."), how=how, depends_on=needs, **more)


async def planned(
    home: House, *steps: Step, goal: str = "Do all of it.", submitted: dict[str, Any] | None = None, **plan: Any
) -> str:
    """Submit a goal that gets this plan, and wait for that; the run's id. No model is asked for it."""
    beside = home.victoria.settings.strategies_dir / "plan.json"
    beside.write_bytes(msgspec.json.encode(Plan("given", steps, **plan)))
    run = await home.submit(goal, strategy="given", expert="memo", **submitted or {})
    await home.said(run, PlanProposed)
    return run
