"""An OTLP collector's stand-in: takes what is exported over HTTP, and knows the spans."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span as it came. `process` is the instance that exported it, `parent` "" for none."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    process: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool


class Collector:
    """What was exported to `url`, in the order it came. While it is `out`, it answers with errors."""

    def __init__(self) -> None:
        self.url, self.bodies, self.out = "", list[bytes](), False

    @property
    def spans(self) -> list[Span]:
        """All of them."""
        return [span for body in list(self.bodies) for span in _spans(body)]

    def of(self, trace: str) -> list[Span]:
        """Those of one trace."""
        return [span for span in self.spans if span.trace == trace]


def _spans(body: bytes) -> list[Span]:
    request: Any = cast("Any", ExportTraceServiceRequest)()
    request.ParseFromString(body)
    found: list[Span] = []
    for resource in request.resource_spans:
        process = _attributes(resource.resource)["service.instance.id"]
        for scope in resource.scope_spans:
            found += [
                Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.kind,
                    process,
                    _attributes(span),
                    tuple(link.span_id.hex() for link in span.links),
                    span.status.code == 2,
                )
                for span in scope.spans
            ]
    return found


def _attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    """A collector at work."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not collector.out:
                collector.bodies.append(body)
            self.send_response(503 if collector.out else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()
