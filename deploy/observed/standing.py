"""What Prometheus is told of how things stand: the event server, the stages, and the program."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge

from deploy.victoria import Victoria
from streams.connection import server_info, version_of
from streams.groups import FOLLOWER
from streams.lag import Measure


@dataclass(frozen=True, slots=True)
class Found:
    """What there was a moment ago: the server's name and version, "" where it does not answer; live workers by stage,
    and measures."""

    server: str = ""
    workers: Mapping[str, int] = field(default_factory=dict[str, int])
    measures: Mapping[str, Measure] = field(default_factory=dict[str, Measure])


async def look(victoria: Victoria) -> Found:
    """What there is now. Raises redis errors."""
    infos = await server_info(victoria.client)
    kind = "Valkey" if "valkey_version" in infos[0] else "Redis"
    name = f"{kind} {' and '.join(dict.fromkeys(map(version_of, infos)))}"
    return Found(name, await victoria.live(), await victoria.measures())


class Standing:
    """Gauges in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._server = gauge("victoria_server_up", "Whether the event server answers.")
        self._workers = gauge("victoria_stage_live_workers", "Live workers of a stage.", "stage")
        self._lag = gauge(
            "victoria_stage_lag_entries", "Entries not yet given to a worker; absent where that is not known.", "stage"
        )
        self._pending = gauge("victoria_stage_pending_entries", "Entries that workers have in hand.", "stage")
        self._delayed = gauge("victoria_stage_delayed_entries", "Entries put off for a retry.", "stage")
        self._dead = gauge(
            "victoria_stage_dead_letters", "Entries that were given up; absent where that is not known.", "stage"
        )
        self._oldest = gauge(
            "victoria_stage_oldest_seconds", "Age of the oldest unfinished entry, 0 where there is none.", "stage"
        )
        self._build = gauge("victoria_build_info", "Versions; always 1.", "version", "python", "server")

    def tell(self, found: Found, stages: Iterable[str]) -> None:
        """What was found, of these stages and of history. What is not known now is absent."""
        for each in (self._workers, self._lag, self._pending, self._delayed, self._dead, self._oldest, self._build):
            each.clear()
        self._server.set(bool(found.server))
        self._build.labels(version("victoria-streams"), platform.python_version(), found.server).set(1)
        for name in (*stages, FOLLOWER):
            if name in found.workers:
                self._workers.labels(name).set(found.workers[name])
            if not (measure := found.measures.get(name)):
                continue
            self._pending.labels(name).set(measure.pending)
            self._delayed.labels(name).set(measure.delayed)
            self._oldest.labels(name).set(measure.oldest or 0)
            if measure.undelivered.known is not None:
                self._lag.labels(name).set(measure.undelivered.known)
            if measure.dead.known is not None:
                self._dead.labels(name).set(measure.dead.known)
