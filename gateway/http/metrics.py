"""What Prometheus is told. Labels have few values: routes, codes, stages; never what a client wrote."""

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import VictoriaError

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

prometheus_client.disable_created_metrics()  # a series more for each counter, which nobody reads


class Metrics:
    """One door's figures, in a registry of their own."""

    def __init__(self) -> None:
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
        self.server = Gauge("victoria_server_up", "Whether the event server answers.", registry=registry)
        self.workers = Gauge("victoria_stage_live_workers", "Live workers of a stage.", ("stage",), registry=registry)
        self.lag = Gauge(
            "victoria_stage_lag_entries",
            "Entries not yet given to a worker; absent where that is not known.",
            ("stage",),
            registry=registry,
        )
        self.pending = Gauge(
            "victoria_stage_pending_entries", "Entries that workers have in hand.", ("stage",), registry=registry
        )
        self.delayed = Gauge(
            "victoria_stage_delayed_entries", "Entries put off for a retry.", ("stage",), registry=registry
        )
        self.build = Gauge(
            "victoria_build_info", "Versions; always 1.", ("version", "python", "server"), registry=registry
        )

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

    def forget_stages(self) -> None:
        """Drop what was found of server and stages: what is not known now is absent."""
        for gauge in (self.workers, self.lag, self.pending, self.delayed, self.build):
            gauge.clear()


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
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(method, route, code).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
