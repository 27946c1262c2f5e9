"""`make run` gives the goal on as it was typed."""

import os
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"
GOALS = ["costs $5 and $(HOME) and $$", "`x` \"y\" 'z' # \\n %", "$(shell touch pwned)", "--json", "Привет 你好"]


@pytest.mark.parametrize("goal", GOALS)
def test_any_goal_arrives_as_it_was_typed(goal: str, tmp_path: Path) -> None:
    victoria = tmp_path / "bin" / "victoria"
    victoria.parent.mkdir()
    victoria.write_text('#!/bin/sh\nprintf "%s" "$3" > "$0.goal"\n')  # a stand-in that notes its third argument
    victoria.chmod(0o755)
    done = tmp_path / ".run"
    done.touch()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GOAL"))}
    make = ["make", "-f", str(MAKEFILE), "-o", str(done), f"VENV={tmp_path}", f"GOAL={goal}", "run"]
    subprocess.run(make, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "bin" / "victoria.goal").read_text() == goal
    assert not (tmp_path / "pwned").exists()
