"""A small storm, and one crash of every stage: `make chaos` does the whole."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import summary, trouble
from tests.chaos.bench import Bench, Cell
from tests.chaos.bench import trouble as trouble_of
from tests.chaos.boundary import Boundary
from tests.chaos.calamities import KINDS, schedule
from tests.chaos.chaos import Plan, chaos
from tests.chaos.server import Server


@pytest.mark.heavy
async def test_whatever_is_killed_every_run_ends_once_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    struck: list[str] = []
    report = await chaos(Plan(seed=11, runs=40, calamities=5, workers=3), tmp_path, struck.append)
    assert trouble(report) == []
    assert report.holds
    assert report.verdict.ended_once == 40
    assert len(struck) == 5
    assert summary(report)["holds"] is True


@pytest.mark.parametrize(
    ("stage", "boundary"),
    [
        ("understand", Boundary("settle", 1, "after")),
        pytest.param("plan", Boundary("question", 1, "after"), marks=pytest.mark.heavy),
        pytest.param("step-execute", Boundary("record", 2, "before"), marks=pytest.mark.heavy),
        pytest.param("aggregate", Boundary("settle", 2, "before"), marks=pytest.mark.heavy),
        ("infer.local", Boundary("action", 4, "after")),
    ],
)
async def test_a_stage_that_dies_at_a_boundary_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, stage: str, boundary: Boundary
) -> None:
    crash = await Bench(server, tmp_path).crash(Cell(1, stage, boundary))
    assert trouble_of(crash) == []
    assert crash.holds


async def test_a_crash_that_never_came_is_no_success(server: Server, tmp_path: Path) -> None:
    crash = await Bench(server, tmp_path).crash(Cell(1, "plan", Boundary("settle", 99, "before")))
    assert crash.verdict.holds
    assert not crash.holds
    assert "did not die" in trouble_of(crash)[0]


def test_a_seed_is_a_schedule() -> None:
    assert schedule(3, 30, 4, 1.0) == schedule(3, 30, 4, 1.0)
    assert schedule(3, 30, 4, 1.0) != schedule(4, 30, 4, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_calamity_strikes_and_a_pause_outlasts_the_lease(seed: int) -> None:
    calamities = schedule(seed, 30, 4, 1.0)
    assert {calamity.kind for calamity in calamities} == set(KINDS)
    assert {calamity.victim for calamity in calamities} <= set(range(4))
    assert all(calamity.lasts > 1.0 for calamity in calamities if calamity.kind == "pause worker")
