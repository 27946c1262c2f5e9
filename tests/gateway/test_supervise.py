"""`victoria up --processes`: one process each, started again when it dies, and none left behind."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.gateway.conftest import WITHIN, Call, Cli, Running

STAGES = {
    *("understand", "plan", "step-execute", "delegate", "aggregate", "memory-compress", "remember"),
    *("hypothesis-validation", "clock"),
}


def ready(running: Running, stages: set[str]) -> dict[str, int]:
    """Wait until these stages are; their process ids."""
    found: dict[str, int] = {}
    while found.keys() < stages:
        line = running.until("ready: ")
        said = re.match(r"ready: (\S+) \(process (\d+)\)", line)
        assert said
        found[said[1]] = int(said[2])
    return found


def gone(pid: int) -> bool:
    """Whether a process is there no more; a zombie that nobody buries here counts as gone."""
    give_up = time.monotonic() + WITHIN
    while time.monotonic() < give_up:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").exists() and ") Z" in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_a_killed_stage_is_started_again_the_work_goes_on_and_all_end_together(cli: Cli, call: Call) -> None:
    up = cli.start("up", "--processes", "--set", "grace=5")
    first = ready(up, STAGES)
    os.kill(first["plan"], signal.SIGKILL)
    up.until("plan was killed (SIGKILL); starting it again in 0.5 s")
    again = ready(up, {"plan"})
    assert again["plan"] != first["plan"]
    assert call("publish", "--wait", "Read docs/beta.txt").out.endswith("completed\nThis is beta.txt.\n")

    code, said = up.end(signal.SIGTERM)
    assert code == 0
    assert said.endswith("all stopped")
    for stage in STAGES:
        assert f"stopped: {stage}" in said
    assert all(gone(pid) for pid in {**first, **again}.values())


@pytest.mark.heavy
def test_a_stage_that_cannot_start_is_named_tried_again_and_keeps_nobody_else(cli: Cli) -> None:
    up = cli.start("up", "--processes", VICTORIA_MODEL="auto", VICTORIA_LOCAL_MODEL="/nowhere.gguf")
    awaited, seen = {"again in 0.5 s", "again in 1 s", "ready: plan", "ready: aggregate"}, set[str]()
    while not awaited <= seen:
        line = up.until("")
        seen |= {words for words in awaited if words in line}
    said = "\n".join(up.lines)
    assert "error No model can be read at /nowhere.gguf" in said
    assert "infer.local could not start (exit code 3, its reason is above); starting it again in 0.5 s" in said
    assert up.end(signal.SIGTERM)[0] == 0


def test_a_stage_sees_by_itself_that_its_supervisor_was_killed(cli: Cli) -> None:
    command = f"{sys.executable} -m gateway.cli worker plan --parent=$$ & wait"
    supervisor = cli.start_program(["bash", "-c", command])
    (stage,) = ready(supervisor, {"plan"}).values()
    supervisor.process.kill()
    supervisor.until("stopped: plan")
    assert gone(stage)
