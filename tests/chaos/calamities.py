"""What is done to a run of chaos, and when: a schedule that follows from its seed alone."""

from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Kind = Literal[
    "kill worker",
    "pause worker",
    "kill server",
    "shut server down",
    "latency",
    "reset",
    "cut replies",
    "trickle",
    "black hole",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTS: dict[Kind, int] = {"kill worker": 4, "pause worker": 2, "reset": 2, "cut replies": 2}
"""How often a kind is drawn; once where it is not named."""


@dataclass(frozen=True, slots=True)
class Calamity:
    """One calamity. Seconds: `gap` from the goals before it until it strikes, `lasts` until it is over. `victim` is a
    worker's place."""

    kind: Kind
    victim: int
    gap: float
    lasts: float


def schedule(seed: int, count: int, workers: int, lease: float) -> list[Calamity]:
    """`count` calamities; from nine on every kind is among them. The same arguments give the same schedule."""
    rng = Random(seed)
    bag: list[Kind] = [kind for kind in KINDS for _ in range(WEIGHTS.get(kind, 1))]
    kinds: list[Kind] = [*KINDS]
    rng.shuffle(kinds)
    kinds = kinds[:count] + [rng.choice(bag) for _ in range(count - len(kinds))]
    rng.shuffle(kinds)
    return [
        Calamity(
            kind,
            rng.randrange(workers),
            round(rng.uniform(0.02, 0.6), 3),
            round(rng.uniform(1.3, 2.2) * lease if kind == "pause worker" else rng.uniform(0.2, 1.2), 3),
        )
        for kind in kinds
    ]
