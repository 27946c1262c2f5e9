"""Traces over OpenTelemetry: one trace for a run, across all processes that work on it.

A run's trace has the run's id, unless a caller came with a trace of its own: whoever knows a run finds its trace, and
all processes decide alike whether it is sampled. The envelope carries the W3C context of the span that sent it, so
what follows from an event has that event's handling as its parent. What is not sampled says so to those who come after,
and costs next to nothing.

Needs the extra `otel`. Where spans go, how many are kept back for it, and which are sampled, the variables OTEL_* say.
"""

import json
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from importlib.metadata import version
from time import perf_counter, time_ns
from typing import Any

import structlog
from msgspec.structs import replace
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from deploy.observed import names as n
from schemas.envelope import Envelope
from schemas.errors import VictoriaError
from schemas.events import Event, GoalSubmitted, InferenceRequested
from schemas.plan import Usage
from streams.entry import Entry
from streams.observer import TRACEPARENT, Asked, Handle, Observer, Used
from streams.outcome import Again, Dead
from streams.settlement import Handled
from streams.stage import AnyStage
from streams.worker import process_name

CLOSE_WITHIN = 3.0
"""Seconds at most that what is not exported yet keeps a process from ending."""
CONTENT = 8_192
"""Characters of a goal, a prompt, an answer."""
CAUSES, RUNS = 32, 1_024
"""Earlier events of a run that a handling with state is linked to, and for how many runs they are remembered."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|\Z)")
_RUN = re.compile(r"(?!0{32})[0-9a-f]{32}")

_log: Any = structlog.get_logger()


class _Ids(RandomIdGenerator):
    """Gives the next trace the id of its run."""

    run = ""

    def generate_trace_id(self) -> int:
        run, self.run = self.run, ""
        return trace_id(run) if run else super().generate_trace_id()


class Traces(Observer):
    """Hears of work and makes spans of it. `content` puts goals, prompts and answers into them.

    `sampler` is by default the one that OTEL_TRACES_SAMPLER names.
    """

    def __init__(self, *, content: bool = False, sampler: Sampler | None = None, endpoint: str | None = None) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.setLevel(logging.ERROR)  # a warning for each span that finds the queue full would cost more than it
        logger.handlers, logger.propagate = [_Forward()], False
        self._content, self._ids = content, _Ids()
        given = {SERVICE_VERSION: version("victoria-streams"), SERVICE_INSTANCE_ID: process_name()}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            given[SERVICE_NAME] = n.SCOPE
        self._provider = TracerProvider(sampler, Resource.create(given), shutdown_on_exit=False, id_generator=self._ids)
        self._exporter = OTLPSpanExporter(endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(n.SCOPE, version("victoria-streams"))
        self._in_hand: dict[Entry, SpanContext] = {}
        self._causes: OrderedDict[tuple[str, str], list[SpanContext]] = OrderedDict()

    def flush(self) -> None:
        """Export what there is; call it outside of the event loop."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export what is left, for a while; call it outside of the event loop."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN)
        if closing.is_alive():
            self._exporter.shutdown()  # else its thread would go on trying
            closing.join(CLOSE_WITHIN)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Generator[Callable[[int, str], None]]:
        """Inside, a request is answered, in the caller's trace if `headers` have one; tell it status and route."""
        attributes = {n.HTTP_METHOD: method}
        with self._current(method, SpanKind.SERVER, attributes, _remote(headers.get("traceparent", ""))) as span:

            def answered(status: int, route: str) -> None:
                span.update_name(f"{method} {route}")
                span.set_attribute(n.HTTP_ROUTE, route)
                span.set_attribute(n.HTTP_STATUS, status)
                if status >= 500:
                    span.set_attribute(n.ERROR_TYPE, str(status))
                    span.set_status(StatusCode.ERROR)

            yield answered

    @contextmanager
    def publishing(self, stream: str, events: Sequence[tuple[str, Event]]) -> Generator[Sequence[str]]:
        """A span for each event, of the request that it came with, or the first one of its run's trace."""
        current = trace.get_current_span()
        context = trace.set_span_in_context(current) if current.get_span_context().is_valid else Context()
        spans: list[Span] = []
        for run_id, event in events:
            attributes: dict[str, Any] = {
                n.MESSAGING_SYSTEM: n.SYSTEM,
                n.MESSAGING_OPERATION: n.SEND,
                n.MESSAGING_OPERATION_TYPE: n.SEND,
                n.MESSAGING_DESTINATION: stream,
                n.MESSAGING_CONVERSATION: run_id,
                n.EVENT_TYPE: type(event).__name__,
            }
            if self._content and isinstance(event, GoalSubmitted):
                attributes[n.GOAL] = event.goal[:CONTENT]
            spans.append(self._begun(f"{n.SEND} {stream}", SpanKind.PRODUCER, attributes, context, run_id))
        try:
            yield [_traceparent(span.get_span_context()) for span in spans]
        except BaseException as problem:
            for span in spans:
                _failed(span, problem)
            raise
        finally:
            for span in spans:
                span.end()

    def handling(self, stage: AnyStage, handle: Handle, entry: Entry) -> Awaitable[Handled]:
        """A span for each entry that has a context; what follows from it has that as its parent."""
        envelope = entry.envelope
        if envelope is None or not envelope.traceparent:
            return handle(entry)
        return self._handled(stage, handle, entry, envelope)

    async def _handled(self, stage: AnyStage, handle: Handle, entry: Entry, envelope: Envelope[Event]) -> Handled:
        attributes: dict[str, Any] = {
            n.MESSAGING_SYSTEM: n.SYSTEM,
            n.MESSAGING_OPERATION: n.PROCESS,
            n.MESSAGING_OPERATION_TYPE: n.PROCESS,
            n.MESSAGING_DESTINATION: stage.reads,
            n.MESSAGING_PARTITION: entry.partition,
            n.MESSAGING_GROUP: stage.name,
            n.MESSAGING_MESSAGE_ID: envelope.id,
            n.MESSAGING_CONVERSATION: envelope.run,
            n.EVENT_TYPE: type(envelope.body).__name__,
            n.ATTEMPT: entry.attempt,
        }
        causes = self._causes_of(stage, envelope.run) if stage.state else []
        span = self._begun(
            f"{n.PROCESS} {stage.reads}",
            SpanKind.CONSUMER,
            attributes,
            _remote(envelope.traceparent),
            envelope.run,
            [Link(cause) for cause in causes],
        )
        own = span.get_span_context()
        entry.envelope = replace(envelope, traceparent=_traceparent(own))
        with ExitStack() as leaving:
            leaving.callback(setattr, entry, "envelope", envelope)  # it may be handled again, with the same parent
            if not span.is_recording():
                return await handle(entry)
            leaving.callback(span.end)
            leaving.enter_context(_as_current(span))
            try:
                handled = await handle(entry)
            except BaseException as problem:
                _failed(span, problem)
                raise
            _tell(span, handled)
            self._in_hand[entry] = own
            if stage.state:
                causes.append(own)
                del causes[:-CAUSES]
            return handled

    def settled(self, stage: AnyStage, batch: Sequence[Handled], results: Sequence[int], seconds: float) -> None:
        """One span for a batch that has several sampled entries, linked to the handling of each."""
        in_hand = self._in_hand
        if not in_hand:
            return
        found = [in_hand.pop(handled.entry) for handled in batch if handled.entry in in_hand]
        if len(found) < 2:
            return
        now = time_ns()
        attributes = {
            n.MESSAGING_SYSTEM: n.SYSTEM,
            n.MESSAGING_OPERATION: n.SETTLE,
            n.MESSAGING_OPERATION_TYPE: n.SETTLE,
            n.MESSAGING_DESTINATION: stage.reads,
            n.MESSAGING_GROUP: stage.name,
            n.MESSAGING_BATCH: len(batch),
        }
        links = [Link(own) for own in found]
        name, began = f"{n.SETTLE} {stage.reads}", now - int(seconds * 1e9)
        self._tracer.start_span(name, Context(), SpanKind.CLIENT, attributes, links, began).end(now)

    @contextmanager
    def asking(self, engine: str, event: InferenceRequested, run_id: str) -> Generator[Asked]:
        """A span of the model's call, below the handling of the question."""
        if not trace.get_current_span().is_recording():
            yield Asked()
            return
        attributes: dict[str, Any] = {
            n.GEN_AI_OPERATION: n.CHAT,
            n.GEN_AI_PROVIDER: engine,
            n.GEN_AI_REQUEST_MODEL: event.model,
            n.GEN_AI_MAX_TOKENS: event.max_tokens,
            n.GEN_AI_OUTPUT_TYPE: "text" if event.answer_schema is None else "json",
        }
        if self._content:
            said = [{"role": m.role, "parts": [_text(m.content)]} for m in event.messages]
            attributes[n.GEN_AI_INPUT] = json.dumps(said, ensure_ascii=False)
        with self._current(f"{n.CHAT} {event.model}".strip(), SpanKind.CLIENT, attributes, None) as span:
            yield _Asked(span, content=self._content)

    @contextmanager
    def using(self, tool: str, call_id: str, arguments: Callable[[], str]) -> Generator[Used]:
        """A span of the tool's use, below the handling of the step."""
        if not trace.get_current_span().is_recording():
            yield Used()
            return
        attributes = {
            n.GEN_AI_OPERATION: n.EXECUTE_TOOL,
            n.GEN_AI_TOOL: tool,
            n.GEN_AI_TOOL_TYPE: n.FUNCTION,
            n.GEN_AI_TOOL_CALL: call_id,
        }
        if self._content:
            attributes[n.GEN_AI_TOOL_ARGUMENTS] = arguments()[:CONTENT]
        with self._current(f"{n.EXECUTE_TOOL} {tool}", SpanKind.INTERNAL, attributes, None) as span:
            yield _Used(span, content=self._content)

    def _begun(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Any],
        parent: Context | None,
        run_id: str = "",
        links: Sequence[Link] = (),
    ) -> Span:
        self._ids.run = run_id
        try:
            return self._tracer.start_span(name, parent, kind, attributes, links)
        finally:
            self._ids.run = ""

    @contextmanager
    def _current(
        self, name: str, kind: SpanKind, attributes: dict[str, Any], parent: Context | None
    ) -> Generator[Span]:
        """Inside, a span is the parent of what is begun."""
        span = self._begun(name, kind, attributes, parent)
        try:
            with _as_current(span):
                yield span
        except BaseException as problem:
            _failed(span, problem)
            raise
        finally:
            span.end()

    def _causes_of(self, stage: AnyStage, run_id: str) -> list[SpanContext]:
        """The earlier handlings that made the state which a stage has of a run, as far as this process saw them."""
        key = (stage.name, run_id)
        causes = self._causes.setdefault(key, [])
        self._causes.move_to_end(key)
        if len(self._causes) > RUNS:
            self._causes.popitem(last=False)
        return causes


class _Asked(Asked):
    def __init__(self, span: Span, *, content: bool) -> None:
        self._span, self._content, self._began, self._heard = span, content, perf_counter(), False

    def first(self) -> None:
        if not self._heard:
            self._heard = True
            self._span.set_attribute(n.GEN_AI_FIRST, perf_counter() - self._began)

    def ended(self, usage: Usage, error: str = "", text: str = "") -> None:
        span = self._span
        span.set_attribute(n.GEN_AI_RESPONSE_MODEL, usage.model)
        span.set_attribute(n.GEN_AI_TOKENS_IN, usage.tokens_in)
        span.set_attribute(n.GEN_AI_TOKENS_OUT, usage.tokens_out)
        if usage.cached:
            span.set_attribute(n.GEN_AI_TOKENS_CACHED, usage.cached)
        if error:
            _mark(span, error)
        elif self._content:
            said = [{"role": "assistant", "parts": [_text(text)], "finish_reason": "stop"}]
            span.set_attribute(n.GEN_AI_OUTPUT, json.dumps(said, ensure_ascii=False))


class _Used(Used):
    def __init__(self, span: Span, *, content: bool) -> None:
        self._span, self._content = span, content

    def ended(self, text: str, error: str = "") -> None:
        if error:
            _mark(self._span, error)
        elif self._content:
            self._span.set_attribute(n.GEN_AI_TOOL_RESULT, text[:CONTENT])


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _log.warning("otel.failed", said=record.getMessage().partition("\n")[0][:500])


def trace_id(run_id: str) -> int:
    """The id of a run's own trace: the run's."""
    hexadecimal = run_id if _RUN.fullmatch(run_id) else blake2b(run_id.encode(), digest_size=16).hexdigest()
    return int(hexadecimal, 16)


def _remote(traceparent: str) -> Context:
    """The context that a W3C `traceparent` stands for; an empty one where it is none."""
    found = _TRACEPARENT.match(traceparent)
    if not found:
        return Context()
    flags = TraceFlags(int(found[3], 16) & TraceFlags.SAMPLED)
    parent = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(of: SpanContext) -> str:
    """The context of a span; "" where its trace is not sampled, so that carrying that costs nothing."""
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-01" if of.is_valid and of.trace_flags.sampled else ""


@contextmanager
def _as_current(span: Span) -> Generator[None]:
    token = attach(trace.set_span_in_context(span))
    ours = TRACEPARENT.set(_traceparent(span.get_span_context()))
    try:
        yield
    finally:
        TRACEPARENT.reset(ours)
        detach(token)


def _tell(span: Span, handled: Handled) -> None:
    """What became of an entry."""
    match handled.outcome:
        case Dead(error):
            span.set_attribute(n.OUTCOME, "dead")
            _mark(span, error.code)
        case Again(error=None):
            span.set_attribute(n.OUTCOME, "put_off")
        case Again(error=error):
            span.set_attribute(n.OUTCOME, "retried")
            _mark(span, error.code if error else "")
        case _:
            span.set_attribute(n.OUTCOME, "handled")


def _failed(span: Span, problem: BaseException) -> None:
    """An exception ended it. Its words may quote what somebody wrote: only what it is called is told."""
    _mark(span, problem.code if isinstance(problem, VictoriaError) else type(problem).__name__)


def _mark(span: Span, error: str) -> None:
    span.set_attribute(n.ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR))


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content[:CONTENT]}
