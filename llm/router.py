"""Which model is asked: a pure choice among offers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from llm.models import BACKENDS, Offer, Wish, full_name
from schemas.advice import INVALID, NO_OTHER, Tried, advice, next_try
from schemas.errors import ModelFailed, NoModelNow
from schemas.inference import ChatMessage

ANY = Wish()
BYTES_PER_TOKEN = 12
"""More than any tokenizer gets into a token of real text: a bound that refuses nothing that would fit."""

UNUSABLE = ("model.broken", "model.missing", "model.library", "model.fetch")
"""What waiting does not mend: a model that can't be loaded as things stand."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a question needs of a model.

    `tokens` is the least context that its prompt and answer can take. `model` is the only one that will do, `prefer`
    one that is to be kept if it can be, `avoid` are those that won't do, and `outgrown` those whose context was too
    small. `prefix` stands for the part of the prompt that many questions share.
    """

    tokens: int = 0
    schema: bool = False
    model: str = ""
    prefer: str = ""
    avoid: frozenset[str] = frozenset()
    outgrown: frozenset[str] = frozenset()
    prefix: str = ""

    @classmethod
    def of(
        cls,
        messages: Sequence[ChatMessage],
        schema: Mapping[str, Any] | None,
        *,
        tried: Sequence[Tried] = (),
        model: str = "",
    ) -> "Needs":
        """The needs of a question that was tried like this already."""
        then = next_try(tried) if tried else None
        invalid = [t.model for t in tried if t.code == INVALID]
        worn = {t.model for t in tried if advice(t.code) == "other model"}
        if len(invalid) > 1:  # the answer and its repair
            worn |= {*invalid[:2]}
        return cls(
            tokens=sum(len(message.content.encode()) for message in messages) // BYTES_PER_TOKEN,
            schema=schema is not None,
            model=model,
            prefer=tried[-1].model if then == "repair" else "",
            avoid=frozenset(worn),
            outgrown=frozenset(t.model for t in tried if advice(t.code) == "larger model"),
            prefix=prefix_of(messages),
        )


def prefix_of(messages: Sequence[ChatMessage]) -> str:
    """A short name for a prompt's system part."""
    return blake2b(messages[0].content.encode(), digest_size=6).hexdigest() if messages else ""


def ranked(
    offers: Collection[Offer],
    needs: Needs,
    wish: Wish = ANY,
    priority: Sequence[str] = (),
    warm: Mapping[str, str] | None = None,
) -> list[Offer]:
    """The offers that will do now, the best first.

    By `priority`, a list of models' names; then larger before smaller; those that can hold an answer to a schema, if
    one is given; loaded ones; the node that read this prefix last (`warm` has nodes by prefix); the least busy one.

    Raises ModelFailed where none ever will (`model.none`, `model.overflow`, `model.no_other`), and NoModelNow where one
    may later (`model.absent`, `model.resting`).
    """
    if wish.engine == "none":
        raise ModelFailed("model.none", "No model is to be used.", "Unset VICTORIA_MODEL to use one.")
    wanted = [offer for offer in offers if wish.accepts(offer.model) and needs.model in ("", offer.model.name)]
    if not wanted:
        where = "No inference consumer offers" if offers else "No inference consumer is at work that offers"
        raise NoModelNow("model.absent", f"{where} {needs.model or wish}.", "`victoria models` shows what there is.")
    others = [offer for offer in wanted if offer.model.name not in needs.avoid]
    if not others:
        raise ModelFailed(NO_OTHER, f"There is no model beside {', '.join(sorted(needs.avoid))}.", "Offer more models.")
    large = _with_room(others, needs)
    awake = [offer for offer in large if offer.state == "closed"]
    if not awake:
        errors = [offer.error for offer in large if offer.error]
        if len(errors) == len(large) and all(error.code in UNUSABLE for error in errors):
            raise ModelFailed(errors[0].code, errors[0].message, errors[0].hint)
        names = ", ".join(dict.fromkeys(_place(offer) for offer in large))
        why = errors[0].message if errors else "it failed"
        raise NoModelNow("model.resting", f"{names} is left alone for a while: {why}", "It is tried again soon.")
    last = len(priority)
    order = {full_name(name): last - place for place, name in enumerate(reversed(priority), 1)}
    nodes = warm or {}

    def rank(offer: Offer) -> tuple[Any, ...]:
        model = offer.model
        return (
            model.name != needs.prefer,
            order.get(full_name(model.name), last),
            -model.size,
            needs.schema and "schema" not in model.capabilities,
            BACKENDS.index(model.engine) if model.engine in BACKENDS else len(BACKENDS),
            not model.loaded,
            nodes.get(needs.prefix) != model.node,
            offer.in_flight / max(1, offer.slots),
            model.node,
        )

    return sorted(awake, key=rank)


def _with_room(offers: list[Offer], needs: Needs) -> list[Offer]:
    outgrown = max((offer.model.context for offer in offers if offer.model.name in needs.outgrown), default=0)
    large = [
        offer
        for offer in offers
        if (not offer.model.context or offer.model.context >= needs.tokens)
        and offer.model.name not in needs.outgrown
        and (not offer.model.context or offer.model.context > outgrown)
    ]
    if not large:
        most = max(offer.model.context for offer in offers)
        raise ModelFailed(
            "model.overflow",
            f"The prompt is longer than the {most:,} tokens of the largest model there is.",
            "Shorten the goal or its inputs, or offer a model with a larger context.",
        )
    return large


def _place(offer: Offer) -> str:
    return offer.model.name + (f" at {offer.model.node}" if offer.model.node else "")
