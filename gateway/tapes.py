"""Where commands get a run's tape: a saved file, the streams, and the archive for what these do not hold any more."""

from pathlib import Path

from consumers.postgres.taped import add_archived
from deploy.database import database_server, opened_database
from deploy.loading import Loaded, load
from deploy.settings import Settings
from deploy.victoria import Victoria
from gateway.options import event_loop, with_victoria
from gateway.screen import note
from schemas.errors import InvalidInput, VictoriaError
from streams.history import History
from streams.tape import Tape

RIGHTS = ("approved_tools", "programs")
"""Settings by which handlers decide, and that let them act: somebody else's file gives none where anything is done."""
PORTABLE = ("max_iterations", "question_timeout", "use_victoria_enhanced", *RIGHTS)
"""Settings that handlers go by and that a saved run brings along: none is a secret or a place on this machine."""


def file_of(what: str) -> Path | None:
    """The file of that name, None where there is none, or can be none: then it may be a run's id."""
    try:
        return file if (file := Path(what)).is_file() else None
    except (OSError, ValueError):  # a name too long, a folder that is closed
        return None


def tape_of(loaded: Loaded, run_id: str) -> Tape:
    """A run's tape, from the streams, and where they do not hold it any more, from the archive. Raises InvalidInput
    `run.unknown`."""

    def history(victoria: Victoria) -> History:
        return History(victoria.client, victoria.keys, victoria.topology)

    async def held(victoria: Victoria) -> Tape:
        return await history(victoria).tape(run_id)

    async def letters_gone(victoria: Victoria) -> tuple[str, ...]:
        return await history(victoria).letters_gone(tape)

    tape = with_victoria(loaded, held)
    if tape.missing and _completed(loaded.settings, tape):
        tape.perhaps = with_victoria(loaded, letters_gone)
    if not tape.entries:
        raise InvalidInput(
            "run.unknown",
            f"There is no run {run_id[:80]!r}, or it is gone: {'; '.join(tape.missing)}.",
            "`victoria tail intake` shows runs.",
        )
    return tape


def _completed(settings: Settings, tape: Tape) -> bool:
    """Add what the archive has of a run, or say why it has nothing. Whether it is whole now."""
    if not (settings.database_url or (settings.state_dir / "postgres").is_dir()):
        tape.missing = (*tape.missing, "the archive: no history was kept here")
        return False

    async def add() -> None:
        async with opened_database(settings, url) as database:
            await add_archived(database, tape)

    held = len(tape.entries)
    try:
        with database_server(settings) as url:
            event_loop(add)
    except VictoriaError as problem:
        tape.missing = (*tape.missing, f"the archive: {problem.message}")
        return False
    if len(tape.entries) == held:
        return False
    tape.missing = ()
    return True


def saved(tape: Tape, settings: Settings, path: Path) -> None:
    """Write a run's file. Raises InvalidInput `tape.unwritable`."""
    usual = Settings()
    given = {key: getattr(settings, key) for key in PORTABLE}
    tape.settings = {key: str(value) for key, value in given.items() if value != getattr(usual, key)}
    try:
        tape.save(path)
    except OSError as problem:
        raise InvalidInput("tape.unwritable", f"{path} can't be written: {problem.strerror}.", "") from problem
    note(f"✓ saved {path} ({path.stat().st_size:,} bytes)")


def as_taped(loaded: Loaded, tape: Tape, *, live: bool) -> Loaded:
    """The settings with those that a saved run brings along, but for what is given here, and `live` for all rights."""
    brought = {key: value for key, value in tape.settings.items() if key in PORTABLE and not (live and key in RIGHTS)}
    if not brought:
        return loaded
    given = {key: getattr(loaded.settings, key) for key, o in loaded.origins.items() if o.startswith("flag ")}
    return load({**brought, **given})
