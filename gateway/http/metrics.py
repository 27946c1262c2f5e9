"""What Prometheus is told. Labels have few values: routes, codes, stages; never what a client wrote."""

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.observed.figures import Figures
from deploy.observed.standing import Standing
from schemas.errors import VictoriaError

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

prometheus_client.disable_created_metrics()  # a series more for each counter, which nobody reads


class Metrics:
    """One door's figures, in a registry of their own, with those of the work that is done beside it."""

    def __init__(self, figures: Figures | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "victoria_http_requests", "Requests answered.", ("method", "route", "code"), registry=registry
        )
        self.seconds = Histogram(
            "victoria_http_request_duration_seconds",
            "Seconds until a request's answer began.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.submitted = Counter("victoria_runs_submitted", "Runs published by this process.", registry=registry)
        self.refused = Counter("victoria_runs_refused", "Runs not taken, by error.", ("error",), registry=registry)
        self.in_hand = Gauge("victoria_requests_in_hand", "Requests for runs in hand.", registry=registry)
        self.standing = Standing(registry)
        if figures:
            registry.register(figures)

    @contextmanager
    def taking(self) -> Generator[None]:
        """Inside, a run is taken, or refused with an error, which is counted."""
        try:
            yield
        except VictoriaError as problem:
            self.refused.labels(problem.code).inc()
            raise

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


def route_of(scope: Scope) -> str:
    """The page that a request is for, as the table of pages has it."""
    return getattr(scope.get("route"), "path", "none")


class Measured:
    """Counts and times what passes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, code = perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start" and not code:
                code = message["status"]
                self._note(scope, code, perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not code:
                self._note(scope, 500, perf_counter() - began)
            raise

    def _note(self, scope: Scope, code: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = route_of(scope)
        self._metrics.requests.labels(method, route, code).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
