"""One Ollama server: its HTTP API, with typed failures and a limit on every wait.

The API says a failure in three ways: by a status, by `{"error": ...}` as a line of a stream that began with 200, and by
a stream that ends without its last line. All three become ModelFailed with a code of schemas.advice.
"""

import re
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import httpx
import msgspec

from llm.models import Capability, Model
from schemas.errors import InvalidInput, ModelFailed

T = TypeVar("T")

LINE_LIMIT = 1 << 20
"""Bytes of one line, or of an answer that isn't a stream: what says more is no Ollama."""

_OVERFLOW = re.compile(r"exceed\w*\b.{0,40}\bcontext|exceed_context_size", re.IGNORECASE | re.DOTALL)
_SCHEMA = "invalid JSON schema"
_MISSING = re.compile(r"\bnot found\b|file does not exist", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to wait: for a connection; for a plain answer; until a model is loaded; for the first piece of an answer,
    the prompt's reading and the server's own queue included; for each further piece.
    """

    connect: float = 5.0
    plain: float = 15.0
    load: float = 300.0
    first: float = 120.0
    idle: float = 30.0


class _Tag(msgspec.Struct):
    name: str
    size: int = 0
    digest: str = ""
    remote_host: str = ""


class _Tags(msgspec.Struct):
    models: list[_Tag] = []


class _Running(msgspec.Struct):
    name: str
    context_length: int = 0


class _Processes(msgspec.Struct):
    models: list[_Running] = []


class _Format(msgspec.Struct, frozen=True):
    format: str = ""


class _Shown(msgspec.Struct):
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    details: _Format = _Format()

    @property
    def chats(self) -> bool:
        """Whether it is no embedding or image model."""
        return self.capabilities is None or "completion" in self.capabilities

    @property
    def embeds(self) -> bool:
        """Whether it gives vectors."""
        return "embedding" in (self.capabilities or ())


class _Embedded(msgspec.Struct):
    embeddings: list[list[float]]


class _Loaded(msgspec.Struct):
    done: bool


class _Progress(msgspec.Struct):
    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


class Node:
    """A client of one server. `url` is as in OLLAMA_HOST: a bare host means port 11434. `name` is its `host:port`.

    It goes to the server directly, whatever proxy the environment names: nodes are neighbours.
    """

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        parsed = _parsed(url)
        self.name = parsed.netloc.decode()  # without a password that the URL may carry
        self.limits = limits or Limits()
        self._client = httpx.AsyncClient(
            base_url=parsed,
            timeout=httpx.Timeout(None, connect=self.limits.connect),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            verify=parsed.scheme == "https",  # reading all certificates takes 50 ms, and http needs none
        )
        self._shown: dict[tuple[str, str], _Shown] = {}

    async def close(self) -> None:
        """Close the connections. What still runs on them ends with `model.unreachable`."""
        await self._client.aclose()

    async def models(self, only: str = "") -> tuple[Model, ...]:
        """The models this server can chat with, by name, or one of them. Those it would ask a cloud for are left out.

        Raises ModelFailed, see `lines`.
        """
        tags = _decoded(self.name, await self._get("/api/tags"), _Tags).models
        running = {m.name: m for m in _decoded(self.name, await self._get("/api/ps"), _Processes).models}
        found = [
            _model(self.name, tag, shown, running.get(tag.name))
            for tag in tags
            if only in ("", tag.name) and not tag.remote_host and (shown := await self._show(tag)) and shown.chats
        ]
        return tuple(sorted(found, key=lambda model: model.name))

    async def find(self, name: str) -> Model:
        """One model by its name, `:latest` understood. Raises ModelFailed, `model.missing` if it isn't there."""
        full = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        for model in await self.models(full):
            return model
        raise ModelFailed("model.missing", f"{self.name} has no model {name} to chat with.", f"ollama pull {name}")

    async def embedders(self) -> tuple[str, ...]:
        """The names of the models this server can embed texts with. Raises ModelFailed, see `lines`."""
        tags = _decoded(self.name, await self._get("/api/tags"), _Tags).models
        return tuple(
            sorted([tag.name for tag in tags if not tag.remote_host and (s := await self._show(tag)) and s.embeds])
        )

    async def embed(self, model: str, texts: Sequence[str]) -> list[Sequence[float]]:
        """A vector for each text; what a model can't take of one is left out. Raises ModelFailed, see `lines`."""
        body: dict[str, Any] = {"model": model, "input": list(texts), "truncate": True}
        said = await self._once("POST", "/api/embed", body, self.limits.first, f"embedding by {model}")
        found = _decoded(self.name, said, _Embedded).embeddings
        if len(found) != len(texts) or not all(found):
            raise _garbage(self.name, said)
        return [*found]

    async def pull(self, model: str, progress: Callable[[int, int], None] | None = None) -> None:
        """Have the server fetch a model. `progress` is told bytes done and bytes in all, as far as they are known.

        Cancelling it leaves what has come: the next pull goes on from there. Raises ModelFailed, see `lines`.
        """
        parts: dict[str, _Progress] = {}
        limit = self.limits.load  # checking what came is one long silence
        async with aclosing(self.lines("/api/pull", {"model": model}, limit, limit)) as lines:
            async for line in lines:
                step = _decoded(self.name, line, _Progress)
                if step.status == "success":
                    return
                if step.digest:
                    parts[step.digest] = step
                    if progress:
                        progress(sum(p.completed for p in parts.values()), sum(p.total for p in parts.values()))
        raise ModelFailed("model.engine", f"{self.name} stopped fetching {model}.", "Try again.")

    async def load(self, model: str, context: int) -> None:
        """Have a model in memory with this much context; quick if it is. Raises ModelFailed, see `lines`."""
        await self._get("/api/version")  # so a server that hangs is not given the time that a load may take
        body: dict[str, Any] = {"model": model, "messages": [], "stream": False, "options": {"num_ctx": context}}
        _decoded(self.name, await self._once("POST", "/api/chat", body, self.limits.load, f"loading {model}"), _Loaded)

    async def lines(self, path: str, body: dict[str, Any], first: float, idle: float) -> AsyncGenerator[bytes]:
        """POST, and the answer's lines as they come: `first` seconds for the first one, `idle` for each other.

        Whoever stops early closes it, and with it the connection: that is how the server learns to stop too.
        Raises ModelFailed: `model.unreachable`, `model.timeout`, `model.missing`, `model.busy`, `model.overflow`,
        `model.refused` (the request itself is wrong) or `model.engine`.
        """
        response: httpx.Response | None = None
        try:
            with self._within(first, "the first piece of an answer"):
                response = await self._send("POST", path, body)
                source = self._split(response)
                line = await anext(source, None)
            while line is not None:
                yield line
                with self._within(idle, "the next piece of an answer"):
                    line = await anext(source, None)
        finally:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    async def _split(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """Lines that are not empty. By bytes: Unicode has characters that break a line of text, but none of JSON."""
        rest = b""
        with self._connected():
            async for piece in response.aiter_bytes():
                *whole, rest = (rest + piece).split(b"\n")
                for line in (*whole, rest) if len(rest) > LINE_LIMIT else whole:
                    if len(line) > LINE_LIMIT:
                        raise _garbage(self.name, line)
                    if line.strip():
                        yield self._checked(line)
        if rest.strip():
            yield self._checked(rest)

    def _checked(self, line: bytes) -> bytes:
        if b'"error"' in line and (problem := _error(line)):
            raise _failure(self.name, 200, problem)
        return line

    async def _get(self, path: str) -> bytes:
        return await self._once("GET", path, None, self.limits.plain, path)

    async def _once(self, method: str, path: str, body: dict[str, Any] | None, limit: float, what: str) -> bytes:
        with self._within(limit, what):
            response = await self._send(method, path, body)
            try:
                return self._checked(await self._read(response))
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """A response with status 200, its body still to come."""
        content = None if body is None else msgspec.json.encode(body)
        request = self._client.build_request(method, path, content=content)
        with self._connected():
            response = await self._client.send(request, stream=True)
        if response.status_code == 200:
            return response
        try:
            said = await self._read(response)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        raise _failure(self.name, response.status_code, _error(said) or said[:300].decode(errors="replace"))

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        with self._connected():
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > 16 * LINE_LIMIT:
                    raise _garbage(self.name, bytes(body))
        return bytes(body)

    async def _show(self, tag: _Tag) -> _Shown | None:
        """What `/api/show` says, asked once for each digest; None if the model has gone meanwhile."""
        key = (tag.name, tag.digest)
        if key not in self._shown:
            body = {"model": tag.name}
            try:
                said = await self._once("POST", "/api/show", body, self.limits.plain, f"what {tag.name} is")
            except ModelFailed as failure:
                if failure.code == "model.missing":
                    return None
                raise
            self._shown[key] = _decoded(self.name, said, _Shown)
        return self._shown[key]

    @contextmanager
    def _within(self, seconds: float, what: str) -> Generator[None]:
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise ModelFailed(
                "model.timeout", f"{self.name}: {what} did not come within {seconds:g} s.", "See what else it does."
            ) from None

    @contextmanager
    def _connected(self) -> Generator[None]:
        """What can go wrong on the way becomes one of our failures."""
        try:
            yield
        except (httpx.DecodingError, httpx.RemoteProtocolError) as problem:
            if "disconnected" in str(problem) or "closed" in str(problem):
                raise _unreachable(self.name, problem) from problem
            raise ModelFailed("model.engine", f"{self.name} does not speak HTTP: {problem}", _IS_IT) from problem
        except (httpx.HTTPError, httpx.StreamError, OSError, RuntimeError) as problem:
            # RuntimeError: httpx's word for a client that was closed
            raise _unreachable(self.name, problem) from problem


def _parsed(url: str) -> httpx.URL:
    """Raises InvalidInput."""
    wrong = InvalidInput(
        "model.url",
        f"{url.rpartition('@')[2]!r} is no address of a node.",  # what stands before it may be a password
        "Write it like http://gpu-1:11434 or gpu-1.",
    )
    if "://" not in url:
        url = f"http://{url}" if re.search(r":\d+/?$", url) else f"http://{url.rstrip('/')}:11434"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise wrong from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise wrong
    return parsed


_IS_IT = "Is there an Ollama at this address?"


def _unreachable(node: str, problem: Exception) -> ModelFailed:
    said = str(problem) or type(problem).__name__
    return ModelFailed("model.unreachable", f"{node} can't be reached: {said}", "Is its Ollama running?")


def _garbage(node: str, said: bytes) -> ModelFailed:
    return ModelFailed("model.engine", f"{node} answered {said[:100]!r}, which makes no sense.", _IS_IT)


def _failure(node: str, status: int, problem: str) -> ModelFailed:
    """What a status with these words means."""
    message = f"{node}: {problem[:500]} ({status})"
    if _OVERFLOW.search(problem):
        return ModelFailed("model.overflow", message, "Shorten the goal or its inputs, or use a larger context.")
    if status == 404 or (status == 200 and _MISSING.search(problem)):
        return ModelFailed("model.missing", message, "ollama list shows what is there; ollama pull fetches more.")
    if status in {429, 503}:
        return ModelFailed("model.busy", message, "Ask again a little later, or another node.")
    if status in {502, 504}:
        return ModelFailed("model.unreachable", message, "Is its Ollama running?")
    if status in {400, 401, 403, 413, 422} or _SCHEMA in problem:
        return ModelFailed("model.refused", message, "The same request will be refused again.")
    return ModelFailed("model.engine", message, "Trying again may help; its log says more.")


def _error(said: bytes) -> str:
    """The words of `{"error": ...}`, empty if there are none."""
    try:
        body: object = msgspec.json.decode(said)
    except msgspec.DecodeError:
        return ""
    problem = msgspec.convert(body, dict[str, Any]).get("error") if isinstance(body, dict) else None
    return problem if isinstance(problem, str) else msgspec.json.encode(problem).decode() if problem else ""


def _decoded(node: str, said: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(said, type=type_)
    except msgspec.DecodeError:
        raise _garbage(node, said) from None


def _model(node: str, tag: _Tag, shown: _Shown, running: _Running | None) -> Model:
    info = shown.model_info or {}
    context: object = info.get(f"{info.get('general.architecture')}.context_length", 0)
    said = shown.capabilities or []
    can: set[Capability] = {name for name in ("tools", "vision", "thinking") if name in said}
    if shown.details.format == "gguf":  # the engine for the other formats lets a schema pass unheeded
        can.add("schema")
    return Model(
        engine="ollama",
        node=node,
        name=tag.name,
        size=tag.size,
        context=context if isinstance(context, int) else 0,
        loaded=running is not None,
        loaded_context=running.context_length if running else 0,
        capabilities=frozenset(can),
    )
