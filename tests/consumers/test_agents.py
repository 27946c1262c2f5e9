"""Whatever another agent does, whoever asked it gets an answer or a typed failure, within bounds."""

import gzip
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import pytest

from consumers.agents.http import MAX_BYTES, Agents, Delivery, Order, task_id
from schemas.errors import AgentFailed
from schemas.plan import Usage
from tests.consumers.agents import DONE, KNOWLEDGE, FakeAgent, Script, dripping, endless, fake_agent, says, sends

ORDER = Order("veronica", "Count the files.")


@pytest.fixture
async def agent() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as agent:
        yield agent


def knowing(agent: FakeAgent, timeout: float = 5.0, path: str = "") -> Agents:
    return Agents({"veronica": agent.url + path}, timeout=timeout)


async def failure(agents: Agents, order: Order = ORDER) -> AgentFailed:
    with pytest.raises(AgentFailed) as caught:
        await agents.work(order, "event-1/work")
    assert not caught.value.retryable
    return caught.value


async def test_the_work_is_asked_for_as_the_door_expects_it(agent: FakeAgent) -> None:
    delivery = await knowing(agent, path="/far/").work(Order("veronica", "Подсчитай файлы", "shop"), "event-1/work")
    assert delivery == Delivery("far work", Usage("far-model", 1, 30, 12))
    (request,) = agent.asked
    assert request.path == "/far/run?async_mode=0"
    assert request.body == {
        "goal": "Подсчитай файлы",
        "async_mode": 0,
        "project_context": "shop",
        "deadline_seconds": 5.0,
    }
    assert (request.key, request.headers["victoria-delegated-by"]) == ("event-1/work", "victoria")


async def test_without_a_project_the_agent_takes_its_main_one(agent: FakeAgent) -> None:
    await knowing(agent).work(ORDER, "k")
    assert "project_context" not in agent.asked[0].body


async def test_an_answer_that_a_limit_cut_short_says_so(agent: FakeAgent) -> None:
    agent.script = says({**DONE, "error": {"code": "budget.tokens", "message": "Too few tokens.", "hint": ""}})
    assert (await knowing(agent).work(ORDER, "k")).short == "Too few tokens."


async def test_an_answer_of_rules_alone_cost_no_model_call(agent: FakeAgent) -> None:
    agent.script = says({**DONE, "knowledge": {"model": "none"}})
    assert (await knowing(agent).work(ORDER, "k")).usage.calls == 0
    agent.script = says({**DONE, "knowledge": {"model": None, "source": "rules", "new": [1]}})
    assert (await knowing(agent).work(ORDER, "k")).usage == Usage()


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body)


BOMB = gzip.compress(b" " * (64 << 20))
HOSTILE: dict[str, tuple[Script, str]] = {
    "500": (says({"status": "error", "output": "oops"}, 500), "delegation.http"),
    "401": (says({}, 401), "delegation.http"),
    "202, as if it had been asked for it": (says({"task_id": "x"}, 202), "delegation.http"),
    "500 without end": (sends(b"HTTP/1.1 500 X\r\nContent-Length: 10000000000\r\n\r\n", b"x" * 65_536, hold=True),
                        "delegation.http"),
    "an error": (says({"status": "error", "output": "no such folder", "knowledge": {}}), "delegation.failed"),
    "an error without a word": (says({"status": "error", "knowledge": {}}), "delegation.failed"),
    "nothing": (says(b""), "delegation.garbage"),
    "not JSON": (says(b"<html>Welcome!</html>"), "delegation.garbage"),
    "a list": (says([DONE]), "delegation.garbage"),
    "another status": (says({**DONE, "status": "ok"}), "delegation.garbage"),
    "no status": (says({"output": "x", "knowledge": {}}), "delegation.garbage"),
    "no output": (says({"status": "success", "knowledge": {}}), "delegation.garbage"),
    "blank output": (says({**DONE, "output": " \n"}), "delegation.garbage"),
    "output that is no text": (says({**DONE, "output": {"text": "x"}}), "delegation.garbage"),
    "no knowledge": (says({"status": "success", "output": "x"}), "delegation.garbage"),
    "knowledge that is no object": (says({**DONE, "knowledge": "much"}), "delegation.garbage"),
    "tokens given back": (says({**DONE, "knowledge": {**KNOWLEDGE, "tokens_out": -9}}), "delegation.garbage"),
    "tokens beyond measure": (says({**DONE, "knowledge": {**KNOWLEDGE, "tokens_in": 1 << 62}}), "delegation.garbage"),
    "bad UTF-8": (says(b'{"status":"success","output":"\xff\xfe","knowledge":{}}'), "delegation.garbage"),
    "half a surrogate": (says(b'{"status":"success","output":"\\ud800 x","knowledge":{}}'), "delegation.garbage"),
    "deep nesting": (says(b'{"knowledge":' + b"[" * 500_000), "delegation.garbage"),
    "10 GB": (endless, "delegation.garbage"),
    "a compressed bomb": (sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB),
                                BOMB), "delegation.garbage"),
    "a hang-up": (sends(), "delegation.lost"),
    "a hang-up in mid-answer": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"st"), "delegation.lost"),
    "a hang-up in mid-chunk": (sends(chunked(b"{")[:-1]), "delegation.lost"),
    "another protocol": (sends(b"-ERR unknown command 'POST'\r\n\r\n", hold=True), "delegation.lost"),
    "endless headers": (sends(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100_000, hold=True), "delegation.lost"),
    "silence": (sends(hold=True), "delegation.timeout"),
    "a drip": (dripping, "delegation.timeout"),
    "preludes without end": (sends(b"HTTP/1.1 102 Processing\r\n\r\n" * 9_000, hold=True), "delegation.timeout"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_agent_is_a_typed_failure_in_bounded_time_and_memory(agent: FakeAgent, name: str) -> None:
    await knowing(agent).work(ORDER, "first")  # which loads what is loaded late
    agent.asked.clear()
    agent.script, code = HOSTILE[name]
    tracemalloc.start()
    try:
        with anyio.fail_after(15):
            problem = await failure(knowing(agent, timeout=1.0 if code == "delegation.timeout" else 10.0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problem.code == code
    assert problem.hint
    assert len(problem.message) < 600
    assert peak < 20 * MAX_BYTES
    assert len(agent.asked) == 1, "what has begun is not asked for again"


async def test_a_redirect_is_not_followed(agent: FakeAgent) -> None:
    async with fake_agent() as other:
        head = f"HTTP/1.1 307 X\r\nLocation: {other.url}/run\r\nContent-Length: 0\r\n\r\n"
        agent.script = sends(head.encode(), hold=True)
        assert (await failure(knowing(agent))).code == "delegation.http"
        assert not other.asked


async def test_an_agent_that_is_not_there_is_tried_twice_and_quickly_given_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with anyio.fail_after(10):
            problem = await failure(Agents({"veronica": f"http://127.0.0.1:{taken.getsockname()[1]}"}))
    assert problem.code == "delegation.unreachable"


async def test_an_agent_that_is_just_starting_is_met_by_the_second_try(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.agents.http.AGAIN_AFTER", 0.0)
    ports, connect = iter([1]), cast("Any", anyio.connect_tcp)

    async def connect_tcp(remote_port: int, **options: Any) -> Any:
        return await connect(remote_port=next(ports, remote_port), **options)

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    assert (await knowing(agent).work(ORDER, "k")).output == "far work"


async def test_an_agent_nobody_knows_is_a_failure_that_says_so() -> None:
    assert "'veronica'" in (await failure(Agents({}))).message


@pytest.mark.parametrize("name", ["silence", "10 GB", "a hang-up", "a drip", "500"])
async def test_a_work_that_is_no_longer_waited_for_is_taken_back(agent: FakeAgent, name: str) -> None:
    agent.script, code = HOSTILE[name]
    await failure(knowing(agent, timeout=0.5 if code == "delegation.timeout" else 10.0))
    assert agent.taken_back == [f"/run/{task_id('event-1/work')}/cancel"]


async def test_a_work_that_ended_is_not_taken_back(agent: FakeAgent) -> None:
    await knowing(agent).work(ORDER, "k")
    agent.script = says({"status": "error", "knowledge": {}})
    await failure(knowing(agent))
    assert agent.taken_back == []


async def test_the_same_key_is_one_work(agent: FakeAgent) -> None:
    for _ in range(3):
        assert (await knowing(agent).work(ORDER, "event-1/work")).output == "far work"
    assert agent.did == {"event-1/work": 1}


async def test_a_password_in_the_url_is_sent_and_never_told(
    agent: FakeAgent, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s%2Fcret"
    agents = Agents({"veronica": agent.url.replace("//", f"//ops:{secret}@")}, timeout=0.5)
    await agents.work(ORDER, "k")
    assert agent.asked[0].headers["authorization"] == "Basic b3BzOnMvY3JldA=="
    problems = [await failure(Agents({"veronica": f"http://ops:{secret}@127.0.0.1:1"}))]
    for script in (says({}, 500), says(b"?"), sends(hold=True)):
        agent.script = script
        problems.append(await failure(agents))
    told = caplog.text + "".join(capfd.readouterr()) + "".join(map(str, problems)) + repr(problems)
    assert "cret" not in told
    assert "b3BzOn" not in told
