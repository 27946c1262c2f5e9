"""The command line as people use it: processes in a small project folder, on an embedded server of their module."""

import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import structlog
from anyio.from_thread import start_blocking_portal
from redis import Redis

from deploy.database import database_server
from deploy.embedded import embedded, find
from deploy.settings import Settings
from gateway.cli import main
from tests.llm.fake_ollama import FakeOllama, fake_ollama

WITHIN = 30.0
"""Seconds in which anything has to happen."""


class Done(NamedTuple):
    """What a command printed and its exit code."""

    out: str
    err: str
    code: int

    def json(self) -> Any:
        """Standard output, which has to be exactly one line of JSON."""
        (line,) = self.out.splitlines()
        return json.loads(line)


class Running:
    """A command at work; its lines are read as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with suppress(ValueError):  # it was closed
            for line in self.process.stdout:
                self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def until(self, text: str) -> str:
        """Wait for the next line that has `text`; that line."""
        give_up = time.monotonic() + WITHIN
        while True:
            try:
                line = self._new.get(timeout=max(give_up - time.monotonic(), 0))
            except queue.Empty:
                line = None
            assert line is not None, f"no {text!r} came, but: {self.lines}"
            self.lines.append(line)
            if text in line:
                return line

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code, and all that was printed."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; the exit code, and all that was printed."""
        code = self.process.wait(timeout=WITHIN)
        self._reader.join(timeout=WITHIN)
        while line := self._new.get(timeout=WITHIN):
            self.lines.append(line)
        return code, "\n".join(self.lines)


def server_of(state: Path) -> Any:
    """A client of the embedded server that runs on a state folder."""
    return cast("Any", Redis).from_url(find(state) or "")


class Cli:
    """Runs `victoria` in one project folder with one server."""

    def __init__(self, project: Path, state: Path) -> None:
        self.project = project
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VICTORIA_")}
        for name in ("NO_COLOR", "FORCE_COLOR", "MAIN_PROJECT", "ALLOWED_PROJECTS", "DATABASE_URL"):
            kept.pop(name, None)
        self.environ = kept | {
            "VICTORIA_STATE_DIR": str(state),
            "VICTORIA_MODEL": "none",
            "VICTORIA_LEASE": "1",
            "VICTORIA_ANSWER_CACHE": "0",
            "VICTORIA_HISTORY": "false",  # each would make a database of its own, which takes two seconds
            "COLUMNS": "80",
        }
        self.running: list[Running] = []

    def __call__(self, *arguments: str, stdin: str | bytes = "", **environ: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments],
            cwd=self.project,
            env=self.environ | environ,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=WITHIN,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return Done(done.stdout.decode(), done.stderr.decode(), done.returncode)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL, **environ: str) -> Running:
        """Start a command that goes on; both its outputs in one."""
        return self.start_program([sys.executable, "-m", "gateway.cli", *arguments], stdin, **environ)

    def start_program(self, command: list[str], stdin: int = subprocess.DEVNULL, **environ: str) -> Running:
        """The same of any program."""
        process = subprocess.Popen(
            command,
            cwd=self.project,
            env=self.environ | environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(Running(process))
        return self.running[-1]

    def on_terminal(self, *arguments: str, **environ: str) -> str:
        """Run a command to its good end on a terminal; all it has shown there."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "gateway.cli", *arguments]
        shown = {**self.environ, "TERM": "xterm-256color", **environ}
        with subprocess.Popen(command, cwd=self.project, env=shown, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            text = b""
            try:
                while chunk := os.read(ours, 65536):
                    text += chunk
            except OSError:  # the terminal's other end is gone
                pass
            os.close(ours)
            assert process.wait(timeout=WITHIN) == 0, text.decode()
        return text.decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line of a module."""
    project = tmp_path_factory.mktemp("home") / "project"
    (project / "docs").mkdir(parents=True)
    (project / "victoria.toml").touch()
    for name in ("alpha.txt", "beta.txt", "gamma.txt"):
        (project / "docs" / name).write_text(f"This is {name}.\n")
    state = tmp_path_factory.mktemp("state")
    with embedded(state):
        yield Cli(project, state)


@pytest.fixture
def cli(shared: Cli) -> Iterator[Cli]:
    """The command line; what a test starts and leaves ends with it."""
    yield shared
    for running in shared.running:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout
        running.process.stdout.close()
        assert "Traceback" not in "\n".join(running.lines)
    shared.running.clear()


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    """A fake Ollama, beside the command line that runs in this thread."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_ollama()) as fake:
        yield fake


@pytest.fixture
def without_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra `mlx` were not installed."""

    def found(name: str) -> object:
        return None if name == "mlx_lm" else find_spec(name)

    monkeypatch.setattr("deploy.engines.find_spec", found)


Call = Callable[..., Done]


@pytest.fixture
def call(cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """The command line in this process, for what does not depend on having one's own: that takes a second to start."""
    monkeypatch.chdir(cli.project)
    for name in ("NO_COLOR", "FORCE_COLOR", "MAIN_PROJECT", "ALLOWED_PROJECTS", "DATABASE_URL", "VICTORIA_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cli.environ.items():
        monkeypatch.setenv(name, value)

    def called(*arguments: str, **environ: str) -> Done:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["victoria", *arguments])
            for name, value in environ.items():
                patched.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                Context().run(main)  # of the test's own, in which an event loop may count as running
        out, err = capfd.readouterr()
        assert isinstance(end.value.code, int)
        return Done(out, err, end.value.code)

    yield called
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def kept_database(shared: Cli) -> Iterator[str]:
    """The embedded database of the command line, kept running for the module."""
    with database_server(Settings(state_dir=Path(shared.environ["VICTORIA_STATE_DIR"]))) as url:
        yield url
