"""What all pages share."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deploy.victoria import Victoria
from gateway.http.live import Live
from gateway.http.metrics import Metrics
from gateway.standing import Standings


@dataclass
class Door:
    """An opened Victoria, what happens to its runs, the agent it answers as, and how many requests for runs it has."""

    victoria: Victoria
    live: Live
    agent: str
    load: int = 0
    local: bool = True
    """Whether only this machine reaches it."""
    metrics: Metrics = field(init=False)
    standings: Standings = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.victoria.figures)
        self.standings = Standings(self.victoria)

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Inside, one more request for a run is in hand."""
        self.load += 1
        try:
            yield
        finally:
            self.load -= 1
