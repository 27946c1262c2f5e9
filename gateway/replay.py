"""`victoria replay`: a run is folded again from its journal, and compared with what was recorded."""

import re
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import msgspec
import typer

from deploy.loading import Loaded
from deploy.projects import Projects
from deploy.victoria import Victoria
from deploy.wiring import still_topology
from gateway.complain import Interrupted
from gateway.diff import diff
from gateway.interrupt import interruptible
from gateway.options import Json, configured, event_loop, with_victoria
from gateway.screen import OUT, emit, note, styled
from gateway.tapes import as_taped, file_of, saved, tape_of
from gateway.whatif import WhatIf, what_if
from llm import prompts
from schemas.errors import InvalidInput
from streams.history import History
from streams.ranges import parse
from streams.replay import Difference, Verdict
from streams.replay import replay as folded
from streams.replays import Summary, replay_all
from streams.tape import Tape
from streams.topology import Topology

TELL_EVERY = 2.0
"""Seconds between lines about how far a long replay is."""


@configured
def replay(
    loaded: Loaded,
    policies: list[str],
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or a file that --save has written.")] = "",
    every: Annotated[bool, typer.Option("--all", metavar="", help="All runs that have ended.")] = False,
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Of --all those that began since then: 1h, 2026-11-21T10:00.  [default: 1h]",
            show_default=False,
        ),
    ] = "",
    stage: Annotated[str, typer.Option(metavar="STAGE", help="One stage's part only.")] = "",
    entries: Annotated[
        str, typer.Option("--range", metavar="RANGE", help="Of --stage these entries: ID:ID, -100, @-1h:end.")
    ] = "",
    live: Annotated[
        bool, typer.Option("--live", metavar="", help="Ask models anew, in a place of its own; so does --model.")
    ] = False,
    prompt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask by this prompt in place of the one of its name.")
    ] = None,
    allow_effects: Annotated[
        bool, typer.Option("--allow-effects", metavar="", help="Let a live replay act outside.")
    ] = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the run into a file.")] = None,
    as_json: Json = False,
) -> None:
    """Fold a run again from its journal, without any model, and compare all that comes of it with what is recorded.

    Production is only read. The first difference is shown, and the exit code is then 4. With --live, another --model
    or another policy of a stage (--set plan.timeout=5), the run is done anew in a place of its own, and what is
    different then is shown.

    Example: victoria replay 019ab2c3d4e5f60718293a4b5c6d7e8f
    """
    live = live or bool(policies) or loaded.origins.get("model", "").startswith("flag")
    ways = [bool(what), every, bool(stage)]
    if sum(ways) != 1 or bool(entries) != bool(stage) or (live and not what):
        raise InvalidInput(
            "replay.which", "Say what to replay: RUN or FILE, or --all, or --stage with --range.", "See --help."
        )
    for said, option, needs in (
        (since and not every, "--since", "--all"),
        (save and not what, "--save", "a RUN"),
        (allow_effects and not live, "--allow-effects", "--live"),
    ):
        if said:
            raise InvalidInput("replay.usage", f"{option} is for {needs}.", "See --help.")
    with _prompted(prompt):
        if every:
            _tell_all(_all(loaded, _moment(since or "1h"), as_json=as_json), as_json)
            return
        if stage:
            _tell_all(_stage(loaded, stage, entries, as_json=as_json), as_json)
            return
        file = file_of(what)
        own = file is None
        tape = Tape.load(file) if file else tape_of(loaded, what)
        if save:
            saved(tape, as_taped(loaded, tape, live=False).settings, save)
        loaded = as_taped(loaded, tape, live=live)
        if live:
            _tell_what_if(what_if(loaded, tape, policies, allow_effects=allow_effects, own=own), as_json)
            return
        topology = _still(loaded)
        verdict = event_loop(lambda: folded(tape, topology))
    if as_json:
        emit(verdict)
    else:
        show(verdict)
    _end([verdict])


@contextmanager
def _prompted(file: Path | None) -> Generator[None]:
    with ExitStack() as inside:
        if file:
            try:
                inside.enter_context(prompts.replaced(file.stem, file.read_text(encoding="utf-8")))
            except (OSError, ValueError) as problem:
                hint = f"It is named as the prompt it replaces: {', '.join(prompts.names())}."
                raise InvalidInput("prompt.malformed", f"{file} is no prompt: {problem}", hint) from problem
        yield


def _all(loaded: Loaded, since: datetime, *, as_json: bool) -> Summary:
    async def work(victoria: Victoria) -> Summary:
        history = History(victoria.client, victoria.keys, victoria.topology)
        return await _many(history, loaded, int(since.timestamp() * 1000), as_json=as_json)

    return with_victoria(loaded, work)


def _stage(loaded: Loaded, stage: str, entries: str, *, as_json: bool) -> Summary:
    wanted = parse(entries)

    async def work(victoria: Victoria) -> Summary:
        victoria.require_stages([stage])
        reads, history = (
            victoria.topology.stage(stage).reads,
            History(victoria.client, victoria.keys, victoria.topology),
        )
        if reads.startswith("infer."):
            raise InvalidInput("stage.is_model", "A model has no replay: it says something else each time.", "--live.")
        runs = await history.within(reads, wanted)
        return await _many(history, loaded, await history.began(runs), stage, runs, as_json=as_json)

    return with_victoria(loaded, work)


async def _many(
    history: History,
    loaded: Loaded,
    since: int,
    stage: str = "",
    runs: dict[str, set[str]] | None = None,
    *,
    as_json: bool,
) -> Summary:
    told = monotonic()

    def tell(summary: Summary) -> None:
        nonlocal told
        if not as_json and monotonic() - told > TELL_EVERY:
            told = monotonic()
            note(f"· {summary.runs:,} runs, {summary.different:,} different", "dim")

    async with interruptible(lambda: Interrupted("interrupted", "Interrupted; nothing was changed.")):
        return await replay_all(history, _still(loaded), since, tell, stage, runs)


def _still(loaded: Loaded) -> Topology:
    return still_topology(loaded.settings, Projects.from_settings(loaded.settings, loaded.root))


def _moment(text: str) -> datetime:
    """A time as a range has it behind its @, or how long ago: 1h. Raises InvalidInput `replay.since`."""
    said = text.strip().removeprefix("@")
    try:
        found = parse(f"@-{said}" if re.fullmatch(r"(\d+[a-z])+", said, re.ASCII) else f"@{said}")
        moment = datetime.fromtimestamp(found.first.ms / 1000, UTC) if found.open else None
    except (InvalidInput, ValueError, OverflowError, OSError) as problem:
        raise _no_time(text) from problem
    if moment is None:
        raise _no_time(text)
    return moment


def _no_time(text: str) -> InvalidInput:
    return InvalidInput("replay.since", f"{text[:80]!r} is no time.", "Write 1h, 2d or 2026-11-21T10:00.")


def _tell_all(summary: Summary, as_json: bool) -> None:
    if as_json:
        emit(summary)
    else:
        for verdict in summary.first:
            show(verdict)
            OUT.print()
        for each in summary.missing:
            OUT.print(styled(("? missing ", "yellow"), each), soft_wrap=True)
        rate = f" ({summary.events / summary.seconds:,.0f}/s)" if summary.seconds else ""
        mark = "✗" if summary.different else "?" if summary.incomplete or summary.missing else "✓"
        OUT.print(
            f"{mark} {summary.runs:,} runs: {summary.identical:,} identical, {summary.different:,} different, "
            f"{summary.incomplete:,} incomplete; {summary.events:,} events in {summary.seconds:.2f} s{rate}"
        )
    if summary.different:
        raise typer.Exit(4)
    if summary.incomplete or summary.missing:
        raise typer.Exit(1)


def show(verdict: Verdict) -> None:
    """Print what came of one replay."""
    facts = (
        f"{verdict.events} events, {verdict.outputs} outputs, {verdict.asks} answers of models, {verdict.calls} calls"
    )
    where = f"run {verdict.run}"
    for each in verdict.missing:
        OUT.print(styled(("? missing ", "yellow"), each))
    for each in verdict.open:
        OUT.print(styled(("· not handled ", "dim"), each))
    if found := verdict.difference:
        show_difference(found)
    mark = {
        "identical": ("✓ identical", "green"),
        "different": ("✗ different", "red"),
        "incomplete": ("? incomplete", "yellow"),
    }
    state = "" if verdict.ended else "; it has not ended"
    OUT.print(styled(mark[verdict.verdict], f"  {where}: {facts}; no model was asked{state}"), soft_wrap=True)


def show_difference(found: Difference) -> None:
    """Print where a replay differs, as a diff."""
    OUT.print(styled((found.stage, "cyan"), f"  {found.type} {found.event}"), soft_wrap=True)
    OUT.print(styled(("@ ", "bold"), found.field), soft_wrap=True)
    if found.note:
        OUT.print(styled((found.note, "dim")), soft_wrap=True)
    for text in diff(_text(found.recorded), _text(found.replayed)):
        OUT.print(text, soft_wrap=True)


def _text(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines() or [""]
    return msgspec.json.format(msgspec.json.encode(value)).decode().splitlines()


def _tell_what_if(found: WhatIf, as_json: bool) -> None:
    if as_json:
        emit(found)
    else:
        found.print()
    if found.different:
        raise typer.Exit(4)


def _end(verdicts: Sequence[Verdict]) -> None:
    if any(verdict.verdict == "different" for verdict in verdicts):
        raise typer.Exit(4)
    if any(verdict.verdict == "incomplete" for verdict in verdicts):
        raise typer.Exit(1)
