"""`victoria migrate`, and what stands on its tables, from the command line."""

import asyncio
import json
import signal
from typing import Any

import asyncpg
import pytest

from consumers.postgres.migrate import shipped
from tests.gateway.conftest import Call, Cli

NAMES = [migration.name for migration in shipped()]


pytestmark = pytest.mark.usefixtures("kept_database")


def ask(url: str, statement: str) -> Any:
    async def do() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(do())


def states(call: Call, *options: str, **environ: str) -> list[tuple[str, str]]:
    done = call("migrate", "--json", *options, **environ)
    assert done.code == 0, done.out
    return [(each["name"], each["state"]) for each in json.loads(done.out)["migrations"]]


def test_tables_are_made_once_and_a_dry_run_makes_none(call: Call) -> None:
    pending, applied = ([(name, state) for name in NAMES] for state in ("pending", "applied"))
    mine = {"VICTORIA_PREFIX": "once"}
    assert states(call, "--status", **mine) == pending
    assert states(call, "--dry-run", **mine) == applied
    assert states(call, "--status", **mine) == pending
    assert states(call, **mine) == applied
    assert states(call, **mine) == []
    assert states(call, "--status", **mine) == applied
    assert "Nothing to do" in call("migrate", **mine).out
    assert NAMES[0] in call("migrate", "--status", **mine).out


def test_tables_of_a_newer_version_are_told(call: Call, kept_database: str) -> None:
    mine = {"VICTORIA_PREFIX": "newer"}
    states(call, **mine)
    ask(kept_database, "INSERT INTO newer.migrations VALUES ('9999_future', 'x')")
    told = call("migrate", **mine).out
    assert "A newer version of Victoria has applied 9999_future." in told
    assert "Nothing to do" not in told
    assert "1 of a newer version" in call("doctor", **mine).out


def test_a_database_that_is_away_is_named_without_its_password(call: Call) -> None:
    done = call("migrate", "--json", DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x")
    assert done.code == 5
    assert json.loads(done.out)["error"]["code"] == "database.unreachable"
    assert "secret" not in done.out + done.err


@pytest.mark.parametrize("url", ["mysql://u:secret@h/x", "h/x"])
def test_what_is_no_url_of_a_database_is_bad_input(call: Call, url: str) -> None:
    done = call("migrate", "--json", DATABASE_URL=url)
    assert (done.code, json.loads(done.out)["error"]["code"]) == (2, "settings.invalid")
    assert "secret" not in done.out + done.err


def test_a_migration_that_was_changed_after_it_was_applied_stops_with_its_name(call: Call, kept_database: str) -> None:
    mine = {"VICTORIA_PREFIX": "changed"}
    states(call, **mine)
    ask(kept_database, f"UPDATE changed.migrations SET checksum = 'x' WHERE name = '{NAMES[0]}'")
    done = call("migrate", "--json", **mine)
    assert (done.code, json.loads(done.out)["error"]["code"]) == (3, "migration.changed")
    assert NAMES[0] in done.out


def test_notes_move_to_the_database_where_they_are_looked_for_once_it_is_set(call: Call, kept_database: str) -> None:
    assert call("run", "make a note that the key is under the mat").code == 0
    set_ = {"DATABASE_URL": kept_database}
    search = ("run", "show my notes")
    refused = call("migrate", "--records", "--json")
    assert json.loads(refused.out)["error"]["code"] == "records.nowhere"
    done = call("migrate", "--records", "--json", **set_)
    assert (done.code, json.loads(done.out)["records"]) == (0, {"records": 1, "unreadable": 0})
    assert "under the mat" in call(*search, **set_).out
    assert "under the mat" not in call(*search).out


def test_a_worker_projects_runs_and_stops_when_told(cli: Cli, kept_database: str) -> None:
    projector = cli.start("worker", "project", VICTORIA_PREFIX="projected")
    projector.until("ready")
    assert cli("run", "List the files in the folder docs", VICTORIA_PREFIX="projected").code == 0
    while not ask(kept_database, "SELECT count(*) FROM projected.answers WHERE output LIKE '%alpha.txt%'"):
        assert projector.process.poll() is None
    code, text = projector.end(signal.SIGTERM)
    assert (code, "stopped: project" in text) == (0, True)


def test_a_projector_is_a_process_of_its_own(call: Call) -> None:
    done = call("worker", "project", "plan")
    assert (done.code, "stage.alone" in done.err) == (2, True)
