"""What the HTTP door says of itself: the document of its pages, readiness, figures, and why runs wait."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from deploy.loading import load
from deploy.valkey import server_binary
from deploy.victoria import Victoria
from deploy.wiring import opened
from gateway.http.health import Found, look
from gateway.http.tokens import Tokens, minted
from schemas.plan import Plan, ToolCall
from streams.groups import create_groups
from streams.lag import Count
from tests.gateway.indoors import ended, indoors
from tests.rows.given import step, strategy_in
from tests.rows.house import at_work as house
from tests.servers import Node
from tests.workshop import eventually

GOAL = "Read docs/beta.txt"
STAGES = ("understand", "plan", "step-execute", "aggregate")

Open = Callable[..., AbstractAsyncContextManager[Victoria]]


@pytest.fixture
def open_(redis_url: str, prefix: str, tmp_path: Path) -> Open:
    """Opens a Victoria with these settings, without any worker."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "beta.txt").write_text("This is beta.\n")

    def build(**settings: str) -> AbstractAsyncContextManager[Victoria]:
        chosen = {"redis_url": redis_url, "prefix": prefix, "model": "none", "grace": "1", **settings}
        return opened(load(chosen, {}, tmp_path), chosen["redis_url"])

    return build


@pytest.fixture
async def victoria(open_: Open) -> AsyncIterator[Victoria]:
    """A Victoria that nobody works for."""
    async with open_() as victoria:
        yield victoria


@asynccontextmanager
async def at_work(victoria: Victoria, *stages: str) -> AsyncGenerator[None]:
    """Inside, a worker runs these stages, by default those that runs need."""
    worker = victoria.worker(stages or STAGES)
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        yield
        worker.stop()


async def sent(client: httpx.AsyncClient, **body: Any) -> str:
    """Send a goal; where its status is."""
    taken = await client.post("/run", json={"goal": GOAL, **body})
    return taken.raise_for_status().headers["location"]


# The document


async def test_every_page_is_in_the_document_and_every_reference_leads_somewhere(victoria: Victoria) -> None:
    async with indoors(victoria) as client:
        told = (await client.get("/openapi.json")).json()
    assert told["openapi"] == "3.1.0"
    operations = [each for methods in told["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert told["paths"].keys() >= {
        "/run", "/orchestrate", "/run/status/{task_id}", "/run/{task_id}/cancel", "/questions",
        "/questions/{question_id}/answer", "/status", "/livez", "/readyz", "/metrics",
    }  # fmt: skip
    for reference in re.findall(r'"#/components/schemas/(\w+)"', str(told).replace("'", '"')):
        assert reference in told["components"]["schemas"]
    for each in operations:
        for status in set(each["responses"]) & {"503", "429"}:
            assert "Retry-After" in each["responses"][status]["headers"]
        for link in (link for answer in each["responses"].values() for link in answer.get("links", {}).values()):
            assert link["operationId"] in names
    assert "department_heads" in told["components"]["schemas"]["RunRequest"]["properties"]["strategy"]["enum"]


async def test_the_reader_of_the_document_needs_nothing_from_elsewhere(victoria: Victoria) -> None:
    async with indoors(victoria) as client:
        links = (await client.get("/")).json()
        page = await client.get(links["docs"])
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'; script-src 'self';" in page.headers["content-security-policy"]
        assert "//" not in page.text
        assets = re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text)
        assert len(assets) == 3
        for asset in assets:
            found = await client.get(asset)
            assert found.status_code == 200
            assert found.headers["content-type"].startswith(("text/javascript", "text/css"))
        for unknown in ("app.js", "..%2F..%2Fapp.py", "swagger_bundle.js"):
            assert (await client.get(f"/docs/{unknown}")).status_code == 404


async def test_a_wrong_method_is_told_the_right_ones_and_a_wrong_kind_of_body_too(victoria: Victoria) -> None:
    async with indoors(victoria) as client:
        for method, path, right in (
            ("GET", "/run", {"POST"}),
            ("TRACE", "/orchestrate", {"POST"}),
            ("DELETE", "/questions", {"GET", "HEAD"}),
            ("PUT", "/questions/x/answer", {"POST"}),
            ("POST", "/metrics", {"GET", "HEAD"}),
        ):
            refused = await client.request(method, path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (405, "http.method")
            assert set(refused.headers["allow"].split(", ")) == right
        for media in ("application/xml", "multipart/form-data; boundary=x", "image/png"):
            refused = await client.post("/run", content=b'{"goal": "x"}', headers={"Content-Type": media})
            assert (refused.status_code, refused.json()["error"]["code"]) == (415, "http.media")
        for media in ("application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain", ""):
            taken = await client.post("/run", content=b'{"goal": "x"}', headers={"Content-Type": media})
            assert taken.status_code == 202
        assert (await client.head("/status")).status_code == 200


# Whether it is ready


async def test_readyz_names_what_is_missing_and_is_200_once_nothing_is(open_: Open) -> None:
    async with open_(model="ollama:nobody-has-it") as victoria, indoors(victoria) as client:
        told = await client.get("/readyz")
        assert (told.status_code, told.json()["missing"]) == (503, ["stages", "model"])
        assert told.headers["retry-after"]
        stages = told.json()["dependencies"][1]
        assert "No worker for understand, plan, step-execute, aggregate" in stages["message"]
        assert "victoria up" in stages["hint"]
    async with open_() as victoria, indoors(victoria) as client, at_work(victoria, *STAGES, "delegate"):
        told = await client.get("/readyz")
        assert (told.status_code, told.json()["missing"]) == (200, [])


async def test_a_door_for_others_tells_its_figures_by_the_tokens_of_before_and_nobody_where_its_server_is(
    open_: Open, tmp_path: Path
) -> None:
    server = Node(server_binary(), tmp_path / "server")
    server.start()
    try:
        async with open_(redis_url=server.url) as victoria, indoors(victoria, local=False) as client:
            text, token = minted("prometheus", ("read",))
            await Tokens(victoria.client, victoria.keys, server.url).add(token)
            by = {"Authorization": f"Bearer {text}"}
            assert "victoria_server_up 1.0" in (await client.get("/metrics", headers=by)).text
            server.kill()
            await anyio.sleep(1.1)  # what was found is good for a second
            assert "victoria_server_up 0.0" in (await client.get("/metrics", headers=by)).text
            assert (
                await client.get("/metrics", headers={"Authorization": f"{by['Authorization']}x"})
            ).status_code == 401
            assert (await client.get("/status", headers=by)).status_code == 503
            told = await client.get("/readyz")
            assert (told.status_code, told.json()["missing"]) == (503, ["server"])
            assert server.url.rpartition("/")[2] not in told.text
    finally:
        server.kill()


async def test_without_its_server_it_lives_is_not_ready_and_says_so_in_its_figures(open_: Open, tmp_path: Path) -> None:
    server = Node(server_binary(), tmp_path / "server")
    server.start()
    try:
        async with open_(redis_url=server.url) as victoria, indoors(victoria) as client:
            assert "victoria_server_up 1.0" in (await client.get("/metrics")).text
            server.kill()
            told = await client.get("/readyz")
            assert (told.status_code, told.json()["missing"]) == (503, ["server"])
            assert (await client.get("/livez")).json() == {"status": "ok"}
            await anyio.sleep(1.1)  # what was found is good for a second
            figures = (await client.get("/metrics")).text
            assert "victoria_server_up 0.0" in figures
            assert "victoria_stage_lag_entries{" not in figures
            refused = await client.get("/status")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server.unreachable")
    finally:
        server.kill()


# Figures


async def test_figures_count_routes_and_errors_and_never_say_what_a_client_wrote(victoria: Victoria) -> None:
    async with indoors(victoria) as client:
        await sent(client, goal="a secret goal")
        await client.post("/run", json={"goal": ""})
        await client.post("/run", content=b"{")
        await client.get("/run/status/secret")
        await client.get("/secret")
        await client.request("SECRET", "/run")
        figures = (await client.get("/metrics")).text
    assert "secret" not in figures.lower()
    for line in (
        'victoria_http_requests_total{code="202",method="POST",route="/run"} 1.0',
        'victoria_http_requests_total{code="400",method="POST",route="/run"} 2.0',
        'victoria_http_requests_total{code="404",method="GET",route="/run/status/{task_id}"} 1.0',
        'victoria_http_requests_total{code="404",method="GET",route="none"} 1.0',
        'victoria_http_requests_total{code="405",method="other",route="/run"} 1.0',
        'victoria_http_request_duration_seconds_count{method="POST",route="/run"} 3.0',
        "victoria_runs_submitted_total 1.0",
        'victoria_runs_refused_total{error="goal.empty"} 1.0',
        'victoria_runs_refused_total{error="http.malformed"} 1.0',
        "victoria_requests_in_hand 0.0",
        'victoria_stage_lag_entries{stage="understand"} 1.0',
        'victoria_stage_live_workers{stage="understand"} 0.0',
    ):
        assert line in figures.splitlines()
    assert "victoria_build_info{" in figures


async def test_a_lag_the_server_does_not_know_is_null_and_no_figure(
    victoria: Victoria, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_groups(victoria.client, victoria.keys, victoria.topology)
    found = await look(victoria)
    lost_count = msgspec.structs.replace(found.measures["understand"], undelivered=Count(None, 0, 9))
    unknown = {**found.measures, "understand": lost_count}

    async def lost(_victoria: Victoria) -> Found:
        return replace(found, measures=unknown)

    monkeypatch.setattr("gateway.http.health.look", lost)
    async with indoors(victoria) as client:
        stages = {stage["name"]: stage for stage in (await client.get("/status")).json()["stages"]}
        assert stages["understand"]["lag"] is None
        assert stages["plan"]["lag"] == 0
        figures = (await client.get("/metrics")).text
        assert 'victoria_stage_lag_entries{stage="understand"}' not in figures
        assert 'victoria_stage_lag_entries{stage="plan"} 0.0' in figures


# Why a run waits


async def test_a_goal_at_intake_knows_its_place_until_a_worker_takes_it(victoria: Victoria) -> None:
    async with indoors(victoria) as client:
        pages = [await sent(client) for _ in range(3)]
        for place, page in enumerate(pages):
            found = (await client.get(page)).json()
            assert found["status"] == "queued"
            assert found["waiting"] == {"stage": "understand", "place": place, "question": None, "model": None}
            assert "no worker for understand" in found["waits_for"]

        async def is_understood() -> bool:
            return (await client.get(pages[2])).json()["waiting"]["stage"] == "plan"

        async with at_work(victoria, "understand"):
            await eventually(is_understood)


@pytest.mark.parametrize("page", ["/run/status/1", "/run/1/cancel", "/status", "/questions", "/v1/chat/completions"])
async def test_a_server_that_is_silent_counts_as_away(
    victoria: Victoria, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    async with indoors(victoria) as client:
        monkeypatch.setattr("streams.cluster.ANSWER_WITHIN", 0.0)
        if page.endswith(("cancel", "completions")):
            answer = await client.post(page, json={"model": "victoria", "messages": [{"role": "user", "content": "?"}]})
        else:
            answer = await client.get(page)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


async def test_a_run_whose_model_is_not_there_names_it(open_: Open) -> None:
    async with open_(model="ollama:nobody-has-it") as victoria, indoors(victoria) as client, at_work(victoria):
        page = await sent(client, goal="Why is the sky blue, and the sea, and how do they differ?")
        found: dict[str, Any] = {}

        async def names_its_model() -> bool:
            found.update((await client.get(page)).json())
            return found["waiting"] is not None and found["waiting"]["model"] is not None

        await eventually(names_its_model)
        assert (found["status"], found["waiting"]["model"]) == ("waiting", "ollama:nobody-has-it")
        assert found["waiting"]["stage"] == "understand"


async def test_a_question_in_the_line_of_a_model_knows_its_place_and_one_that_is_answered_the_model(
    redis_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.answers.LOOK_AGAIN", 0.1)
    folder, go = tmp_path / "house", anyio.Event()
    async with house(redis_url, prefix, folder, {"answer": "Well."}) as home, indoors(home.victoria) as client:
        home.model.engine.between = go.wait
        pages = [
            await sent(client, goal="Why?", strategy="simple") for _ in range(home.victoria.settings.local_slots + 2)
        ]

        async def looked() -> list[Any]:
            return [(await client.get(page)).json() for page in pages]

        async def all_wait() -> bool:
            return sorted(found["waiting"]["place"] for found in await looked() if in_line(found)) == [0, 1]

        await eventually(all_wait)
        waiting = await looked()  # once more: before, some may have been seen when they had not come so far
        assert {found["status"] for found in waiting} == {"running"}
        assert {found["waits_for"] for found in waiting} == {
            "",
            "scripted, which is busy",
            "scripted, which has 1 other question first",
        }
        go.set()
        assert {(await ended(client, page))["status"] for page in pages} == {"completed"}


def in_line(found: Any) -> bool:
    """Whether a run waits in the line of a model."""
    return (
        found["waiting"] is not None
        and found["waiting"]["model"] == "scripted"
        and found["waiting"]["place"] is not None
    )


async def test_a_turn_of_a_session_knows_how_many_are_before_it(victoria: Victoria) -> None:
    async with indoors(victoria) as client, at_work(victoria, "understand"):  # nobody plans, so no turn ends
        first, second, third = [await sent(client, session_id="s") for _ in range(3)]

        async def stands_in_line() -> bool:
            found = (await client.get(third)).json()
            return found["waiting"] == {"stage": "understand", "place": 2, "question": None, "model": None}

        await eventually(stands_in_line)
        assert "an earlier turn of its session 's'" in (await client.get(second)).json()["waits_for"]
        async with at_work(victoria, "plan", "step-execute", "aggregate", "memory-compress"):
            assert [(await ended(client, page))["status"] for page in (first, second, third)] == ["completed"] * 3


async def test_an_answer_that_nobody_takes_yet_is_202_and_is_taken_later(
    open_: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.questions.WITHIN", 0.1)
    strategy_in(tmp_path / "strategies")
    asks = step("1", how="tool", call=ToolCall("ask_user", {"question": "Which one?"}))
    (tmp_path / "strategies" / "plan.json").write_bytes(msgspec.json.encode(Plan("given", (asks,))))
    async with open_(strategies_dir=str(tmp_path / "strategies")) as victoria, indoors(victoria) as client:
        listed: Any = []

        async def is_listed() -> bool:
            listed[:] = (await client.get("/questions")).json()["questions"]
            return bool(listed)

        async with at_work(victoria):
            page = await sent(client, strategy="given")
            await eventually(is_listed)
        answered = await client.post(f"/questions/{listed[0]['question_id']}/answer", json={"answer": "This."})
        assert (answered.status_code, answered.json()["task_id"]) == (202, page.rpartition("/")[2])
        async with at_work(victoria):
            assert (await ended(client, page))["status"] == "completed"
