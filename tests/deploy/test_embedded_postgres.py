"""The embedded PostgreSQL, with real kills; what holds for any embedded server is in test_embedded.py."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.embedded import embedded, find
from deploy.place import Place, listener
from deploy.postgres import POSTGRES
from schemas.errors import CouldNotStart
from tests.deploy.test_embedded import ROOT, is_over, keeper_of, kill, wait_until

USER = """
import sys
from pathlib import Path
from deploy.embedded import embedded
from deploy.postgres import POSTGRES
with embedded(Path(sys.argv[1]), program=POSTGRES) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def ask(url: str, *statements: str) -> Any:
    async def do() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(do())


def server_of(state_dir: Path) -> int:
    path = Place(state_dir).socket()
    return (path and listener(path)) or 0


def another_user(state_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USER, state_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def url_of(user: "subprocess.Popen[str]") -> str:
    assert user.stdout
    return user.stdout.readline().strip()


@pytest.fixture
def state_dir(tmp_path: Path) -> Generator[Path]:
    folder = tmp_path / 'state, "of" mine'
    yield folder
    if folder.is_dir():
        wait_until(lambda: is_over(Place(folder)))


def test_another_process_finds_the_same_server_and_its_data_outlive_both(state_dir: Path) -> None:
    with embedded(state_dir, program=POSTGRES) as url:
        ask(url, "CREATE TABLE greetings AS SELECT 'hello' AS text")
        other = another_user(state_dir)
        assert url_of(other) == url == find(state_dir, POSTGRES)
        other.communicate()
        assert ask(url, "SELECT text FROM greetings") == "hello", "it stays for those who are still there"
    wait_until(lambda: is_over(Place(state_dir)))
    assert find(state_dir, POSTGRES) is None
    with embedded(state_dir, program=POSTGRES) as url:
        assert ask(url, "SELECT text FROM greetings") == "hello"


def test_it_opens_no_port_can_be_entered_by_its_owner_only_and_logs_nothing_people_wrote(state_dir: Path) -> None:
    with embedded(state_dir, program=POSTGRES) as url:
        assert ask(url, "SHOW listen_addresses") == ""
        path = Place(state_dir).socket()
        assert path
        assert path.parent.stat().st_mode & 0o777 == (state_dir / "data").stat().st_mode & 0o777 == 0o700
        with pytest.raises(asyncpg.PostgresError):
            ask(url, "CREATE TABLE t (word text UNIQUE)", "INSERT INTO t VALUES ('confidential'), ('confidential')")
    assert "confidential" not in Place(state_dir).log.read_text()


def test_whoever_is_killed_in_whatever_order_what_was_committed_is_there(state_dir: Path) -> None:
    user = another_user(state_dir)
    ask(url_of(user), "CREATE TABLE kills (number int)")
    for number, victims in enumerate(
        (("server", "user"), ("keeper", "user"), ("user", "server"), ("keeper", "server"))
    ):
        ask(url_of(user) if number else find(state_dir, POSTGRES) or "", f"INSERT INTO kills VALUES ({number})")
        for victim in victims:
            match victim:
                case "user":
                    user.kill()
                case "keeper":
                    kill(keeper_of(state_dir))
                case _:
                    if pid := server_of(state_dir):  # it may have gone with its user
                        kill(pid)
        user.kill()
        user.communicate()
        user = another_user(state_dir)
    assert ask(url_of(user), "SELECT sum(number) FROM kills") == 6
    user.communicate()


def test_one_that_was_killed_while_its_data_were_made_makes_them_anew(state_dir: Path) -> None:
    (state_dir / "data.new").mkdir(parents=True)
    (state_dir / "data.new" / "PG_VERSION").write_text("half")
    with embedded(state_dir, program=POSTGRES) as url:
        assert ask(url, "SELECT 1") == 1
    wait_until(lambda: is_over(Place(state_dir)))
    # The number of a dead server, which is now somebody else's.
    (state_dir / "data" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{state_dir / 'data'}\n1\n5432\n\n\n0 0\nready\n"
    )
    with embedded(state_dir, program=POSTGRES) as url:
        assert ask(url, "SELECT 1") == 1


def test_data_it_can_not_read_are_explained_with_its_log(state_dir: Path) -> None:
    (state_dir / "data").mkdir(parents=True)
    (state_dir / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(CouldNotStart) as caught, embedded(state_dir, program=POSTGRES):
        pass
    assert caught.value.code == "database.embedded"
    assert caught.value.exit_code == 3
    assert "DATABASE_URL" in caught.value.hint
