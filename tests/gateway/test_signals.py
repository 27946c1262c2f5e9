"""Ctrl-C and SIGTERM at any moment: a prompt end, the right code, nothing lost."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from deploy.embedded import embedded, find
from tests.gateway.conftest import Call, Cli, server_of

PROMPT = 5.0
"""Seconds that count as prompt, on a busy machine too."""


@pytest.fixture
def frozen(cli: Cli) -> None:
    """A worker of `plan` that holds its lease for long and does nothing: runs don't get beyond it."""
    worker = cli.start("worker", "plan", "--set", "lease=600")
    worker.until("ready")
    worker.process.send_signal(signal.SIGSTOP)


@pytest.mark.usefixtures("frozen")
def test_ctrl_c_leaves_a_run_says_how_to_look_at_it_and_another_run_starts_at_once(cli: Cli, call: Call) -> None:
    running = cli.start("run", "Read docs/beta.txt")
    running.until("✓ understand")
    began = time.monotonic()
    code, said = running.end(signal.SIGINT)
    assert time.monotonic() - began < PROMPT
    assert code == 130
    found = re.search(
        r"^Interrupted; run (\w+) is kept\. \[interrupted\]\nhint  `victoria status \1` shows it", said, re.MULTILINE
    )
    assert found, said
    assert call("status", found[1]).out.split()[1] in ("queued", "running")
    # It gave its leases up: nobody has to wait for them to end.
    assert "understand: 0 workers" in call("doctor").out


def test_ctrl_c_while_all_is_being_loaded_is_silent(cli: Cli) -> None:
    running = cli.start("run", "Read docs/beta.txt")
    time.sleep(0.2)
    code, said = running.end(signal.SIGINT)
    assert code in (130, -signal.SIGINT)  # the latter before Python itself is there
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "number"), [(["up"], signal.SIGINT), (["worker", "plan", "aggregate"], signal.SIGTERM)]
)
def test_workers_stop_cleanly(cli: Cli, command: list[str], number: signal.Signals) -> None:
    running = cli.start(*command)
    running.until("ready")
    began = time.monotonic()
    code, said = running.end(number)
    assert time.monotonic() - began < PROMPT
    assert code == 0
    assert said.splitlines()[-1].startswith("stopped: ")


@pytest.mark.heavy
def test_a_server_that_vanishes_in_mid_run_is_exit_code_5(cli: Cli, tmp_path: Path) -> None:
    with embedded(tmp_path):
        url = find(tmp_path) or ""
        worker = cli.start("worker", "plan", "--redis-url", url, "--set", "lease=600")
        worker.until("ready")
        worker.process.send_signal(signal.SIGSTOP)
        running = cli.start("run", "Read docs/beta.txt", "--redis-url", url)
        running.until("✓ understand")
        worker.process.kill()
    # The last user of the server is gone, and with it the server.
    code, said = running.ended()
    assert code == 5
    assert "[server.unreachable]" in said
    assert "The run is kept there: `victoria status " in said


def test_a_server_that_is_back_in_a_moment_is_no_reason_to_give_up(cli: Cli, tmp_path: Path) -> None:
    with embedded(tmp_path), server_of(tmp_path) as client:
        worker = cli.start("worker", "plan", VICTORIA_STATE_DIR=str(tmp_path))
        worker.until("ready")
        worker.process.send_signal(signal.SIGSTOP)
        running = cli.start("run", "Read docs/beta.txt", VICTORIA_STATE_DIR=str(tmp_path))
        running.until("✓ understand")
        time.sleep(1.1)  # the server writes its log once a second
        os.kill(client.info()["process_id"], signal.SIGKILL)
        worker.process.send_signal(signal.SIGCONT)
        code, said = running.ended()
    assert code == 0, said
    assert "This is beta.txt." in said


DEAF = """\
from typing import ClassVar

from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan


class Deaf(Strategy):
    name: ClassVar[str] = "deaf"
    description: ClassVar[str] = "goes round and round for ever"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        print("round and round", flush=True)
        while True:
            pass
"""


def test_the_second_signal_ends_what_does_not_hear_the_first(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    command = ("run", "--strategy", "deaf", "What is a stream?")
    running = cli.start(*command, VICTORIA_STRATEGIES_DIR=str(tmp_path), VICTORIA_MODEL="none")
    running.until("round and round")
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.7)  # in which it should have heard
    assert running.process.poll() is None
    began = time.monotonic()
    code, said = running.end(signal.SIGTERM)
    assert time.monotonic() - began < PROMPT
    assert code == 128 + signal.SIGTERM
    assert "It does not listen" in said
