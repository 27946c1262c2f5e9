"""`make run` gives the goal on as it was typed."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "goal", ["costs $5 and $(HOME) and $$", "`x` \"y\" 'z' # \\n %", "$(shell touch pwned)", "--json", "Привет 你好"]
)
def test_any_goal_arrives_as_it_was_typed(goal: str, tmp_path: Path) -> None:
    victoria = tmp_path / "bin" / "victoria"
    victoria.parent.mkdir()
    victoria.write_text('#!/bin/sh\nprintf "%s" "$3" > "$0.goal"\n')  # a stand-in that notes its third argument
    victoria.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GOAL"))}
    command = [
        "make",
        "-f",
        str(ROOT / "Makefile"),
        "-o",
        f"{tmp_path}/.run",
        f"VENV={tmp_path}",
        f"GOAL={goal}",
        "run",
    ]
    (tmp_path / ".run").touch()
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True, timeout=30)
    assert (tmp_path / "bin" / "victoria.goal").read_text() == goal
    assert not (tmp_path / "pwned").exists()
