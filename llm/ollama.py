"""The Ollama engine: one model at one server."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import anyio
import msgspec
from msgspec.structs import replace

from llm.engine import Engine, Generation, OnText, cut_short, no_room, too_slow
from llm.grammar import grammatical, inlined
from llm.models import Model
from llm.ollama_node import Limits, Node
from llm.spoken import Spoken, unfenced
from schemas.errors import ModelFailed
from schemas.inference import Answer
from schemas.plan import Usage


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None


class _Chunk(msgspec.Struct):
    message: _Message | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int | None = None
    eval_count: int = 0


class OllamaEngine:
    """An Engine for one model at one node. Start it with `await OllamaEngine.connect(node_url, model)`.

    A server lets requests to a loaded model wait without bound; here at most `slots` are under way, and the others
    wait in `generate`. Every request names the same `context`: with another, the server would load the model anew.
    Before each question the model is loaded, which a server that has it says at once: only so has the wait for a cold
    start a limit of its own, since its answer's first byte is its first token. Cancelling `generate`, and each
    time-out, closes the connection, on which the server stops. `think` lets a model that can think do so; thoughts
    count as tokens, and are never part of the text.

    Some engines of Ollama's heed no schema (see llm.models.Capability): whoever asks for JSON checks what comes.
    """

    name = "ollama"

    def __init__(self, node: Node, model: str, slots: int, context: int, *, think: bool = False) -> None:
        self.model, self.slots, self.context = model, slots, context
        self._node, self._think = node, think
        self._free = anyio.Semaphore(slots)
        self._closed = False

    @classmethod
    async def connect(
        cls,
        node_url: str,
        model: str,
        *,
        slots: int = 1,
        context: int = 4096,
        think: bool = False,
        limits: Limits | None = None,
    ) -> "OllamaEngine":
        """See that the model is there, without loading it. `context` is cut to what the model was trained for.

        Raises ModelFailed: `model.missing`, or what keeps the node from answering (Node.lines).
        """
        node = Node(node_url, limits)
        try:
            found = await node.find(model)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await node.close()
            raise
        return cls(
            node,
            found.name,
            slots,
            min(context, found.context or context),
            think=think and "thinking" in found.capabilities,
        )

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        """Answer one request. See Engine.generate, and Node.lines for what else it raises."""
        try:
            with anyio.fail_after(request.timeout):
                async with self._free:
                    return await self._chat(request, on_text)
        except ModelFailed as failure:
            raise (self._failed("it was closed") if self._closed else failure) from failure.__cause__
        except TimeoutError:
            raise too_slow(f"{self.model} at {self._node.name}", request.timeout) from None

    async def close(self) -> None:
        """Break off what runs and refuse what comes."""
        self._closed = True
        await self._node.close()

    async def _chat(self, request: Generation, on_text: OnText | None) -> Answer:
        if self._closed:
            raise self._failed("it is closed")
        began, spoken, pieces, limits = time.monotonic(), Spoken(), list[str](), self._node.limits

        def say(text: str) -> None:
            if text:
                pieces.append(text)
                if on_text:
                    on_text(text)

        await self._node.load(self.model, self.context)
        async with aclosing(self._node.lines("/api/chat", self._body(request), limits.first, limits.idle)) as lines:
            async for line in lines:
                try:
                    chunk = msgspec.json.decode(line, type=_Chunk)
                except msgspec.DecodeError:
                    raise self._failed(f"it said {line[:100]!r}") from None
                if chunk.message and chunk.message.content:
                    say(spoken.add(chunk.message.content))
                if chunk.done:
                    say(spoken.end())
                    return self._answer(request, "".join(pieces), chunk, time.monotonic() - began)
        raise self._failed("its answer stopped in the middle")

    def _body(self, request: Generation) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.chat(),
            "stream": True,
            "think": self._think,
            "truncate": False,
            "shift": False,
            "options": {
                "num_ctx": self.context,
                "num_predict": min(request.max_tokens, self.context),
                "temperature": 0,
            },
        }
        if request.schema is not None:
            body["format"] = inlined(grammatical(request.schema))
        return body

    def _answer(self, request: Generation, text: str, end: _Chunk, seconds: float) -> Answer:
        if end.done_reason == "length" and end.eval_count < min(request.max_tokens, self.context):
            raise no_room(self.model, self.context)
        usage = Usage(
            model=self.model,
            calls=1,
            tokens_in=end.prompt_eval_count,
            tokens_out=end.eval_count,
            seconds=seconds,
            cached=end.prompt_eval_cached_count or 0,
            node=self._node.name,
        )
        if end.done_reason == "length" and (request.schema is not None or not text):
            raise cut_short("its JSON" if text else "thinking", usage)
        return Answer(text if request.schema is None else unfenced(text), usage)

    def _failed(self, problem: str) -> ModelFailed:
        return ModelFailed(
            "model.engine", f"{self.model} at {self._node.name} failed: {problem}.", "Trying again may help."
        )


class OllamaSource:
    """One server, as a source of the pool: `slots` questions at once, each model with up to `context` tokens."""

    def __init__(self, node_url: str, slots: int, context: int, limits: Limits | None = None) -> None:
        self.slots, self._url, self._context, self._limits = slots, node_url, context, limits
        self._node = Node(node_url, limits)
        self.node = self._node.name
        self._known = dict[str, int]()

    async def models(self) -> Sequence[Model]:
        """The models it can chat with. Raises ModelFailed."""
        limit = self._context
        found = [replace(m, context=min(m.context or limit, limit)) for m in await self._node.models()]
        self._known = {model.name: model.context for model in found}
        return found

    async def open(self, model: str) -> Engine:
        """An engine for one of those models, without asking the server again."""
        if (context := self._known.get(model)) is None:
            raise ModelFailed("model.missing", f"{self.node} has no model {model}.", f"ollama pull {model}")
        return OllamaEngine(Node(self._url, self._limits), model, self.slots, context)

    async def close(self) -> None:
        """Close its connections."""
        await self._node.close()
