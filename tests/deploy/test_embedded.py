"""With real servers and real kills. Every test ends with nothing left running, which the fixture checks."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

import deploy.valkey
from deploy.embedded import embedded, find
from deploy.place import LOG_LIMIT, SOCKET_LIMIT, Place, listener
from schemas.errors import CouldNotStart

ROOT = Path(__file__).parents[2]
USER = """
import sys
from pathlib import Path
from deploy.embedded import embedded
with embedded(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""
VISITOR = """
import sys
from pathlib import Path
import redis
from deploy.embedded import embedded
for _ in range(int(sys.argv[2])):
    with embedded(Path(sys.argv[1])) as url, redis.Redis.from_url(url) as client:
        client.incr("visits")
"""


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.01)


def ask(url: str, *words: str) -> Any:
    # redis types its sync client in part
    with redis.Redis.from_url(url, decode_responses=True) as client:  # pyright: ignore[reportUnknownMemberType]
        return cast("Any", client).execute_command(*words)


def is_over(place: Place) -> bool:
    """No server, no keeper: their locks are free."""
    return not any(place.is_locked(name) for name in ("users", "keeper", "serving", "server"))


def server_of(state_dir: Path) -> int:
    path = Place(state_dir).socket()
    return (path and listener(path)) or 0


def keeper_of(state_dir: Path) -> int:
    """Of a server which its keeper started itself; an adopted one has a stranger for a parent, or none."""
    parent = said_by_ps("ppid", server_of(state_dir)).strip()
    assert "deploy.keeper" in said_by_ps("args", int(parent)), "a stranger must not be killed"
    return int(parent)


def said_by_ps(column: str, pid: int) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def kill(pid: int) -> None:
    assert pid > 1
    os.kill(pid, signal.SIGKILL)


class OtherUser:
    """A user in a process of its own."""

    def __init__(self, state_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", USER, state_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def url(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def leave(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def state_dir(tmp_path: Path) -> Generator[Path]:
    folder = tmp_path / "state"
    yield folder
    if folder.is_dir():
        wait_until(lambda: is_over(Place(folder)))


def test_another_process_finds_the_same_server_and_its_data(state_dir: Path) -> None:
    with embedded(state_dir) as url:
        assert url.startswith("unix:///")
        ask(url, "SET", "greeting", "hello")
        other = OtherUser(state_dir)
        assert other.url() == url
        assert ask(url, "GET", "greeting") == "hello"
        other.leave()
        assert ask(url, "GET", "greeting") == "hello", "it stays for those who are still there"


def test_the_server_never_evicts_opens_no_port_and_can_be_entered_by_its_owner_only(state_dir: Path) -> None:
    with embedded(state_dir) as url:
        assert ask(url, "CONFIG", "GET", "maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert ask(url, "CONFIG", "GET", "port")["port"] == "0"
        path = Place(state_dir).socket()
        assert path
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o077 == 0 for file in (state_dir / "appendonlydir").iterdir())


def test_the_server_stops_when_the_last_user_leaves_and_the_data_is_there_next_time(state_dir: Path) -> None:
    with embedded(state_dir) as url:
        ask(url, "SET", "greeting", "hello")
    wait_until(lambda: is_over(Place(state_dir)))
    assert find(state_dir) is None
    with embedded(state_dir) as url:
        assert ask(url, "GET", "greeting") == "hello"


def test_the_server_stops_when_the_last_user_is_killed(state_dir: Path) -> None:
    other = OtherUser(state_dir)
    assert ask(other.url(), "SET", "greeting", "hello")
    other.kill()
    wait_until(lambda: is_over(Place(state_dir)))
    with embedded(state_dir) as url:
        assert ask(url, "GET", "greeting") == "hello"


def test_after_its_keeper_was_killed_the_server_is_adopted_for_the_next_user(state_dir: Path) -> None:
    first = OtherUser(state_dir)
    url = first.url()
    ask(url, "SET", "greeting", "hello")
    server = server_of(state_dir)
    kill(keeper_of(state_dir))
    first.kill()
    wait_until(lambda: not Place(state_dir).is_locked("keeper"))
    with embedded(state_dir) as again:
        assert again == url
        assert server_of(state_dir) == server, "the same process"
        assert ask(url, "GET", "greeting") == "hello"


def test_after_its_keeper_was_killed_the_server_still_stops_with_the_last_user(state_dir: Path) -> None:
    with embedded(state_dir):
        kill(keeper_of(state_dir))
        wait_until(lambda: not Place(state_dir).is_locked("keeper"))


def test_an_adopted_server_is_restarted_when_it_dies(state_dir: Path) -> None:
    with embedded(state_dir) as url:
        kill(keeper_of(state_dir))
        wait_until(lambda: not Place(state_dir).is_locked("keeper"))
        with embedded(state_dir):
            kill(server_of(state_dir))
        wait_until(lambda: find(state_dir))
        assert ask(url, "PING")


def test_a_killed_server_comes_back_with_what_was_on_disk(state_dir: Path) -> None:
    with embedded(state_dir) as url:
        ask(url, "SET", "greeting", "hello")
        assert ask(url, "WAITAOF", "1", "0", "10000")[0] == 1, "synced, which takes up to a second"
        first = server_of(state_dir)
        kill(first)
        wait_until(lambda: server_of(state_dir) not in (0, first) and find(state_dir) == url)
        assert ask(url, "GET", "greeting") == "hello"


def test_a_server_that_does_not_react_is_killed_in_the_end(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = "import deploy.keeper as k, sys; k.STOP_LIMIT = 0.2; k.main(*sys.argv[1:])"
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -c "{hasty}" "$@"\n')
    shim.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shim))
    with embedded(state_dir):
        server = server_of(state_dir)
        os.kill(server, signal.SIGSTOP)
    wait_until(lambda: is_over(Place(state_dir)))


def test_eight_processes_starting_at_once_get_one_server(state_dir: Path) -> None:
    users = [OtherUser(state_dir) for _ in range(8)]
    urls = {user.url() for user in users}
    assert len(urls) == 1
    for user in users:
        user.leave()
    starts = [line for line in Place(state_dir).printed(0) if "Ready to accept connections" in line]
    assert len(starts) == 1


def test_users_who_come_while_others_leave_always_meet_a_living_server(state_dir: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", VISITOR, str(state_dir), "8"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    visitors = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [visitor.wait() for visitor in visitors] == [0, 0, 0]
    with embedded(state_dir) as url:
        assert ask(url, "GET", "visits") == "24"


def test_whoever_is_killed_in_whatever_order_the_next_user_is_served(state_dir: Path) -> None:
    victims: dict[str, Callable[[OtherUser], None]] = {
        "user": lambda user: user.kill(),
        "keeper": lambda _: kill(keeper_of(state_dir)),
        "server": lambda _: kill(server_of(state_dir)),
    }
    for pair in itertools.permutations(victims, 2):
        user = OtherUser(state_dir)
        assert user.url()
        for victim in pair:
            # Who was to be killed second may have gone with the first.
            with contextlib.suppress(AssertionError, ProcessLookupError, subprocess.CalledProcessError):
                victims[victim](user)
        user.kill()
    with embedded(state_dir) as url:
        assert ask(url, "PING")


def test_a_long_state_folder_works_wherever_temporary_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long " * 30) / "état?#%'\""
    with embedded(folder) as url:
        path = Place(folder).socket()
        assert path
        assert not path.is_relative_to(folder)
        assert len(os.fsencode(path)) <= SOCKET_LIMIT
        assert path.parent.stat().st_mode & 0o777 == 0o700
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with embedded(folder) as again:
            assert again == url
        assert ask(url, "PING")
    wait_until(lambda: is_over(Place(folder)))
    assert not path.parent.exists(), "nothing is left among the temporary files"


def test_odd_characters_in_the_path_reach_the_client(tmp_path: Path) -> None:
    folder = tmp_path / "é ?#%'\""
    with embedded(folder) as url:
        assert ask(url, "PING")
    wait_until(lambda: is_over(Place(folder)))


def test_a_package_of_the_users_own_named_deploy_does_no_harm(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "__init__.py").write_text("raise SystemExit(1)")
    user = subprocess.run(
        [sys.executable, "-P", "-c", USER, state_dir],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    assert user.stdout.startswith(b"unix://")


def test_looking_for_a_server_starts_and_leaves_nothing(state_dir: Path) -> None:
    assert find(state_dir) is None
    assert not state_dir.exists()


def test_an_error_inside_comes_out_as_it_is(state_dir: Path) -> None:
    with pytest.raises(PermissionError, match="mine"), embedded(state_dir):
        raise PermissionError("mine")


def refusal(state_dir: Path, timeout: float = 20) -> CouldNotStart:
    with pytest.raises(CouldNotStart) as caught, embedded(state_dir, timeout):
        pass
    assert caught.value.code == "server.embedded"
    assert "VICTORIA_REDIS_URL" in caught.value.hint
    assert str(state_dir) in caught.value.message
    return caught.value


def test_a_state_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(tmp_path / "file")
    refusal(tmp_path / "file" / "below")


def test_a_server_that_cannot_start_is_explained_at_once_with_its_log(state_dir: Path) -> None:
    (state_dir / "appendonlydir").mkdir(parents=True)
    (state_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    began = time.monotonic()
    error = refusal(state_dir)
    assert time.monotonic() - began < 15
    assert "manifest" in error.message


def test_a_socket_folder_that_others_can_enter_is_refused(state_dir: Path) -> None:
    (state_dir / "run").mkdir(parents=True)
    (state_dir / "run").chmod(0o777)
    place = Place(state_dir)
    (state_dir / "socket").write_text(str(state_dir / "run" / "valkey.sock"))
    assert place.socket() is None, "whoever listens there may be anybody"
    assert "only you" in refusal(state_dir).message


def test_the_log_does_not_grow_for_ever(state_dir: Path) -> None:
    state_dir.mkdir()
    place = Place(state_dir)
    place.log.write_bytes(b"." * (LOG_LIMIT + 1))
    with embedded(state_dir):
        assert place.log_size() < LOG_LIMIT


def test_a_user_waits_for_a_stopping_server_but_not_for_ever(state_dir: Path) -> None:
    state_dir.mkdir()
    stopping = Place(state_dir).lock("users")
    assert "still stopping" in refusal(state_dir, timeout=0.1).message
    os.close(stopping)
    assert is_over(Place(state_dir)), "who failed is not a user"


def test_a_platform_without_a_server_is_explained(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise FileNotFoundError(2, "Unsupported architecture: vax")

    monkeypatch.setattr(deploy.valkey, "server_binary", missing)
    assert "vax" in refusal(state_dir).message
    assert not state_dir.exists()


def test_a_keeper_that_cannot_run_is_explained(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "keeper" in refusal(state_dir).message
