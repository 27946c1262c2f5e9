"""A run is one trace: whoever looks sees what followed from what, and nothing that was not to be told."""

import importlib
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.observed import names
from deploy.observed.traces import Traces, trace_id
from deploy.settings import Settings
from deploy.wiring import traces_of
from schemas.envelope import Envelope, encode
from schemas.errors import CouldNotStart
from schemas.events import GoalSubmitted
from streams.append import new_run_id
from streams.entry import Entry, accepts
from streams.history import History
from streams.replay import replay
from streams.settlement import Handled
from tests.gateway.indoors import ended, indoors
from tests.observed.collector import Collector, Span
from tests.rows.conftest import Build
from tests.rows.house import House
from tests.rows.investigation import GOAL, SAID, SAYS
from tests.workshop import intake_stage

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def traced(home: House) -> str:
    """A run that is traced; its id."""
    run = await home.submit(GOAL, new_run_id())
    await home.end(run)
    return run


def hanging(spans: list[Span]) -> dict[str, str]:
    """The name of each span's parent, by what the span is: its name and whatever it is about."""
    by_id = {span.id: span for span in spans}
    return {span.name: by_id[span.parent].name if span.parent in by_id else span.parent for span in spans}


async def test_a_run_is_the_trace_of_its_id_with_models_and_tools_below_what_asked_them(
    house: Build, collector: Collector
) -> None:
    async with house(SAYS, otel="true", measured=True) as home:
        run = await traced(home)
        asked = len(home.asked)
        tape = await History(home.victoria.client, home.victoria.keys, home.victoria.topology).tape(run)
        again = await replay(tape, home.victoria.topology)
    spans = collector.of(run)
    assert {span.trace for span in collector.spans if not span.links} == {run}
    parents = hanging(spans)
    assert parents["send intake"] == ""
    assert parents["process intake"] == "send intake"
    assert parents["process plan"] == "process intake"
    assert parents["process infer.local"].startswith("process ")
    assert parents["execute_tool list_directory"] == "process step-execute"
    chats = [span for span in spans if span.name.startswith("chat ")]
    assert len(chats) == asked
    by_id = {span.id: span for span in spans}
    assert {by_id[span.parent].name for span in chats} == {"process infer.local"}
    for chat in chats:
        told = chat.attributes
        assert (told[names.GEN_AI_OPERATION], told[names.GEN_AI_PROVIDER]) == ("chat", "local")
        assert told[names.GEN_AI_TOKENS_OUT] >= 0
    assert "alpha" not in str(spans)
    assert GOAL not in str(spans)

    # What it is traced as changes nothing of what a run comes to.
    assert (again.verdict, again.difference) == ("identical", None)
    assert {span.name for span in collector.of(run)} == {span.name for span in spans}, "a replay asks nobody"

    steps = [span for span in spans if span.attributes.get(names.EVENT_TYPE) == "StepFinished"]
    causes = {link for span in steps for link in span.links}
    assert causes
    assert causes <= {span.id for span in spans if span.name == "process aggregate"}


async def test_goals_prompts_and_answers_are_told_only_when_that_is_asked_for(
    house: Build, collector: Collector
) -> None:
    async with house({**SAYS}, otel="true", otel_content="true") as home:
        run = await traced(home)
    told = {span.name: span.attributes for span in collector.of(run)}
    assert told["send intake"][names.GOAL] == GOAL
    assert "alpha.txt" in told["execute_tool list_directory"][names.GEN_AI_TOOL_RESULT]
    answers = [span.attributes[names.GEN_AI_OUTPUT] for span in collector.of(run) if span.name.startswith("chat ")]
    assert any(SAID in answer for answer in answers)


async def test_a_callers_trace_goes_on_and_what_it_does_not_sample_is_not_traced(
    house: Build, collector: Collector
) -> None:
    trace, parent = CALLER
    before = ""
    async with house(None, otel="true") as home, indoors(home.victoria) as client:
        for flags in ("00", "01"):
            body = {"goal": "List the files in the folder docs"}
            headers = {"traceparent": f"00-{trace}-{parent}-{flags}"}
            said = (await client.post("/run", json=body, headers=headers)).raise_for_status().json()
            await ended(client, f"/run/status/{said['task_id']}")
            if flags == "00":
                before = said["task_id"]
    spans = collector.of(trace)
    assert not [span for span in spans if span.attributes.get(names.MESSAGING_CONVERSATION) == before]
    parents = hanging(spans)
    assert parents["POST /run"] == parent
    assert parents["send intake"] == "POST /run"
    assert parents["process intake"] == "send intake"
    assert "process aggregate" in parents


async def test_a_collector_that_is_away_neither_slows_a_run_nor_keeps_its_process(
    house: Build, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.observed.traces.CLOSE_WITHIN", 0.2)
    collector.out = True
    async with house(None, otel="true") as home:
        assert (await home.run("List the files in the folder docs")).status == "completed"
    assert collector.bodies == []
    assert not [thread.name for thread in threading.enumerate() if "Otel" in thread.name], "it does not go on trying"


async def test_a_context_that_is_none_harms_nothing(house: Build, collector: Collector) -> None:
    zero, wrong = f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{'1' * 32}-{'1' * 16}-01"
    async with house(None, otel="true") as home, indoors(home.victoria) as client:
        for sent in (b"garbage", b"1", zero.encode(), wrong.encode(), "\u0661".encode(), b"01" * 4_000):
            headers: Any = [(b"traceparent", sent), (b"content-type", b"application/json")]
            body = b'{"goal": "List the files in the folder docs"}'
            said = (await client.post("/run", content=body, headers=headers)).raise_for_status().json()
            assert (await ended(client, f"/run/status/{said['task_id']}"))["status"] == "completed"
    requests = [span for span in collector.spans if span.name == "POST /run"]
    assert [span.parent for span in requests] == [""] * 6


def test_a_runs_trace_can_be_told_from_its_id_whatever_that_is() -> None:
    run = new_run_id()
    assert f"{trace_id(run):032x}" == run
    assert trace_id("run-1") == trace_id("run-1") != trace_id("run-2")
    assert 0 < trace_id("0" * 32) < 1 << 128


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "deploy.observed.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(CouldNotStart, match=r"victoria-streams\[otel\]") as missing:
        traces_of(Settings(otel=True))
    assert missing.value.code == "otel.missing"
    assert traces_of(Settings()) is None


def test_variables_that_can_not_be_are_said_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-5")
    with pytest.raises(CouldNotStart, match="OTEL_") as wrong:
        traces_of(Settings(otel=True))
    assert wrong.value.code == "otel.malformed"


def test_names_are_those_of_the_conventions() -> None:
    known: set[str] = set()
    for module in (
        "_incubating.attributes.gen_ai_attributes",
        "_incubating.attributes.messaging_attributes",
        "attributes.error_attributes",
        "attributes.http_attributes",
    ):
        found = vars(importlib.import_module(f"opentelemetry.semconv.{module}"))
        known |= {value for value in found.values() if isinstance(value, str)}
    ours = {value for name, value in vars(names).items() if name.isupper() and "." in value}
    assert {name for name in ours if not name.startswith("victoria.")} <= known


async def test_what_can_not_be_published_ends_its_span_as_failed(collector: Collector) -> None:
    traces = Traces(endpoint=f"{collector.url}/v1/traces")
    with suppress(ValueError), traces.publishing("intake", [("run-1", GoalSubmitted(goal="?"))]) as (context,):
        assert context.endswith("-01")
        raise ValueError("secret")
    traces.close()
    (span,) = collector.spans
    assert (span.failed, span.attributes[names.ERROR_TYPE]) == (True, "ValueError")
    assert "secret" not in str(span)


async def test_a_batch_has_one_span_that_is_linked_to_the_handling_of_each(collector: Collector) -> None:
    async def handle(entry: Entry) -> Handled:
        return Handled(entry)

    async def nothing(_event: GoalSubmitted, _ctx: Any) -> list[Any]:
        return []

    stage = intake_stage(nothing)
    traces = Traces(endpoint=f"{collector.url}/v1/traces")
    batch: list[Handled] = []
    for number in range(3):
        run, goal = new_run_id(), GoalSubmitted(goal="?")
        with traces.publishing("intake", [(run, goal)]) as (context,):
            envelope: Any = Envelope(f"{number}", run, 1, datetime.now(UTC), "user", goal, traceparent=context)
        fields = (b"type", b"GoalSubmitted", b"event", encode(envelope))
        batch.append(await traces.handling(stage, handle, Entry(b"%d-1" % number, fields, "0", accepts(stage))))
    traces.settled(stage, batch, [1, 1, 0], 0.001)
    traces.settled(stage, batch, [1, 1, 1], 0.001)
    traces.close()
    handled = {span.id for span in collector.spans if span.name == "process intake"}
    (settled,) = [span for span in collector.spans if span.name == "settle intake"]
    assert (len(handled), {*settled.links}) == (3, handled)
    assert settled.attributes[names.MESSAGING_BATCH] == 3
