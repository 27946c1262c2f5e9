"""Who may come in over HTTP, what for and how often; and that what is secret stays so."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from consumers.agents.http import Agents, Order, task_id
from consumers.agents.token import holder
from gateway.http.tokens import Scope, minted
from streams.keys import Keys
from tests.gateway.conftest import WITHIN, Call, Cli, server_of
from tests.gateway.door import DoorProcess, lasting, start
from tests.gateway.test_http import ANSWER, GOAL, SYNC

RATE, AT_ONCE = 60, 8
FRIEND = "https://ai.example.org"
OPEN = ("--host", "0.0.0.0", "--set", f"http_rate={RATE}/minute", "--set", f"http_at_once={AT_ONCE}")
PAGES = ("--set", f"http_origins={FRIEND}", "--set", "log_level=debug")
TELLING = ("--set", "log_goals=true", "--set", "log_level=info", "--alone")
SECRET = "osmium-lantern-4711"
"""A word that only goals have."""


class Doors(NamedTuple):
    """Two doors of one server that others reach, and tokens by name; `others` is of another server."""

    first: DoorProcess
    second: DoorProcess
    tokens: dict[str, str]

    def ask(self, token: str, method: str = "GET", path: str = "/status", **more: Any) -> httpx.Response:
        """A request with a token, given by name or as it is; "" is none."""
        headers = {"Authorization": f"Bearer {self.tokens.get(token, token)}"} if token else {}
        with self.first.client() as client:
            return client.request(method, path, headers=headers | more.pop("headers", {}), **more)


def made(cli: Cli, name: str, *scopes: Scope, prefix: str = "victoria", days: int = 1) -> str:
    """The text of a new token, without the time a command takes."""
    text, token = minted(name, scopes or ("read", "publish"), datetime.now(UTC) + timedelta(days=days))
    server_of(Path(cli.environ["VICTORIA_STATE_DIR"])).hset(Keys(prefix).tokens(), name, msgspec.json.encode(token))
    return text


@pytest.fixture(scope="module")
def doors(shared: Cli) -> Iterator[Doors]:
    scopes: dict[str, tuple[Scope, ...]] = {"reader": ("read",), "writer": ("publish",), "chief": ("admin",)}
    tokens = {name: made(shared, name, *scopes.get(name, ())) for name in ("all", "busy", "fast", *scopes)}
    tokens["others"] = made(shared, "all", prefix="another")
    tokens["expired"] = made(shared, "expired", days=-1)
    with lasting(shared, *OPEN, *PAGES) as first, lasting(shared, *OPEN, *TELLING) as second:
        yield Doors(first, second, tokens)


def until(holds: Callable[[], object]) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    assert answer.json()["error"].keys() == {"code", "message", "hint"}
    return answer.status_code, answer.json()["error"]["code"]


def test_without_a_token_that_holds_one_only_hears_that_it_lives(doors: Doors) -> None:
    token = doors.tokens["all"]
    for wrong in (
        "",
        "others",
        token[:-1],
        token + "x",
        token.upper(),
        "vic_",
        "sk-1",
        "x" * 9_000,
        "vic_nobody_" + "x" * 43,
    ):
        refused = doors.ask(wrong)
        assert code_of(refused) == (401, "http.token")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "victoria token create" in refused.json()["error"]["hint"]
    for kind in (token, f"Basic {token}", f"Bearer  {token} x"):
        assert code_of(doors.ask("", headers={"Authorization": kind})) == (401, "http.token")
    assert code_of(doors.ask("", "POST", "/run", content=b"{")) == (401, "http.token")
    assert code_of(doors.ask("", path="/nowhere")) == (401, "http.token")
    assert doors.ask("", path="/livez").json() == {"status": "ok"}
    for free in ("/readyz", "/docs", "/docs/reader.js", "/openapi.json"):
        assert doors.ask("", path=free).status_code == 200, free
    assert doors.ask("", headers={"Authorization": f"bearer {token}"}).status_code == 200
    assert code_of(doors.ask("all", path="/nowhere")) == (404, "http.no_page")
    assert code_of(doors.ask("all", "POST", "/run", content=b" " * 5_000_000)) == (413, "http.too_large")


def test_a_token_is_good_for_its_scopes_only(doors: Doors) -> None:
    for token, reads, publishes in (("reader", 200, 403), ("writer", 403, 202), ("all", 200, 202), ("chief", 200, 202)):
        assert doors.ask(token).status_code == reads
        assert doors.ask(token, "POST", "/run", json={"goal": GOAL}).status_code == publishes
    refused = doors.ask("reader", "POST", "/run", json={"goal": GOAL})
    assert code_of(refused) == (403, "http.scope")
    assert "--scope publish" in refused.json()["error"]["hint"]


def test_who_may_only_publish_reads_nothing_by_cancelling_either(doors: Doors) -> None:
    task_id = doors.ask("all", "POST", "/run?async_mode=0", json={"goal": GOAL}).json()["knowledge"]["task_id"]
    whole, status = (doors.ask(token, "POST", f"/run/{task_id}/cancel").json() for token in ("all", "writer"))
    assert whole["output"] == ANSWER
    assert status["status"] == whole["status"] == "completed"
    assert (status["output"], status["knowledge"], status["steps"]) == (None, None, [])


def test_a_head_is_short_however_it_comes(doors: Doors) -> None:
    assert doors.ask("all", headers={"X-A": "a" * 60_000}).status_code == 200
    assert code_of(doors.ask("all", headers={"X-A": "a" * 66_000})) == (431, "http.headers")


def test_nobody_is_sent_elsewhere(doors: Doors) -> None:
    assert code_of(doors.ask("all", "POST", "/run/", headers={"Host": "evil.test"}, json={})) == (404, "http.no_page")


def test_openais_clients_are_told_in_their_own_way(doors: Doors) -> None:
    chat = {"model": "strategy:simple", "messages": [{"role": "user", "content": GOAL}]}
    refused = [
        doors.ask("", path="/v1/models"),
        doors.ask("sk-1", "POST", "/v1/chat/completions", json=chat),
        doors.ask("writer", path="/v1/models"),
        doors.ask("reader", "POST", "/v1/chat/completions", json=chat),
    ]
    found = [(each.status_code, each.json()["error"]["type"], each.json()["error"]["code"]) for each in refused]
    assert found == [
        *[(401, "authentication_error", "invalid_api_key")] * 2,
        *[(403, "permission_error", "http.scope")] * 2,
    ]
    assert refused[0].headers["www-authenticate"] == "Bearer"
    assert doors.ask("reader", path="/v1/models").status_code == 200
    assert doors.ask("writer", "POST", "/v1/chat/completions", json=chat).status_code == 200


def test_a_new_token_opens_at_once_and_a_revoked_or_expired_one_nothing(doors: Doors, call: Call) -> None:
    token = call("token", "create", "guest", "--expires", "1h").out.strip()
    assert doors.ask(token).status_code == 200
    assert call("token", "revoke", "guest").out == "guest is revoked\n"
    until(lambda: doors.ask(token).status_code == 401)
    assert code_of(doors.ask("expired")) == (401, "http.token")
    assert [row["name"] for row in call("token", "list", "--json").json() if row["expired"]] == ["expired"]
    assert doors.ask("all").status_code == 200


def test_a_rate_holds_over_all_doors_and_for_one_caller_only(doors: Doors) -> None:
    def ask(door: DoorProcess) -> int:
        return client.get(f"{door.url}/status").status_code

    with httpx.Client(headers={"Authorization": f"Bearer {doors.tokens['fast']}"}, trust_env=False) as client:
        assert {ask(door) for _ in range(RATE // 2) for door in doors[:2]} == {200}
        assert [ask(door) for door in (*doors[:2], *doors[:2])] == [429] * 4
    refused = doors.ask("fast")
    assert code_of(refused) == (429, "http.rate")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert doors.ask("all").status_code == 200


def test_one_caller_has_a_bounded_number_of_requests_under_way(doors: Doors) -> None:
    host, _, port = doors.second.url.removeprefix("http://").partition(":")
    begun = (
        f"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer {doors.tokens['busy']}\r\n\r\n"
    )
    with ExitStack() as leaving:
        for _ in range(AT_ONCE):
            leaving.enter_context(socket.create_connection((host, int(port)))).sendall(begun.encode())

        def ask(token: str) -> httpx.Response:
            with doors.second.client() as client:
                return client.get("/status", headers={"Authorization": f"Bearer {doors.tokens[token]}"})

        until(lambda: ask("busy").status_code == 429)
        assert code_of(ask("busy")) == (429, "http.at_once")
        assert ask("all").status_code == 200
    until(lambda: ask("busy").status_code == 200)


def test_an_idempotency_key_is_its_callers_own(doors: Doors) -> None:
    def submit(token: str, path: str) -> httpx.Response:
        return doors.ask(
            token, "POST", "/run", json={"goal": f"Read docs/{path}.txt"}, headers={"Idempotency-Key": "1"}
        )

    mine, theirs = submit("all", "alpha"), submit("writer", "beta")
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["task_id"] == submit("all", "alpha").json()["task_id"] == task_id("1", "all")
    assert theirs.json()["task_id"] == task_id("1", "writer")
    assert code_of(submit("all", "beta")) == (409, "run.other_goal")


async def test_an_agent_behind_tokens_is_given_work_with_one(doors: Doors) -> None:
    agents = Agents({"veronica": doors.first.url.replace("://", f"://:{doors.tokens['chief']}@")})
    assert (await agents.work(Order("veronica", GOAL), "a step")).output == ANSWER
    await agents.take_back("veronica", "a step")
    assert doors.ask("all", path=f"/run/status/{task_id('a step', 'chief')}").json()["status"] == "completed"


def test_pages_of_the_origins_that_are_named_may_come_and_no_others(doors: Doors) -> None:
    def asked(origin: str) -> httpx.Response:
        wanted = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        return doors.ask("", "OPTIONS", "/run", headers=wanted)

    assert asked(FRIEND).status_code == 200
    assert asked(FRIEND).headers["access-control-allow-origin"] == FRIEND
    assert "authorization" in asked(FRIEND).headers["access-control-allow-headers"]
    for origin in (
        "https://ai.example.org.evil.test",
        "http://ai.example.org",
        f"{FRIEND}:444",
        "null",
        "https://x.test",
    ):
        assert code_of(asked(origin)) == (403, "http.foreign")
        refused = doors.ask("all", headers={"Origin": origin})
        assert code_of(refused) == (403, "http.foreign")
        assert "access-control-allow-origin" not in refused.headers
    answer = doors.ask("all", headers={"Origin": FRIEND})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, FRIEND)
    assert "access-control-allow-credentials" not in answer.headers
    assert code_of(doors.ask("", headers={"Origin": FRIEND})) == (401, "http.token")


def test_every_answer_has_an_id_and_tells_browsers_to_keep_nothing(doors: Doors) -> None:
    for answer in (
        doors.ask("all"),
        doors.ask(""),
        doors.ask("all", path="/nowhere"),
        doors.ask("reader", "POST", "/run", json={"goal": GOAL}),
        doors.ask("all", headers={"Origin": "https://x.test"}),
    ):
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_an_id_that_is_given_is_kept_and_in_the_log_unless_it_could_be_something_else(doors: Doors) -> None:
    assert doors.ask("all", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    line = json.loads(doors.first.running.until('"mine-1"'))
    assert line.pop("ms") < WITHIN * 1000
    assert line.pop("timestamp")
    assert line == {
        "event": "http.request", "method": "GET", "route": "/status", "status": 200, "caller": "all",
        "request_id": "mine-1", "level": "info",
    }  # fmt: skip
    for hostile in ("x" * 129, "a b", '"}', "я".encode(), b"\x1b[2J", "a\tb", ""):
        answer = doors.ask("all", headers={"X-Request-Id": hostile})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    host, _, port = doors.first.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=WITHIN) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rSet-Cookie: b\r\n\r\n")
        assert b"set-cookie" not in raw.recv(2000).lower()


def test_neither_tokens_nor_goals_come_into_logs_and_no_token_to_the_server(doors: Doors, cli: Cli) -> None:
    for goal in (f"Read docs/{SECRET}.txt", f"Make a note: {SECRET}", f"Run ls {SECRET}", f"{SECRET}: what to do?"):
        taken = doors.ask(
            "chief", "POST", SYNC, json={"goal": goal, "session_id": "logged"}, headers={"Idempotency-Key": SECRET}
        )
        assert taken.status_code in (200, 409)
    for refused in (b'{"goal": 1, "%s": ' % SECRET.encode(), b'{"goal": "%s", "strategy": 1}' % SECRET.encode()):
        assert doors.ask("chief", "POST", "/run", content=refused).status_code == 400
    assert doors.ask("chief", path=f"/run/status/{SECRET}?x={SECRET}").status_code == 404
    doors.ask("all", headers={"X-Request-Id": "the-last"})
    doors.first.running.until('"the-last"')
    logs = "\n".join(doors.first.running.lines)
    assert '"run.submitted"' in logs
    assert '"/run/status/{task_id}"' in logs
    assert SECRET not in logs
    kept = b"".join(path.read_bytes() for path in Path(cli.environ["VICTORIA_STATE_DIR"]).rglob("*.aof"))
    assert SECRET.encode() in kept, "this is where all that was ever written is"
    for token in doors.tokens.values():
        secret = token.removeprefix(f"vic_{holder(token)}_")
        assert secret not in logs
        assert secret.encode() not in kept


def test_goals_are_logged_where_that_is_asked_for(doors: Doors) -> None:
    token = f"Bearer {doors.tokens['all']}"
    assert doors.second.post("/run", {"goal": GOAL}, X_Request_Id="told", Authorization=token).status_code == 202
    line = json.loads(doors.second.running.until('"run.submitted"'))
    assert (line["goal"], line["request_id"], line["published"]) == (GOAL, "told", "appended")


def test_loopback_is_open_until_there_is_a_token_and_then_for_good_closed(cli: Cli, call: Call) -> None:
    door = start(cli, "--alone", VICTORIA_PREFIX="closing")
    with door.client() as client:
        assert client.get("/status", headers={"Authorization": "Bearer sk-whatever"}).status_code == 200
        token = call("token", "create", "first", VICTORIA_PREFIX="closing").out.strip()
        until(lambda: client.get("/status").status_code == 401)
        assert client.get("/status", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        done = call("token", "revoke", "first", VICTORIA_PREFIX="closing")
        assert "the last one" in done.err
        until(lambda: client.get("/status", headers={"Authorization": f"Bearer {token}"}).status_code == 401)
        assert client.get("/status").status_code == 401


def test_a_door_that_others_reach_is_refused_without_a_token_that_holds(cli: Cli, call: Call) -> None:
    def serve() -> tuple[int, bool, bool]:
        done = call("serve", "--host", "0.0.0.0", "--port", "0", VICTORIA_PREFIX="bare")
        return done.code, "[http.open]" in done.err, "victoria token create NAME" in done.err

    assert serve() == (2, True, True)
    made(cli, "expired", prefix="bare", days=-1)
    assert serve() == (2, True, True)


@pytest.mark.parametrize(
    "setting", ["http_origins=ai.example.org", "http_origins=*", "http_hosts=a b", "http_rate=5/parsec"]
)
def test_settings_that_mean_nothing_are_refused_at_start(call: Call, setting: str) -> None:
    done = call("serve", "--port", "0", "--alone", "--set", setting)
    assert (done.code, "[settings.invalid]" in done.err) == (2, True)


def test_tokens_are_made_listed_and_revoked(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTORIA_PREFIX", "commands")
    assert (call("token", "list").out, call("token", "list", "--json").json()) == ("", [])
    made = call("token", "create", "ci", "--scope", "publish", "--scope", "read", "--expires", "30d")
    assert re.fullmatch(r"vic_ci_[\w-]{43}\n", made.out)
    assert "shown once" in made.err
    row = call("token", "create", "boss-2", "--scope", "admin", "--json").json()
    assert (row["name"], row["scopes"], row["expires"]) == ("boss-2", ["admin"], None)
    rows = call("token", "list", "--json").json()
    assert [(each["name"], each["scopes"], each["expired"]) for each in rows] == [
        ("boss-2", ["admin"], False),
        ("ci", ["read", "publish"], False),
    ]
    assert "token" not in rows[0]
    assert "digest" not in rows[0]
    table = call("token", "list").out
    assert re.search(r"^ci +read, publish +\d", table, re.MULTILINE)
    assert "vic_" not in table
    for words, code in (
        (("create", "ci"), "token.exists"),
        (("create", "Upper"), "token.name"),
        (("create", "a_b"), "token.name"),
        (("create", "-x"), "usage"),
        (("create", "x" * 41), "token.name"),
        (("create", "x", "--scope", "all"), "token.scope"),
        (("create", "x", "--expires", "0d"), "token.expires"),
        (("create", "x", "--expires", "soon"), "token.expires"),
        (("create", "x", "--expires", "999999999w"), "token.expires"),
        (("revoke", "nobody"), "token.unknown"),
    ):
        done = call("token", *words, "--json")
        assert (done.code, done.json()["error"]["code"]) == (2, code), words
    assert call("token", "revoke", "ci", "--json").json() == {"name": "ci", "revoked": True}
    assert [each["name"] for each in call("token", "list", "--json").json()] == ["boss-2"]
