"""`victoria dead`: dead letters, to be looked at, put back, corrected or dropped."""

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import typer

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.options import Json, configured, with_victoria
from gateway.screen import OUT, answer, emit, line, note, styled
from schemas.envelope import EVENT_BYTES, UNREADABLE, decode
from schemas.errors import InvalidInput
from streams.letters import Letter, Letters, Which
from streams.outcome import DeadLetter
from streams.ranges import EntryId, Range, parse

BATCH = 500
"""Letters that are read and moved at once."""

app = typer.Typer(
    name="dead",
    help="Look at dead letters, and put them back, correct or drop them; `victoria tail audit` shows what was done.",
    no_args_is_help=True,
    epilog="Example: victoria dead redrive --stage plan --code stage.timeout --dry-run",
)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="LETTER...", help="Letters, as `list` names them.", show_default=False)
]
Name = Annotated[str, typer.Argument(metavar="LETTER", help="A letter, as `list` names it.")]
OfStage = Annotated[str, typer.Option("--stage", metavar="STAGE", help="What this stage gave up.")]
OfCode = Annotated[str, typer.Option("--code", metavar="CODE", help="What was given up for this error.")]
OfRun = Annotated[str, typer.Option("--run", metavar="RUN", help="One run's.")]
OfRange = Annotated[
    str, typer.Option("--range", "-r", metavar="RANGE", help="When: -N, ID:ID, @TIME:TIME or @-1h:end.")
]
Every = Annotated[bool, typer.Option("--all", metavar="", help="All letters.")]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do it to all that the filters choose.")]
Force = Annotated[
    bool, typer.Option("--force", metavar="", help="Also where nothing of the run is kept: effects are repeated.")
]


class Row(msgspec.Struct, frozen=True):
    """A letter as people and programs see it."""

    letter: str
    at: datetime
    run: str
    dead: DeadLetter

    @classmethod
    def of(cls, letter: Letter) -> "Row":
        """That of one."""
        at = datetime.fromtimestamp(min(EntryId.of(letter.id).ms, 253_402_300_799_000) / 1000, UTC)
        return cls(letter.name, at, letter.run, letter.letter)


class Done(msgspec.Struct):
    """What became of letters: how many were done, or would be; why others were not; `gone` were done by others."""

    done: int = 0
    gone: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    dry_run: bool = False


@app.command("list")
@configured
def listing(
    loaded: Loaded,
    stage: OfStage = "",
    code: OfCode = "",
    run: OfRun = "",
    span: OfRange = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Letters of a page.")] = 20,
    after: Annotated[str, typer.Option(metavar="LETTER", help="The page after this letter.")] = "",
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first, a page at a time.

    Example: victoria dead list --stage plan --range @-1h:end
    """
    which, wanted = Which(stage, code, run), parse(span) if span else Range()

    async def work(victoria: Victoria) -> list[Row]:
        found: list[Row] = []
        async for letter in letters_of(victoria).among(which, wanted, after):
            found.append(Row.of(letter))
            if len(found) > limit:
                break
        return found

    found = with_victoria(loaded, work)
    page, more = found[:limit], len(found) > limit
    if as_json:
        emit({"letters": page, "next": page[-1].letter if more else None})
        return
    for row in page:
        dead = row.dead
        time, of_run = f"{row.at.astimezone():%d %b %H:%M:%S}", f"  run {row.run}" if row.run else ""
        OUT.print(styled(row.letter, "  ", time, "  ", (dead.stage, "cyan"), (of_run, "dim")), soft_wrap=True)
        what = f"{dead.type or '?'}, attempt {len(dead.history) + 1}: [{dead.error.code}] {dead.error.message}"
        OUT.print("  " + line(what, less=2, console=OUT), soft_wrap=True)
    if more:
        note(f"there are more: --after {page[-1].letter}", "dim")
    elif not page:
        note("no dead letters" + (" like that" if which != Which() or span or after else ""))


@app.command("show")
@configured
def show(loaded: Loaded, name: Name, as_json: Json = False) -> None:
    """Show a letter: what was given up, why, and every failed attempt before.

    Example: victoria dead show 0/1795262400000-0
    """

    async def work(victoria: Victoria) -> tuple[Row, str]:
        of = letters_of(victoria)
        (letter,) = await of.named([name])
        return Row.of(letter), (await of.hindered([letter]))[0]

    row, hindrance = with_victoria(loaded, work)
    if as_json:
        emit(row)
        return
    dead = row.dead
    facts = [("letter", row.letter), ("at", f"{row.at.astimezone():%Y-%m-%d %H:%M:%S}"), ("stage", dead.stage)]
    facts += [("entry", f"{dead.entry} on {dead.stream}"), ("run", row.run), ("type", dead.type)]
    facts += [("error", f"{dead.error.message} [{dead.error.code}]"), ("hint", dead.error.hint)]
    facts += [("digest", dead.digest), ("redrive", hindrance or "possible")]
    for label, text in facts:
        if text:
            OUT.print(styled((f"{label:<8}", "bold"), " ".join(text.split())), soft_wrap=True)
    for each in dead.history:
        when = f"{each.at.astimezone():%d %b %H:%M:%S}"
        OUT.print(styled(("tried   ", "bold"), f"{when}  {each.error.message} [{each.error.code}]"), soft_wrap=True)
    for text in (dead.trace, dead.event):
        if text:
            OUT.print(styled((text, "dim")), soft_wrap=True)


@app.command("redrive")
@configured
def redrive(
    loaded: Loaded,
    names: Names = None,
    stage: OfStage = "",
    code: OfCode = "",
    run: OfRun = "",
    span: OfRange = "",
    every: Every = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Put letters back on the stream they came from, with all that was tried: each once, also if this is killed.

    What is recorded of a run is not done again. A run that has ended stays ended: see `victoria status RUN`.

    Example: victoria dead redrive --stage plan --code stage.timeout --yes
    """
    chosen = _Chosen(names or [], Which(stage, code, run), span, every)
    chosen.require(dry_run=dry_run, yes=yes)

    async def work(victoria: Victoria) -> Done:
        done, letters = Done(dry_run=dry_run), letters_of(victoria)
        async for batch in chosen.batches(letters):
            if force:
                reasons = [letters.misfit(each.letter) for each in batch]
            else:
                reasons = await letters.hindered(batch)
            for reason in filter(None, reasons):
                done.skipped[reason] = done.skipped.get(reason, 0) + 1
            good = [letter for letter, reason in zip(batch, reasons, strict=True) if not reason]
            _count(done, [True for _ in good] if dry_run else await letters.redrive(good))
        return done

    _told(with_victoria(loaded, work), "redriven", as_json)


@app.command("drop")
@configured
def drop(
    loaded: Loaded,
    names: Names = None,
    stage: OfStage = "",
    code: OfCode = "",
    run: OfRun = "",
    span: OfRange = "",
    every: Every = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove letters for good.

    Example: victoria dead drop --range @:-30d --yes
    """
    chosen = _Chosen(names or [], Which(stage, code, run), span, every)
    chosen.require(dry_run=dry_run, yes=yes)

    async def work(victoria: Victoria) -> Done:
        done, letters = Done(dry_run=dry_run), letters_of(victoria)
        async for batch in chosen.batches(letters):
            _count(done, [True for _ in batch] if dry_run else await letters.drop(batch))
        return done

    _told(with_victoria(loaded, work), "dropped", as_json)


@app.command("edit")
@configured
def edit(
    loaded: Loaded,
    name: Name,
    file: Annotated[
        str, typer.Option(metavar="FILE", help="The corrected entry, - for standard input; by default an editor opens.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Correct a letter's entry, as JSON {"type": ..., "event": ...}; then redrive it.

    Example: victoria dead edit 0/1795262400000-0
    """

    async def read(victoria: Victoria) -> Letter:
        return (await letters_of(victoria).named([name]))[0]

    letter = with_victoria(loaded, read)
    text = _given(file) if file else _edited(_document(letter.letter))

    async def write(victoria: Victoria) -> bool:
        letters = letters_of(victoria)
        return await letters.replace(letter, corrected(victoria, letters, letter, text))

    if not with_victoria(loaded, write):
        raise InvalidInput("dead.unknown", f"{name} is gone meanwhile.", "`victoria dead list` names those there are.")
    if as_json:
        emit({"letter": name, "edited": True})
    else:
        answer(f"{name} is corrected, and the newest letter now")
        note("`victoria dead list --range -1` names it, `victoria dead redrive LETTER` puts it back", "dim")


def letters_of(victoria: Victoria) -> Letters:
    """The dead letters, for this process's user."""
    return Letters(victoria.client, victoria.keys, victoria.topology, user())


def user() -> str:
    """Whose process this is, "" where that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def corrected(victoria: Victoria, letters: Letters, letter: Letter, text: str) -> DeadLetter:
    """A letter whose entry is this text. Raises InvalidInput `dead.edit`."""

    def wrong(why: str) -> InvalidInput:
        return InvalidInput("dead.edit", f"That can't be its entry: {why}.", "The letter is as it was; edit it again.")

    try:
        entry = msgspec.json.decode(text, type=_Entry)
        event = bytes(entry.event)
        envelope = decode(entry.type, event)
    except (*UNREADABLE, InvalidInput) as problem:
        raise wrong(str(problem)) from problem
    dead = msgspec.structs.replace(letter.letter, type=entry.type, event=event.decode())
    if why := letters.misfit(dead):
        raise wrong(why)
    if letter.run and envelope.run != letter.run:
        raise wrong(f"it is of run {letter.run}")
    if letter.partition not in (victoria.keys.of_run(envelope.run), *victoria.keys.of_stream("infer.")):
        raise wrong("its run lives in another partition")
    return dead


class _Entry(msgspec.Struct):
    type: str
    event: msgspec.Raw


def _document(dead: DeadLetter) -> str:
    try:
        event: Any = msgspec.json.decode(dead.event)
    except UNREADABLE:
        event = dead.event
    return msgspec.json.format(msgspec.json.encode({"type": dead.type, "event": event})).decode() + "\n"


def _edited(text: str) -> str:
    """A text as somebody left it in their editor. Raises InvalidInput."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        editor = shlex.split(named)
    except ValueError as problem:
        raise _no_editor(named, str(problem)) from problem
    with TemporaryDirectory() as folder:
        file = Path(folder) / "letter.json"
        file.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*editor, str(file)], check=False)  # noqa: S603 - the user's own editor
        except OSError as problem:
            raise _no_editor(named, problem.strerror or "") from problem
        if ended.returncode or (new := _given(str(file))) == text:
            raise InvalidInput("dead.unchanged", "Nothing was saved: the letter is as it was.", "Save to change it.")
    return new


def _given(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(EVENT_BYTES)
        with Path(file).open(encoding="utf-8") as source:
            return source.read(EVENT_BYTES)
    except UnicodeDecodeError as problem:
        raise InvalidInput("dead.edit", f"{file} is no text: {problem}.", "Write JSON in UTF-8.") from problem
    except OSError as problem:
        raise InvalidInput("dead.edit", f"{file} can't be read: {problem.strerror}.", "Name a file.") from problem


def _no_editor(named: str, why: str) -> InvalidInput:
    return InvalidInput("dead.editor", f"The editor {named!r} can't be started: {why}.", "Set EDITOR, or give --file.")


class _Chosen(msgspec.Struct, frozen=True):
    """Letters by name, or by what fits."""

    names: list[str]
    which: Which
    span: str
    every: bool

    def require(self, *, dry_run: bool, yes: bool) -> None:
        """See that it is said which ones, and that many are meant. Raises InvalidInput."""
        filters = self.which != Which() or bool(self.span)
        if bool(self.names) + filters + self.every != 1:
            raise InvalidInput("dead.which", "Say which letters.", "Name them, or give filters, or --all.")
        if not self.names and not yes and not dry_run:
            raise InvalidInput("dead.unconfirmed", "That may be many.", "See with --dry-run, and then say --yes.")

    async def batches(self, letters: Letters) -> AsyncIterator[list[Letter]]:
        """They, some at a time."""
        if self.names:
            yield await letters.named(dict.fromkeys(self.names))
            return
        batch: list[Letter] = []
        async for letter in letters.among(self.which, parse(self.span) if self.span else Range()):
            batch.append(letter)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _count(done: Done, results: Sequence[bool]) -> None:
    done.done += sum(results)
    done.gone += len(results) - sum(results)


def _told(done: Done, word: str, as_json: bool) -> None:
    """Say what became of them. Exits 1 where named ones or all were skipped."""
    if as_json:
        emit(done)
    else:
        answer(f"{done.done:,} {'would be ' if done.dry_run else ''}{word}")
        if done.gone:
            note(f"{done.gone:,} were gone already")
        for reason, count in done.skipped.items():
            note(f"{count:,} left: {' '.join(reason.split())}")
    if done.skipped and not done.done:
        raise typer.Exit(1)
