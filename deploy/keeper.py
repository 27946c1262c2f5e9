"""The process that keeps an embedded server running while it has users. `deploy.embedded` starts it, and says why.

Run as `python -m deploy.keeper <state folder> <number of the open keeper.lock> <which server>`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from deploy.place import Place, listener
from deploy.postgres import POSTGRES
from deploy.program import Program
from deploy.valkey import VALKEY

STOP_LIMIT = 15.0
"""Seconds a server may take to stop before it is killed."""
SHORT_LIFE = 1.0
"""Seconds; a server that ends sooner is started again with growing delays, up to `LONGEST_DELAY`."""
LONGEST_DELAY = 5.0
FAILED = "the server ended at once"
"""What the log says of a server with a short life, for users who wait for it."""

PROGRAMS = {program.name: program for program in (VALKEY, POSTGRES)}


class Supervisor:
    """Starts the server whenever none lives, in a thread, until told to stop. Waits without using any processor time.

    The server itself holds server.lock, inherited, so to wait for the lock is to wait for the server's end, also of
    one that an earlier keeper left behind. Two servers at once, on the same files, are impossible.
    """

    def __init__(self, place: Place, program: Program) -> None:
        self._place, self._program = place, program
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin; an already living server is adopted."""
        self._thread.start()

    def stop(self) -> None:
        """End the server, and come back when it is gone; one that does not want to go is killed."""
        with self._starting:  # so that either it is started and will be told, or it never is
            self._stopping.set()
        deadline = time.monotonic() + STOP_LIMIT
        while self._thread.is_alive():
            with contextlib.suppress(OSError):
                if path := self._place.socket():
                    if time.monotonic() > deadline and (pid := listener(path)):
                        os.kill(pid, signal.SIGKILL)
                    self._program.stop(path)
            if self._process and time.monotonic() > deadline:
                self._process.kill()
            self._thread.join(0.05)

    def _run(self) -> None:
        delay = 0.1
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                ended = self._live()
            except OSError as error:
                ended = str(error)
            if self._stopping.is_set():
                continue
            if time.monotonic() - began < SHORT_LIFE:
                _say(f"{FAILED}: {ended}")
                self._stopping.wait(delay)
                delay = min(2 * delay, LONGEST_DELAY)
            else:
                _say(f"the server ended: {ended}")
                delay = 0.1

    def _live(self) -> str:
        """Wait until no server lives, then start one and wait for its end, which is returned as text."""
        lock = self._place.lock("server")
        try:
            with self._starting:
                if self._stopping.is_set():
                    return ""
                path = self._place.new_socket(self._program.socket)
                self._process = subprocess.Popen(  # noqa: S603 - our own binary and words
                    self._program.command(path),
                    cwd=self._place.folder,  # where it keeps its data
                    stdin=subprocess.DEVNULL,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)  # from here on only the server holds it
        return f"exit code {self._process.wait()}"


def keep(place: Place, program: Program, keeper_lock: int) -> None:
    """Keep a server running until it has no user left. `keeper_lock` came open and locked from the starting user."""
    os.set_inheritable(keeper_lock, False)
    serving = place.lock("serving")
    supervisor = Supervisor(place, program)
    supervisor.start()
    place.lock("users")  # until the last user is gone; then newcomers wait until this process is
    os.close(serving)
    supervisor.stop()
    _tidy(place)


def _tidy(place: Place) -> None:
    with contextlib.suppress(OSError):
        if path := place.socket():
            (place.folder / "socket").unlink()
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk
        os.write(2, f"keeper {os.getpid()} {datetime.now(UTC):%d %b %Y %H:%M:%S} {line}\n".encode())


def main(folder: str, keeper_lock: str, program: str) -> None:
    """Leave the user who started this alone, and keep."""
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.chdir(folder)
    keep(Place(Path(folder)), PROGRAMS[program], int(keeper_lock))


if __name__ == "__main__":
    main(*sys.argv[1:])
