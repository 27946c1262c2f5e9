"""The MLX engine: mlx-lm inside this process, all requests in one batch.

On Apple's processors it computes on the graphics part. It also runs on Linux, slowly: enough to test it there.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from llm.engine import Generation, cut_short, no_room, too_slow
from llm.fetch import check_gguf
from llm.mlx_batch import Batch, Ended, Job, Loaded
from llm.mlx_schema import Constraint
from llm.models import display_name
from schemas.errors import CouldNotStart, ModelFailed
from schemas.inference import Answer
from schemas.plan import Usage


class MlxEngine:
    """An Engine that runs a GGUF file or an MLX folder in this process. Start it with `await MlxEngine.load(path)`.

    Up to `slots` requests are answered together, each leaving the batch when it ends, is cancelled or runs out of time;
    its place is free at the next step. Prompts that begin like an earlier one are read from where they differ. Answers
    are deterministic up to rounding: what else is in the batch may tip a tie. Should the engine break down, all its
    requests fail with `model.engine`, retryable: close it and load another.
    """

    name = "mlx"

    def __init__(self, path: Path, batch: Batch, loaded: Loaded, slots: int, context: int) -> None:
        self.model, self.slots = display_name(str(path)), slots
        self.context = min(context, loaded.context)
        self._path, self._batch, self._loaded = path, batch, loaded
        self._closed = False
        self._free = anyio.Semaphore(slots)
        self._writer = CapacityLimiter(1)  # tokenizers are not made for several threads

    @classmethod
    async def load(cls, path: Path, *, slots: int = 4, context: int = 4096) -> "MlxEngine":
        """Load a model, in seconds. `context` is tokens for each slot, and at most what the model was made for.

        Raises CouldNotStart with code `model.missing`, `model.broken` or `model.library`.
        """
        _check(path)
        batch, loaded = await _start(path, slots)
        return cls(path, batch, loaded, slots, context)

    async def generate(self, request: Generation, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answer one request. `on_text` is called in the event loop's thread. See Engine.generate."""
        began = time.monotonic()
        try:
            with anyio.fail_after(request.timeout):
                async with self._free:
                    if self._closed:
                        raise self._is_closed()
                    batch, loaded = self._batch, self._loaded
                    prompt, constraint = await to_thread.run_sync(self._prepare, loaded, request, limiter=self._writer)
                    ended = await _run(batch, prompt, max(1, request.max_tokens), constraint, on_text)
        except TimeoutError:
            raise too_slow(self.model, request.timeout) from None
        usage = Usage(self.model, 1, len(prompt), ended.tokens, time.monotonic() - began, ended.cached)
        if ended.cut and constraint:
            raise cut_short("its JSON", usage)
        return Answer(ended.text, usage)

    async def close(self) -> None:
        """Stop what runs after its step, and free the model."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._batch.close)

    def _prepare(self, loaded: Loaded, request: Generation) -> tuple[list[int], Constraint | None]:
        """In a thread: the prompt's tokens and the schema's grammar."""
        try:
            prompt: list[int] = loaded.tokenizer.apply_chat_template(
                request.chat(), add_generation_prompt=True, enable_thinking=False
            )
            schema = request.schema
            constraint = None if schema is None else Constraint(loaded.library, loaded.words, schema)
        except Exception as problem:  # templates and schemas are programs: they fail in every way
            raise ModelFailed(
                "model.refused", f"{self.model} refused: {problem}"[:500], "Ask differently."
            ) from problem
        if len(prompt) + request.max_tokens > self.context:
            raise no_room(self.model, self.context)
        return prompt, constraint

    def _is_closed(self) -> ModelFailed:
        return ModelFailed("model.engine", f"{self.model} is closed.", "Start Victoria again.")


async def _start(path: Path, slots: int) -> tuple[Batch, Loaded]:
    batch = Batch(path, slots)
    try:
        return batch, await to_thread.run_sync(batch.started.result)
    except BaseException:
        batch.stop()
        raise


async def _run(
    batch: Batch,
    prompt: list[int],
    max_tokens: int,
    constraint: Constraint | None,
    on_text: Callable[[str], None] | None,
) -> Ended:
    """One job from beginning to end, or until its task is cancelled."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Ended | ModelFailed] = loop.create_future()

    def settle(what: Ended | ModelFailed) -> None:
        if not outcome.done():
            outcome.set_result(what)

    def say(piece: str) -> None:
        if on_text and not outcome.done():
            try:
                on_text(piece)
            except Exception as problem:
                outcome.set_exception(problem)

    def on_loop(call: Callable[..., None], what: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(call, what)

    job = Job(prompt, max_tokens, constraint, lambda p: on_loop(say, p), lambda w: on_loop(settle, w))
    batch.submit(job)
    try:
        ended = await outcome
    finally:
        batch.cancel(job)
    if isinstance(ended, ModelFailed):
        raise ended
    return ended


def _check(path: Path) -> None:
    if not path.is_dir():
        check_gguf(path)
    elif not (path / "config.json").is_file():
        raise CouldNotStart(
            "model.broken", f"{path} has no config.json, so it is not a model in MLX's format.", "Name another folder."
        )
