"""A topology: stages that fit together. Where an event goes follows from who accepts it; nobody names a target."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.errors import CouldNotStart
from schemas.events import AnswerProgressed, Event, InferenceRequested
from streams.stage import AnyStage


@dataclass(frozen=True)
class Topology:
    """Stages, the events that come in from outside by stream, and those that go out to the `results` stream.

    Raises CouldNotStart with code `topology.*` when the graph of event types has a hole: an accepted type without a
    producer, an emitted type without a consumer, two stages of one name.
    """

    stages: tuple[AnyStage, ...]
    entries: Mapping[type[Event], str]
    results: frozenset[type[Event]]
    routes: Mapping[type[Event], tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        routes: dict[type[Event], list[str]] = {}
        for stage in self.stages:
            for event in stage.accepts:
                if stage.reads not in routes.setdefault(event, []):
                    routes[event].append(stage.reads)
        for event in self.results:
            routes.setdefault(event, []).append("results")
        routes[AnswerProgressed] = ["feed:RUN"]
        object.__setattr__(self, "routes", {event: tuple(streams) for event, streams in routes.items()})
        self._check()

    def _check(self) -> None:
        names = [stage.name for stage in self.stages]
        if twice := {name for name in names if names.count(name) > 1}:
            raise CouldNotStart("topology.twice", f"Two stages are called {', '.join(sorted(twice))}.", "Rename one.")
        # Questions to models are not emitted: ctx.ask puts them, from any stage.
        emitted = {event for stage in self.stages for event in stage.emits} | set(self.entries) | {InferenceRequested}
        for stage in self.stages:
            for event in stage.accepts:
                if event not in emitted:
                    raise CouldNotStart(
                        "topology.no_producer",
                        f"Stage {stage.name!r} accepts {event.__name__}, which nobody emits.",
                        "Add it to a stage's `emits`, or to the topology's `entries`.",
                    )
            for event in stage.emits:
                if event not in self.routes:
                    raise CouldNotStart(
                        "topology.no_consumer",
                        f"Stage {stage.name!r} emits {event.__name__}, which nobody accepts.",
                        "Add it to a stage's `accepts`, or to the topology's `results`.",
                    )

    def stage(self, name: str) -> AnyStage:
        """A stage by name. Raises KeyError."""
        return {stage.name: stage for stage in self.stages}[name]

    def streams(self) -> tuple[str, ...]:
        """All streams, in the order of the stages, `results` last."""
        read = dict.fromkeys(stage.reads for stage in self.stages)
        return (*read, "results")

    def groups(self, stream: str) -> tuple[str, ...]:
        """The consumer groups of a stream: one for each stage that reads it."""
        return tuple(stage.name for stage in self.stages if stage.reads == stream)

    def emitters(self, event: type[Event]) -> Iterable[str]:
        """Who emits an event type, for people."""
        if event in self.entries:
            yield "gateway"
        if event is InferenceRequested:
            yield "every stage that asks"
        if event is AnswerProgressed:
            yield "inference consumers"
        yield from (stage.name for stage in self.stages if event in stage.emits)

    def readers(self, event: type[Event]) -> Iterable[str]:
        """Who reads an event type, for people."""
        yield from (stage.name for stage in self.stages if event in stage.accepts)
        if event in self.results or event is AnswerProgressed:
            yield "gateway"
