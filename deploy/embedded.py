"""The embedded servers, Valkey or PostgreSQL: one per state folder, there while anybody uses it, and then gone.

Three kinds of process take part. A *user* is any process inside `embedded()`. The *keeper* (`deploy.keeper`) starts
the server, restarts it when it dies, and stops it when no user is left. The *server* is the program itself. Four
locks in the state folder say who lives; the kernel releases them however a process ends (see `deploy.place`):

| lock | held by | means |
|---|---|---|
| users | each user, shared; a stopping keeper, exclusively | the server is needed |
| keeper | the keeper, inherited from the user who started it | there is a keeper; never two |
| serving | the keeper, until it begins to stop | it will not let the server go |
| server | the server, inherited from the keeper | there is a server; never two on the same files |

Why any process may be killed at any line:

- A user first locks `users`. While it holds that, no keeper can begin to stop, and one that had begun is over: it
  holds `users` exclusively until its own end.
- The user goes on only when `serving` is taken and the server answers. A keeper gives up `serving` after it has got
  `users` and before it stops anything, so a keeper seen serving by a holder of `users` stays. If it was killed half
  way through stopping, `serving` is free as well, and the newcomer waits on.
- While it waits, the user starts a keeper whenever `keeper` is free: after a clean stop, after a kill, or because
  another user was killed between locking `keeper` and starting one. As the lock passes to the keeper by inheritance,
  two users can't start two, and no moment exists in which a started keeper does not hold it.
- A killed keeper leaves the server running with its `server` lock. The next keeper waits for that lock, which is to
  adopt the server; it starts another only once the lock is free. A user who leaves looks after that too: if no keeper
  is there, it starts one, which then stops the server.
- A killed server frees `server`, once the last process it had started is gone, and the keeper starts it again. What was
  written to Valkey more than a second ago is on disk, and what was committed in PostgreSQL.
- Shared requests for `users` pass while the keeper's exclusive one waits: flock has no queue. So the keeper may wait
  long, but only while there are users.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from deploy.keeper import FAILED
from deploy.place import Place
from deploy.program import Program
from deploy.valkey import VALKEY
from schemas.errors import CouldNotStart

POLL = 0.015
"""Seconds between looks while waiting for the server."""
TRIES = 3
"""A server that ended at once this often will not do better while the user waits."""
LOG_LINES = 8
"""How many lines of the server's log an error shows."""


@contextmanager
def embedded(state_dir: Path, timeout: float = 20, program: Program = VALKEY) -> Generator[str]:
    """The URL of the server of `state_dir`, by default a Valkey (`unix:///path`), which runs at least as long as the
    context.

    Blocks up to `timeout` seconds: enter it before an event loop runs. Processes forked inside keep the server as
    well. Raises CouldNotStart with the program's code, `server.embedded`.
    """
    place = _place(state_dir)
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as leaving:
        with _explained(place, program):
            program.binary()
            place.folder.mkdir(0o700, parents=True, exist_ok=True)
            leaving.callback(os.close, _become_user(place, deadline))
            url = _reach(place, program, deadline)
        leaving.callback(_leave_a_keeper, place, program)
        yield url


def find(state_dir: Path, program: Program = VALKEY) -> str | None:
    """The URL of the server that answers for `state_dir` now, without becoming its user."""
    path = _socket(state_dir)
    return program.url(path) if path and program.answers(path) else None


def address(state_dir: Path, program: Program = VALKEY) -> str | None:
    """The URL of the server that was started last for `state_dir`, whether or not it answers; None where it was ended.
    Quick enough to be asked each time."""
    path = _socket(state_dir)
    return program.url(path) if path else None


def _socket(state_dir: Path) -> Path | None:
    try:
        return _place(state_dir).socket()
    except OSError:
        return None


def _place(state_dir: Path) -> Place:
    return Place(Path(os.path.abspath(state_dir)))  # noqa: PTH100 - resolve() follows links, to a maybe longer path


def _become_user(place: Place, deadline: float) -> int:
    while (user := place.try_lock("users", shared=True)) is None:
        _pause(deadline, "an earlier one is still stopping")
    return user


def _reach(place: Place, program: Program, deadline: float) -> str:
    """As a user: see to it that there is a keeper, and wait for the server's answer."""
    start = place.log_size()
    while True:
        _start_keeper(place, program, deadline - time.monotonic())
        if place.is_locked("serving") and (url := find(place.folder, program)):
            return url
        if sum(FAILED in line for line in place.printed(start)) >= TRIES:
            raise TimeoutError("it ended as soon as it was started")
        _pause(deadline, "it did not answer in time")


def _pause(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(problem)
    time.sleep(POLL)


def _start_keeper(place: Place, program: Program, timeout: float) -> None:
    """Start a keeper unless there is one. It inherits the lock, so it holds it from its first instant."""
    lock = place.try_lock("keeper")
    if lock is None:
        return
    try:
        place.rotate_log()
        with place.log.open("ab") as log:
            started = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", "deploy.keeper", place.folder, str(lock), program.name],
                cwd=Path(__file__).parent.parent,  # the user's folder may have a package `deploy` of its own
                pass_fds=(lock,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=max(timeout, 0.1),
                check=False,
            )
        if started.returncode > 0:  # below 0 it was killed, the lock is free again, and who waits tries again
            started.check_returncode()
    finally:
        os.close(lock)  # which does not unlock it for the keeper


def _leave_a_keeper(place: Place, program: Program) -> None:
    """Without one, if it was killed, the server would stay for ever."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _start_keeper(place, program, timeout=10)


@contextmanager
def _explained(place: Place, program: Program) -> Generator[None]:
    start = place.log_size()
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        match error:
            case OSError(strerror=str(text)) if text:
                problem = f"{text}: {error.filename}" if error.filename else text
            case subprocess.SubprocessError():
                problem = "its keeper could not be started"
            case _:
                problem = str(error)
        lines = place.printed(start)[-LOG_LINES:]
        log = "\n  ".join([" Its log ends with:", *lines]) + "\n" if lines else ""
        raise CouldNotStart(
            program.code,
            f"The embedded server could not be started in {place.folder}: {problem}.{log}",
            program.hint,
        ) from error
