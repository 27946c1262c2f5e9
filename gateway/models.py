"""`victoria models`: which models there are, where, and how they do."""

from collections.abc import Iterable, Sequence

import msgspec
import typer
from rich.padding import Padding
from rich.table import Table

from consumers.offers import Announcement, stream_of
from deploy.loading import Loaded
from deploy.victoria import Victoria, no_such_model
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.pull import pull
from gateway.screen import OUT, emit, note, styled
from llm.models import Backend, BreakerState, Fault, Offer
from schemas.errors import CouldNotStart, ErrorInfo

STATES: tuple[BreakerState, ...] = ("closed", "half-open", "open")
"""The best comes first: as long as one consumer's breaker is closed, questions are answered."""
NAMES = 30
"""Cells of the longest name that does not take a second line."""

app = typer.Typer(name="models", help="Show which models there are and how they do, or fetch one.")
app.command("pull")(pull)


class Row(msgspec.Struct, frozen=True):
    """One model at one place, by all consumers that offer it; `consumers` is 0 where it was looked up without one.

    `size` is in bytes, `context` in tokens, 0 if unknown. `in_flight` of `slots` is what the consumers work on, with
    all models of that place together. `state` is the best of their breakers, `error` what opened one.
    """

    engine: str
    node: str
    model: str
    size: int
    context: int
    loaded: bool
    capabilities: tuple[str, ...]
    state: BreakerState
    error: ErrorInfo | None
    in_flight: int
    slots: int
    consumers: int


class Silent(msgspec.Struct, frozen=True):
    """A place that does not say what it has, as so many consumers find."""

    engine: str
    node: str
    error: ErrorInfo
    consumers: int


class Listing(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    models: Sequence[Row]
    unreachable: Sequence[Silent]


@app.callback(
    invoke_without_command=True, epilog="Example: victoria models --model ollama; victoria models pull llama3.2:1b"
)
@configured
def models(loaded: Loaded, context: typer.Context, as_json: Json = False) -> None:
    """Show which models there are and how they do, or fetch one.

    Inference consumers say what they offer; back ends without one are looked at directly. --model narrows.

    Exit code 5 if the back end that was named has no place that answers, 3 if the model is nowhere.
    """
    if context.invoked_subcommand is not None:
        return

    async def work(victoria: Victoria) -> Listing:
        async with interruptible(lambda: Interrupted("interrupted", "Interrupted.")):
            return await listing(victoria)

    found = with_victoria(loaded, work)
    if as_json:
        emit(found)
    else:
        _print(found)


async def listing(victoria: Victoria) -> Listing:
    """The models that are wished for, and the places that don't say theirs.

    Raises NotReachable `model.unreachable`, CouldNotStart (`model.missing`, `model.library`, `model.broken`) where a
    model or back end was named that is not there.
    """
    wish, wanted = victoria.engines.wish, await victoria.engines.wanted()
    said = await victoria.board.announcements(fresh=True)
    served = {each.engine for each in said}
    known = [each for each in said if not wish.engine or each.engine in wanted]
    known += [await _looked_up(victoria, engine) for engine in wanted if engine not in served]
    rows, silent = _rows(known), _silent(known)
    if wish.model or wanted == (wish.engine,):
        down = {(each.engine, each.node) for each in silent}
        up = [
            offer.model
            for each in known
            for offer in each.offers
            if offer.state == "closed" or (offer.model.engine, offer.model.node) not in down
        ]
        if not any(map(wish.accepts, up)):
            raise no_such_model(wish, up, [each.error for each in silent])
        named = {model.name for model in up if wish.accepts(model)}
        rows = [row for row in rows if row.model in named]
    return Listing(rows, silent)


async def _looked_up(victoria: Victoria, engine: Backend) -> Announcement:
    """What a consumer of this back end would say. Raises CouldNotStart if it can't be there, and was named."""
    engines = victoria.engines
    try:
        engines.check([engine])
    except CouldNotStart as problem:
        if engines.wish.engine == engine:
            raise
        return Announcement("", engine, faults=(Fault("", problem.info),))
    pool = engines.consumers[engine].pool
    await pool.scan()
    return Announcement("", engine, pool.offers(), pool.faults())


def _rows(known: Iterable[Announcement]) -> list[Row]:
    same: dict[tuple[str, str, str], list[tuple[Offer, bool]]] = {}
    for each in known:
        for offer in each.offers:
            model = offer.model
            same.setdefault((model.engine, model.node, model.name), []).append((offer, bool(each.consumer)))
    return [_row([offer for offer, _ in said], sum(live for _, live in said)) for _, said in sorted(same.items())]


def _row(offers: Sequence[Offer], consumers: int) -> Row:
    model = offers[0].model
    return Row(
        engine=model.engine,
        node=model.node,
        model=model.name,
        size=model.size,
        context=max(offer.model.context for offer in offers),
        loaded=any(offer.model.loaded for offer in offers),
        capabilities=tuple(sorted(model.capabilities)),
        state=next(state for state in STATES if any(offer.state == state for offer in offers)),
        error=next((offer.error for offer in offers if offer.error), None),
        in_flight=sum(offer.in_flight for offer in offers),
        slots=sum(offer.slots for offer in offers),
        consumers=consumers,
    )


def _silent(known: Iterable[Announcement]) -> list[Silent]:
    same: dict[tuple[str, str], list[tuple[ErrorInfo, bool]]] = {}
    for each in known:
        for fault in each.faults:
            same.setdefault((each.engine, fault.node), []).append((fault.error, bool(each.consumer)))
    return [Silent(*place, said[0][0], sum(live for _, live in said)) for place, said in sorted(same.items())]


def _print(found: Listing) -> None:
    """Places, and below each its models; in 80 columns."""
    if not found.models and not found.unreachable:
        note("no models; `victoria doctor` shows what is wanted")
        return
    width = min(NAMES, max([len("model"), *(len(row.model) for row in found.models)]))
    if found.models:
        OUT.print(_line(width, "model", "size", "context", "loaded", "breaker", "can", style="italic"))
    silent = {(each.engine, each.node): each for each in found.unreachable}
    places: dict[tuple[str, str], list[Row]] = {place: [] for place in silent}
    for row in found.models:
        places.setdefault((row.engine, row.node), []).append(row)
    for place, rows in sorted(places.items()):
        problem = silent.get(place)
        _print_place(place, rows, problem)
        for row in rows:
            size, context = _bytes(row.size), f"{row.context:,}" if row.context else "?"
            can = " ".join(row.capabilities)
            OUT.print(_line(width, row.model, size, context, "yes" if row.loaded else "no", row.state, can))
            if row.error and not (problem and row.error == problem.error):
                OUT.print(Padding(styled((row.error.message, "red")), (0, 0, 0, 4), expand=False))


def _print_place(place: tuple[str, str], rows: Sequence[Row], problem: Silent | None) -> None:
    engine, node = place
    consumers = rows[0].consumers if rows else problem.consumers if problem else 0
    facts = [f"{rows[0].in_flight} of {rows[0].slots} in flight"] if rows and consumers else []
    if consumers:
        facts.append(f"{consumers} consumer{'s' if consumers > 1 else ''}")
    else:
        facts.append(f"no consumer (victoria worker {stream_of(engine)})")
    OUT.print(styled((engine, "bold"), (f" at {node}" if node else "", "bold"), " · ", " · ".join(facts)))
    if problem:
        text = styled((problem.error.message, "red"), (f" {problem.error.hint}", "dim"))
        OUT.print(Padding(text, (0, 0, 0, 4), expand=False))


def _line(width: int, name: str, *cells: str, style: str = "") -> Padding:
    """One line of the table; what is too long for its cell goes on below."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width, overflow="fold", style=style)
    for wide in (8, 7, 6, 9):
        table.add_column(width=wide, justify="right" if wide > 6 and wide < 9 else "left", style=style)
    table.add_column(style=style)
    table.add_row(*map(styled, (name, *cells)))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _bytes(size: int) -> str:
    if not size:
        return "?"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
