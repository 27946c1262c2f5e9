"""A terminal as people have it: tmux, with keys that are typed and a screen that is looked at."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gateway.conftest import WITHIN, Cli

needs_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None and not os.environ.get("CI"), reason="no tmux here: install it to test the chat in one"
)


class Tmux:
    """One pane with a program in it, on a server of its own in `folder`."""

    def __init__(
        self, folder: Path, cli: Cli, *arguments: str, columns: int = 80, rows: int = 24, **environ: str
    ) -> None:
        self._socket = str(folder / "tmux")
        shown = {**cli.environ, "LANG": "C.UTF-8"}
        shown.pop("COLUMNS", None)  # the pane has its own
        command = ["env", "-i", *(f"{name}={value}" for name, value in shown.items() if name != "TERM")]
        command += ["TERM=screen-256color", "sh", "-c", 'trap : INT; "$@"; echo "exit code $?"; exec sleep 600', "sh"]
        command += [sys.executable, "-m", "gateway.cli", *arguments]
        size = ["-x", str(columns), "-y", str(rows)]
        self._do("-f", "/dev/null", "new-session", "-d", *size, "-c", str(cli.project), *command)

    def _do(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", self._socket, *arguments], text=True, capture_output=True, timeout=WITHIN, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def type(self, text: str) -> None:
        """Type a text, and Enter."""
        self._do("send-keys", "-l", text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._do("send-keys", *keys)

    def resize(self, columns: int) -> None:
        """Make the terminal narrower or wider."""
        self._do("resize-window", "-x", str(columns))

    @property
    def pid(self) -> int:
        """The program's process."""
        shell = self._do("display-message", "-p", "#{pane_pid}").strip()
        return int(subprocess.run(["ps", "-o", "pid=", "--ppid", shell], capture_output=True, check=True).stdout)

    @property
    def screen(self) -> str:
        """All that is shown, and what has scrolled away above it."""
        return self._do("capture-pane", "-p", "-S", "-500")

    def until(self, *texts: str) -> str:
        """Wait for a screen that has all these texts; that screen."""
        give_up = time.monotonic() + WITHIN
        while not all(text in (screen := self.screen) for text in texts):
            assert time.monotonic() < give_up, f"no {texts} came, but:\n{screen}"
            time.sleep(0.03)
        return screen

    def ended(self) -> int:
        """Wait for the program's end; its exit code."""
        return int(self.until("exit code ").rpartition("exit code ")[2])

    def close(self) -> None:
        """Kill what is left."""
        self._do("kill-server")
