"""Prometheus is told of all that goes on, in names that its linter likes, and dashboard and alerts ask for these."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.observed.figures import OTHER, Figures
from gateway.figures import pages
from schemas.events import InferenceRequested
from schemas.plan import Usage
from tests.gateway.indoors import indoors
from tests.observed.exposition import families, faults, series, unknown
from tests.rows.conftest import Build
from tests.rows.house import House
from tests.rows.investigation import GOAL, SAYS

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "victoria.rules.yaml").read_text())
MOST = 20
"""Combinations of labels in these tests."""
DASHBOARD = json.loads((DEPLOY / "grafana" / "victoria.json").read_text())


def queries() -> Iterator[tuple[str, str]]:
    """All that alerts and panels ask, by their names."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            name = variable["query"]["query"].removeprefix("label_values(").split(",")[0]
            yield variable["name"], name


async def text_of(house: House) -> tuple[str, str]:
    """What a worker and a door say after a run."""
    app: Any = pages(house.victoria)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        told = await client.get("/metrics")
        assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await client.get("/")).status_code == 404
        worker = told.text
    async with indoors(house.victoria) as client:
        await client.post("/run", json={"goal": ""})
        door = (await client.get("/metrics")).text
    return worker, door


@pytest.fixture
async def told(house: Build) -> AsyncIterator[tuple[str, str]]:
    """The figures of a worker and of a door, after a run with tools and models."""
    async with house(SAYS, measured=True, delay=0.01) as home:
        assert home.victoria.figures
        home.victoria.figures.written = lambda: 7
        await home.run(GOAL)
        yield await text_of(home)


async def test_what_is_told_is_true_well_named_and_all_that_is_asked_for(told: tuple[str, str]) -> None:
    worker, door = told
    lines = worker.splitlines()
    assert list(faults(worker)) == []
    assert list(faults(door)) == []
    for line in (
        'victoria_stage_entries_total{outcome="handled",stage="understand"} 1.0',
        'victoria_tool_calls_total{outcome="ok",tool="list_directory"}',
        'victoria_effects_total{kind="call",source="run"}',
        'victoria_model_breaker_open{engine="local"',
        "victoria_history_entries_total 7.0",
        "victoria_server_up 1.0",
    ):
        assert any(found.startswith(line) for found in lines), line
    assert "alpha" not in worker + door
    by_name = families(worker)
    for name in ("handling", "wait", "settle"):
        samples = by_name[f"victoria_stage_{name}_seconds"].samples
        counts = {s.labels["stage"]: s.value for s in samples if s.name.endswith("_count")}
        assert counts["understand"] >= 1
        assert all(s.value >= 0 for s in samples)

    there = series(worker)
    for name, labels in series(door).items():
        there.setdefault(name, set()).update(labels)
    asked = dict(queries())
    assert len(asked) > 40
    assert {name: lacks for name, query in asked.items() if (lacks := unknown(query, there))} == {}

    # A name that changes is noticed, of a series, of a label, and in a grouping.
    renamed = {name.replace("_lag_entries", "_lag"): labels for name, labels in there.items()}
    assert [name for name, query in asked.items() if unknown(query, renamed)]
    relabelled = {name: {label for label in labels if label != "stage"} for name, labels in there.items()}
    assert "VictoriaDeadLetters" in {name for name, query in asked.items() if unknown(query, relabelled)}


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["description"]) > 80


def test_a_dashboards_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_whatever_models_are_called_there_are_not_too_many_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.observed.figures.MOST_LABELS", MOST)
    figures = Figures()
    for number in range(3 * MOST):
        event = _question(f"model-{number}")
        with figures.asking("ollama", event, "run-1") as asked:
            asked.first()
            asked.ended(Usage(event.model, 1, 5, 7, 0.5))
    for family in figures.collect():
        assert len({(s.labels.get("engine"), s.labels.get("model")) for s in family.samples}) <= MOST + 1
    (requests,) = [family for family in figures.collect() if family.name == "victoria_model_requests"]
    assert {s.labels["model"]: s.value for s in requests.samples}[OTHER] == 2 * MOST


def test_a_question_that_is_broken_off_counts_as_cancelled() -> None:
    figures = Figures()
    with pytest.raises(ZeroDivisionError), figures.asking("local", _question("m"), "run-1"):
        raise ZeroDivisionError
    (requests,) = [family for family in figures.collect() if family.name == "victoria_model_requests"]
    assert [s.labels["outcome"] for s in requests.samples] == ["cancelled"]


def _question(model: str) -> InferenceRequested:
    now = datetime.now(UTC)
    return InferenceRequested(
        effect="e", request="r", messages=(), max_tokens=1, reply_to="x", deadline=now, model=model
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# TYPE a_total counter\na_total 1\n", "no help"),
        ("# HELP a_total A.\na_total 1\n", "no type"),
        ("# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n", "no counter"),
        ("# HELP a_milliseconds A.\n# TYPE a_milliseconds gauge\na_milliseconds 1\n", "base units"),
        ("# HELP aB A.\n# TYPE aB gauge\naB 1\n", "snake case"),
        ("# HELP a_count A.\n# TYPE a_count gauge\na_count 1\n", "as a histogram"),
        ('# HELP a A.\n# TYPE a gauge\na{le="1"} 1\n', "label of histograms"),
    ],
)
def test_the_linter_of_these_tests_finds_what_is_wrong(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text))
