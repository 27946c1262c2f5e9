"""Other agents, asked over HTTP: `POST /run` of an agent's door, which does a work once for each key.

Nothing that comes from there is trusted: it is bounded in size and time, has one form only, and is data in any case.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import msgspec
import structlog
from msgspec import Meta

from consumers.agents.token import holder
from consumers.tools.plain import plain
from schemas.envelope import derived_id
from schemas.errors import AgentFailed
from schemas.plan import Usage
from streams.observer import TRACEPARENT

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 1 << 20
"""Of an agent's answer. What a tool gives is smaller."""
CONNECT, AGAIN_AFTER, TAKE_BACK = 5.0, 0.5, 3.0
"""Seconds for a connection; after which a refused one is tried once more; and for taking a work back."""
MODEL, SAID = 100, 300
"""Characters of a model's name, and of an agent's own words in an error."""

Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_log: Any = structlog.get_logger()


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wanted of an agent. `project` is a name that both know, "" the agent's main one. `max_tokens` is what its
    models may use for it, 0 for any number."""

    agent: str
    goal: str
    project: str = ""
    max_tokens: int = 0


class Delivery(msgspec.Struct, frozen=True):
    """What an agent made, and what it says that its models took for it. `short` says what kept it from being whole."""

    output: str
    usage: Usage = Usage()
    short: str = ""


class _Knowledge(msgspec.Struct, frozen=True):
    model: str | None = None
    tokens_in: Count = 0
    tokens_out: Count = 0
    tokens_cached: Count = 0
    calls: Count = 0

    @property
    def usage(self) -> Usage:
        model = plain(self.model or "")[:MODEL]
        calls = self.calls or int(model not in ("", "none"))
        return Usage(model, calls, self.tokens_in, self.tokens_out, cached=self.tokens_cached)


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    status: Literal["success", "error"]
    knowledge: _Knowledge
    output: str | None = None
    error: str | _Error | None = None

    @property
    def trouble(self) -> str:
        said = self.error.message if isinstance(self.error, _Error) else self.error
        return plain(said or "")[:SAID]


class _TooMuch(Exception):
    """An answer has no end."""


@dataclass(frozen=True, slots=True)
class Agents:
    """The other agents: by name, the URL of each one's door. `own` is this one's name, `timeout` seconds for a work."""

    urls: Mapping[str, str]
    own: str = "victoria"
    timeout: float = 300.0

    async def work(self, order: Order, key: str) -> Delivery:
        """Have it done: once, however often it is asked for with this `key`.

        Raises AgentFailed: `delegation.unreachable` where nothing was begun, `.lost`, `.timeout`, `.http`, `.garbage`,
        `.failed`. What the agent may be at after that is taken back.
        """
        import httpx  # late: it takes a third of a second

        agent = order.agent
        if agent not in self.urls:
            raise _unreachable(f"Nothing says where the agent {agent!r} is.")
        try:
            with anyio.fail_after(self.timeout):
                status, body = await self._posted(order, key)
            if status >= 500:  # it may be only its door that has trouble
                await self.take_back(agent, key)
            return _delivery(agent, status, body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            raise _unreachable(f"{agent} can't be reached: {type(problem).__name__}.") from problem
        except TimeoutError as problem:
            await self.take_back(agent, key)
            raise AgentFailed(
                "delegation.timeout",
                f"{agent} was not ready within {self.timeout:g} s.",
                "See what else it does, or raise VICTORIA_DELEGATE_TIMEOUT.",
            ) from problem
        except (httpx.HTTPError, OSError) as problem:
            await self.take_back(agent, key)
            message = f"{agent} went away in mid-work: {type(problem).__name__}."
            raise AgentFailed("delegation.lost", message, _LOOK) from problem
        except _TooMuch as problem:
            await self.take_back(agent, key)
            raise _garbage(agent, f"more than {MAX_BYTES:,} bytes") from problem

    async def take_back(self, agent: str, key: str) -> None:
        """Ask an agent to stop the work of this key. Whether it does is its own matter."""
        import httpx

        with anyio.move_on_after(TAKE_BACK, shield=True):
            try:
                caller = holder(httpx.URL(self.urls[agent]).password)
                async with self._client(agent) as client:
                    await client.post(f"run/{task_id(key, caller)}/cancel")
            except (httpx.HTTPError, OSError) as problem:
                _log.info("agent.not_stopped", agent=agent, error=type(problem).__name__)

    async def _posted(self, order: Order, key: str) -> tuple[int, bytes]:
        """Status and body of the answer; no body where the status says it all. Raises httpx errors, _TooMuch."""
        import httpx

        # Its own deadline ends what can't be taken back, as when its machine starts anew.
        wanted: dict[str, Any] = {"goal": order.goal, "async_mode": 0, "deadline_seconds": self.timeout}
        if order.project:
            wanted["project_context"] = order.project
        if order.max_tokens:
            wanted["max_tokens"] = order.max_tokens
        content = msgspec.json.encode(wanted)
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        if traceparent := TRACEPARENT.get():
            headers["traceparent"] = traceparent
        async with self._client(order.agent) as client:
            request = client.build_request("POST", "run", params={"async_mode": "0"}, content=content, headers=headers)
            try:
                response = await client.send(request, stream=True)
            except httpx.ConnectError:  # it may be starting anew
                await anyio.sleep(AGAIN_AFTER)
                response = await client.send(request, stream=True)
            body = bytearray()
            try:
                if response.status_code == 200:
                    async for piece in response.aiter_raw():  # compressed it is no JSON, and never becomes large
                        body += piece
                        if len(body) > MAX_BYTES:
                            raise _TooMuch
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        return response.status_code, bytes(body)

    def _client(self, agent: str) -> "httpx.AsyncClient":
        import httpx

        url = httpx.URL(self.urls[agent])
        headers = {"Victoria-Delegated-By": self.own, "Accept": "application/json", "Accept-Encoding": "identity"}
        token = url.password if holder(url.password) else ""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.AsyncClient(
            base_url=url.copy_with(userinfo=b""),  # httpx logs whole URLs
            auth=(url.username, url.password) if url.userinfo and not token else None,
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT),
            follow_redirects=False,
            trust_env=False,  # a proxy of the environment would be another host
            verify=url.scheme == "https",  # reading all certificates takes 50 ms, and http needs none
        )


def task_id(key: str, caller: str = "") -> str:
    """The id of the run that a door makes of a key, which is the caller's own."""
    return derived_id("Idempotency-Key", *([caller] if caller else []), key)


def _delivery(agent: str, status: int, body: bytes) -> Delivery:
    if status != 200:
        hint = "Its address may be another one; redirects are not followed." if 300 <= status < 400 else _LOOK
        raise AgentFailed("delegation.http", f"{agent} answered with status {status}.", hint)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (ValueError, RecursionError) as problem:
        raise _garbage(agent, f"what is no answer ({str(problem)[:SAID]})") from problem
    if answer.status == "error":
        why = answer.trouble or plain(answer.output or "")[:SAID] or "no word why"
        raise AgentFailed("delegation.failed", f"{agent} could not do it: {why}", _LOOK)
    if not answer.output or not answer.output.strip():
        raise _garbage(agent, "no output")
    return Delivery(answer.output, answer.knowledge.usage, answer.trouble)


_LOOK = "Its own logs say more."


def _unreachable(message: str) -> AgentFailed:
    return AgentFailed("delegation.unreachable", message, "Start it, or correct its URL: `victoria config` shows it.")


def _garbage(agent: str, what: str) -> AgentFailed:
    return AgentFailed("delegation.garbage", f"{agent} answered {what}.", "Is there a Victoria at its URL?")
