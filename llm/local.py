"""The embedded engine: llama.cpp inside this process, through xllamacpp.

xllamacpp has no type stubs, so all it is touched by is `_start` and the one method in `_Native`.
"""

import importlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec
from anyio import CapacityLimiter, from_thread, to_thread

from llm.engine import Generation, OnText, cut_short, no_room, too_slow
from llm.fetch import check_gguf
from llm.grammar import grammatical
from llm.models import display_name
from schemas.errors import CouldNotStart, ModelFailed
from schemas.inference import Answer
from schemas.plan import Usage

BATCH = 64
"""Prompt tokens read between two looks at whether anybody still waits: half a second on a slow core. 256 at once were
read 3% faster."""

CACHE_MIB = 256
"""Memory for prefixes of prompts that no slot holds at the moment."""

_UNSTUCK = {"repeat_penalty": 1.05, "dry_multiplier": 0.8, "dry_allowed_length": 3, "dry_penalty_last_n": 512}
"""Leads a tiny model out of the circles it runs in. For free text only: JSON repeats, and quotes, for good reason."""


class _Native(Protocol):
    def handle_chat_completions(self, prompt: bytes, callback: Callable[[bytes], bool]) -> None:
        """Stream an answer's chunks to `callback` until it returns True. Exceptions in it vanish."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class _Tokens(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details = _Details()


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Tokens | None = None
    error: _Error | None = None


class LocalEngine:
    """An Engine that runs a GGUF file in this process. Start it with `await LocalEngine.load(path)`.

    Each request has a thread while it runs, at most `slots` of them. Cancelling `generate`, or its timeout, stops the
    request at its next token or the next 64 prompt tokens, and `generate` ends only then: whoever is told that a
    request is over can rely on its slot being free. (A bare `asyncio.Task.cancel` ends `generate` at once and its
    request as soon as that.) Answers are deterministic up to rounding: temperature is 0, but what else runs in the same
    batch may tip a tie.
    """

    name = "local"

    def __init__(self, native: _Native, model: str, slots: int, context: int) -> None:
        self.model, self.slots, self.context = model, slots, context
        self._native: _Native | None = native
        self._closing = False
        self._threads = CapacityLimiter(slots)

    @classmethod
    async def load(cls, path: Path, *, slots: int = 2, context: int = 4096) -> "LocalEngine":
        """Load a model; a small one takes about half a second. `context` is tokens for each slot.

        Raises CouldNotStart with code `model.missing`, `model.broken` or `model.library`.
        """
        native = await to_thread.run_sync(_start, path, slots, context, _threads())
        return cls(native, display_name(str(path)), slots, context)

    async def generate(self, request: Generation, on_text: OnText | None = None) -> Answer:
        """Answer one request. See Engine.generate."""
        body = msgspec.json.encode(self._body(request))
        abandoned = False

        def unwanted() -> bool:
            return abandoned or self._closing or _cancelled()

        try:
            with anyio.fail_after(request.timeout):
                chunks, seconds = await to_thread.run_sync(self._run, body, unwanted, on_text, limiter=self._threads)
        except TimeoutError:
            raise too_slow(self.model, request.timeout) from None
        finally:
            abandoned = True  # a bare Task.cancel leaves the thread behind: its request must still end
        return self._answer(request, chunks, seconds)

    async def close(self) -> None:
        """Stop what runs, wait until it has, and free the model."""
        self._closing = True
        for _ in range(self.slots):
            await self._threads.acquire_on_behalf_of(object())
        native, self._native = self._native, None
        del native  # its destructor ends the engine's own threads, in about 30 ms
        self._threads.total_tokens += self.slots  # whoever still waits learns that it is closed

    def _body(self, request: Generation) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": request.chat(),
            "max_tokens": min(request.max_tokens, self.context),
            "temperature": 0,
            "cache_prompt": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # a chunk per batch of the prompt, so that reading it can be stopped
        }
        if request.schema is None:
            body |= _UNSTUCK
        else:
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": grammatical(request.schema)}}
        return body

    def _run(self, body: bytes, unwanted: Callable[[], bool], on_text: OnText | None) -> tuple[list[_Chunk], float]:
        """In a thread: one request to its end, or until it is unwanted. Chunks and seconds."""
        native, raw, began = self._native, list[bytes](), time.monotonic()
        broken: list[Exception] = []
        if native is None or unwanted():
            from_thread.check_cancelled()
            raise ModelFailed("model.engine", f"{self.model} is closed.", "Start Victoria again.")

        def take(chunk: bytes) -> bool:
            raw.append(chunk)
            if unwanted():
                return True
            try:
                if on_text and (text := _text([msgspec.json.decode(chunk, type=_Chunk)])):
                    from_thread.run_sync(on_text, text)
            except Exception as problem:  # it would vanish in the library
                broken.append(problem)
            return bool(broken)

        try:
            native.handle_chat_completions(body, take)
            chunks = [msgspec.json.decode(chunk, type=_Chunk) for chunk in raw]
        except (ValueError, RuntimeError, msgspec.DecodeError) as problem:
            raise _failed(self.model, str(problem)) from problem
        from_thread.check_cancelled()
        if broken:
            raise broken[0]
        return chunks, time.monotonic() - began

    def _answer(self, request: Generation, chunks: list[_Chunk], seconds: float) -> Answer:
        error = next((chunk.error for chunk in chunks if chunk.error), None)
        if error and error.type == "exceed_context_size_error":
            raise no_room(self.model, self.context)
        if error:
            raise _failed(self.model, error.message)
        choices = [choice for chunk in chunks for choice in chunk.choices]
        ended = next((choice.finish_reason for choice in choices if choice.finish_reason), None)
        tokens = next((chunk.usage for chunk in chunks if chunk.usage), None)
        if ended is None or tokens is None:
            raise _failed(self.model, "it was closed while it answered" if self._closing else "no end came")
        if ended == "length" and tokens.completion_tokens < request.max_tokens:
            raise no_room(self.model, self.context)
        cached = tokens.prompt_tokens_details.cached_tokens
        usage = Usage(self.model, 1, tokens.prompt_tokens, tokens.completion_tokens, seconds, cached)
        if ended == "length" and request.schema is not None:
            raise cut_short("its JSON", usage)
        return Answer(_text(chunks), usage)


def _text(chunks: list[_Chunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def _threads() -> int:
    """On how many processors it computes. Few: they wait for each other by spinning, for every layer of every token.

    As soon as anything else needs one of their processors, that falls from 150 tokens/s to 10 (two threads on two
    cores), where one thread keeps its 125; and a model this small gains nothing from more than four.
    """
    return min(4, max(1, (os.cpu_count() or 1) // 2))


def _start(path: Path, slots: int, context: int, threads: int) -> _Native:
    """Load the library and the model. The only place that knows xllamacpp's names."""
    check_gguf(path)
    try:
        library: Any = importlib.import_module("xllamacpp")  # late: importing it costs 0.2 s and needs libgomp
    except ImportError as problem:
        raise CouldNotStart(
            "model.library",
            f"The embedded engine can't be loaded: {problem}",
            "Install libgomp1 (Debian, Ubuntu) or libgomp (others), or set VICTORIA_MODEL=none.",
        ) from problem
    params = library.CommonParams()
    params.model.path = str(path)
    params.n_parallel = slots
    params.kv_unified = True
    params.kv_unified_per_slot = context  # so a slot's limit is exact, and no request can crowd out another
    params.n_ctx = context * slots
    params.n_predict = context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_batch = params.n_ubatch = BATCH
    params.cache_ram_mib = CACHE_MIB
    params.warmup = False
    params.verbosity = -1
    # It also serves HTTP on a random loopback port, which can't be turned off: nobody knows its key.
    params.api_keys = [secrets.token_hex(32)]
    params.n_threads_http = 1
    try:
        native: _Native = library.Server(params)
    except (RuntimeError, ValueError) as problem:
        raise CouldNotStart(
            "model.broken",
            f"{path} can't be loaded as a model: {problem}",
            "It may be cut short, or of a kind that this version does not know: name another one.",
        ) from problem
    return native


def _cancelled() -> bool:
    """In a thread of to_thread: was the task that waits for it cancelled?"""
    try:
        from_thread.check_cancelled()
    except BaseException:  # the back end's cancellation class, which the caller raises again outside the callback
        return True
    return False


def _failed(model: str, problem: str) -> ModelFailed:
    if "JSON schema error" in problem:
        return ModelFailed("model.refused", f"{model} refused: {problem[:500]}", "Simplify the schema.")
    return ModelFailed("model.engine", f"{model} failed: {problem[:500]}", "Trying again may help.")
