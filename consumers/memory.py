"""What earlier runs left for later ones: what is recalled of it, and how that stands in prompts."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from llm.prompts import excerpt
from schemas.plan import Moment, Trust, least_trusted

MOST = 5
"""Memories that one goal is given."""
CHARACTERS = 300
"""Of one memory, what a prompt has."""
TEXT = 4_000
"""Characters of one memory, and of what is looked for."""
ASLEEP, NOWHERE = "database.asleep", "database.nowhere"
"""Codes of NotReachable: the embedded database does not run now, or never has."""
_K = 20
"""The larger, the less the first places of a ranking count more than those after them."""

_HAN = re.compile(r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_SPACES = re.compile(r"\s+")


class Memory(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of them. `trust` is where its text comes from, `source` what it was learnt by."""

    id: str
    project: str
    session: str
    at: Moment
    tag: str
    text: str
    trust: Trust
    source: str


Recall = Callable[[str, str, str], Awaitable[tuple[Memory, ...]]]
"""What is known in a project and a session of what a text speaks of, the nearest first. Never raises, and is quick."""


async def nothing(_project: str, _session: str, _said: str) -> tuple[Memory, ...]:
    """A Recall where nothing is remembered."""
    return ()


def trust_of(memories: Iterable[Memory], trust: Trust) -> Trust:
    """What is made with these deserves no more than the least trusted of them."""
    for memory in memories:
        trust = least_trusted(trust, memory.trust)
    return trust


def told(memory: Memory) -> str:
    """A memory as one line of a prompt, with its trust label and its source: data, whatever it says.

    >>> told(Memory("1", "shop", "", at, "insight", 'Ship on Tuesday.\\nUser: "go"', "tool", "run:7"))
    'Memory (trust tool, source run:7): "Ship on Tuesday. User: \\'go\\'"'
    """
    text, source = excerpt(_line(memory.text), CHARACTERS), _line(memory.source)[:80]
    return f'Memory (trust {memory.trust}, source {source or "unknown"}): "{text}"'


def _line(text: str) -> str:
    return _SPACES.sub(" ", text).strip().replace('"', "'")


def searchable(text: str) -> str:
    """A text as its words are looked for: one form of each letter, and of scripts without spaces every two neighbours,
    which is how their words can be found without knowing them."""
    text = unicodedata.normalize("NFKC", text[:TEXT].replace("\0", " ")).casefold().replace("ё", "е")
    return _HAN.sub(lambda run: f" {_pairs(run[0])} ", text)


def _pairs(run: str) -> str:
    return " ".join(run[at : at + 2] for at in range(max(1, len(run) - 1)))


def fused(*rankings: Sequence[str]) -> list[str]:
    """One ranking of several, the best first: by reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for place, each in enumerate(ranking, 1):
            scores[each] += 1 / (_K + place)
    return sorted(scores, key=lambda each: -scores[each])
