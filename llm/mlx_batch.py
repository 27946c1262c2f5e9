"""The thread that owns an MLX model: it loads it, batches whatever is asked for, and frees it.

mlx ties arrays to the thread whose stream computes them, so nothing of the model is ever touched from outside. Requests
join the batch and leave it between two steps: a step is one token for each request that is answered, and up to
some hundred tokens of each prompt that is still being read.
"""

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llm.mlx_gguf import load_gguf
from llm.mlx_library import Library, library
from llm.mlx_schema import Constraint, vocabulary
from schemas.errors import CouldNotStart, ModelFailed

STEP, SLOW_STEP = 256, 32
"""Prompt tokens read between two looks at whether anybody still waits: on a graphics processor, and on others."""

CACHE_BYTES = 256 << 20
CACHE_ENTRIES = 16
"""How much of earlier prompts is kept, for later ones that begin alike."""


class EngineDown(ModelFailed):
    """The engine ended with this request in it, which need not be this request's fault."""

    retryable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the rest of the process may use of a model, in any thread: its text side. `context` is in tokens."""

    library: Library
    tokenizer: Any
    words: Any
    context: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer. `cached` counts prompt tokens that needed no reading; `cut` says that max_tokens ended it."""

    text: str
    tokens: int
    cached: int
    cut: bool


@dataclass(eq=False, slots=True)
class Job:
    """A request. The thread calls `on_piece` with each piece of text, and `on_end` once, with an answer or failure."""

    prompt: list[int]
    max_tokens: int
    constraint: Constraint | None
    on_piece: Callable[[str], None]
    on_end: Callable[[Ended | ModelFailed], None]
    cached: int = 0
    tokens: int = 0
    detokenizer: Any = field(default=None)


class Batch:
    """Starts its thread when it is made; `started` then has what was loaded, or CouldNotStart."""

    def __init__(self, path: Path, slots: int) -> None:
        self.started: Future[Loaded] = Future()
        self._path, self._slots = path, slots
        self._wake = threading.Condition()
        self._new: list[Job] = []
        self._gone: list[Job] = []
        self._closing = False
        self._end: ModelFailed | None = None
        self._jobs: dict[int, Job] = {}  # the thread's own, by the generator's numbers
        self._thread = threading.Thread(target=self._run, name="mlx", daemon=True)
        atexit.register(self.close)  # a thread that computes while the interpreter goes would crash it
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Have a job join at the next step; where the thread has ended, the job ends at once."""
        with self._wake:
            if self._end is None:
                self._new.append(job)
                self._wake.notify()
                return
        job.on_end(self._end)

    def cancel(self, job: Job) -> None:
        """Have a job leave before the next step, without a word. Fine for jobs that have ended."""
        with self._wake:
            if job in self._new:
                self._new.remove(job)
            else:
                self._gone.append(job)
                self._wake.notify()

    def stop(self) -> None:
        """End all jobs after the step that runs, and free the model. Twice is fine."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def close(self) -> None:
        """Stop, and wait until all is done."""
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        mx: Any = None
        try:
            lib = library()
            mx = lib.mx
            model, loaded = _load(lib, self._path)
            self.started.set_result(loaded)
            self._serve(model, loaded)
            self._finish(EngineDown("model.engine", "The MLX engine was closed.", "Try again once it has started."))
        except BaseException as problem:  # whatever it is, whoever waits must hear of it
            if not self.started.done():
                self.started.set_exception(_not_started(self._path, problem))
            said = f"The MLX engine broke down: {type(problem).__name__}: {problem}"[:500]
            self._finish(EngineDown("model.engine", said, "Trying again, after a restart of the engine, may help."))
        finally:
            model = loaded = None
            if mx is not None:
                mx.clear_streams()  # or the process aborts when it ends
            atexit.unregister(self.close)

    def _finish(self, end: ModelFailed) -> None:
        with self._wake:
            self._end = end
            jobs = [*self._jobs.values(), *self._new]
            self._jobs, self._new = {}, []
        for job in jobs:
            job.on_end(end)

    def _serve(self, model: Any, loaded: Loaded) -> None:
        """Steps, as long as there is work; sleep, while there is none."""
        lib = loaded.library
        generator = lib.generate.BatchGenerator(
            model,
            stop_tokens=[[token] for token in loaded.tokenizer.eos_token_ids],
            completion_batch_size=self._slots,
            prefill_batch_size=self._slots,
            prefill_step_size=STEP if lib.on_gpu else SLOW_STEP,
        )
        prefixes = lib.cache.LRUPromptCache(CACHE_ENTRIES, CACHE_BYTES)
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._new or self._gone or self._jobs)
                if self._closing:
                    generator.close()
                    return
                new, gone, self._new, self._gone = self._new, self._gone, [], []
            unwanted = [number for number, job in self._jobs.items() if job in gone]
            generator.remove(unwanted)
            for number in unwanted:
                del self._jobs[number]
            for job in new:
                self._join(generator, prefixes, loaded, job)
            if self._jobs:
                for response in generator.next()[1]:
                    self._take(prefixes, response)

    def _join(self, generator: Any, prefixes: Any, loaded: Loaded, job: Job) -> None:
        # All but the last token may come from a cache: the model must read one to say what follows.
        known, rest = prefixes.fetch_nearest_cache("", job.prompt[:-1])
        job.cached = len(job.prompt) - 1 - len(rest) if known is not None else 0
        job.detokenizer = loaded.tokenizer.detokenizer
        processors = [job.constraint] if job.constraint else []
        [number] = generator.insert(
            [job.prompt[job.cached :]],
            max_tokens=[job.max_tokens],
            caches=[known],
            all_tokens=[job.prompt[: job.cached]],
            logits_processors=[processors],
        )
        self._jobs[number] = job

    def _take(self, prefixes: Any, response: Any) -> None:
        """One more token of one job."""
        job, why = self._jobs[response.uid], response.finish_reason
        if why != "stop":
            job.tokens += 1
            job.detokenizer.add_token(response.token)
        if why is not None:
            job.detokenizer.finalize()
        if piece := job.detokenizer.last_segment:
            job.on_piece(piece)
        if why is None:
            return
        del self._jobs[response.uid]
        prefixes.insert_cache("", response.all_tokens, response.prompt_cache)
        constraint = job.constraint
        if constraint and constraint.problem:
            job.on_end(ModelFailed("model.refused", f"JSON schema: {constraint.problem}"[:500], "Simplify the schema."))
        else:
            cut = why == "length" and not (constraint and constraint.complete)
            job.on_end(Ended(job.detokenizer.text, job.tokens, job.cached, cut))


def _load(lib: Library, path: Path) -> tuple[Any, Loaded]:
    """A GGUF file, or a folder in MLX's own format; nothing is ever downloaded."""
    if path.is_dir():
        model, tokenizer, config = lib.utils.load(str(path), return_config=True)
        context = int(config.get("max_position_embeddings") or 1 << 30)
        if not lib.on_gpu:
            model.set_dtype(lib.mx.float32)  # a processor computes with 16 bits many times slower
    else:
        model, tokenizer, context = load_gguf(lib, path)
    return model, Loaded(lib, tokenizer, vocabulary(lib, tokenizer), context)


def _not_started(path: Path, problem: BaseException) -> CouldNotStart:
    if isinstance(problem, CouldNotStart):
        return problem
    said = f"{path} can't be loaded as a model: {type(problem).__name__}: {problem}"[:500]
    return CouldNotStart("model.broken", said, "Fetch or convert the model again, or use another one.")
