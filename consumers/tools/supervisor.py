"""Runs one program with limits, and ends with it: `supervisor.py ORDER PROGRAM ARGUMENT...`, ORDER as JSON.

It is a process of its own: limits can't safely be set between fork and exec of a process with threads, and one with
an event loop looks too seldom. It ends the program when it is told to (SIGTERM) and when its parent has died.

The system does not hold root to a number of processes, nor anybody to memory of many together. So of a program that
may start others it counts them, as root with the priority of real time: those that are counted never hold it up.
What it finds it says by the signal it dies of, so that every exit code is the program's.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress

TOO_MANY, TOO_MUCH, TOO_FULL, POWERLESS = signal.SIGUSR1, signal.SIGUSR2, signal.SIGPROF, signal.SIGALRM
"""More processes, more memory, or more of the disk than allowed; or, as root, no means to hold anybody to that."""

_HEARD = {signal.SIGCHLD, signal.SIGTERM}
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LET_GO = 100
"""Times 50 ms in which what is killed must be gone."""


def main() -> None:
    """Run the program, watch it, and pass its exit code on."""
    order, program, parent, root = json.loads(sys.argv[1]), sys.argv[2:], os.getppid(), os.geteuid() == 0
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    counted = bool(order["starts_others"])
    if counted and root:
        try:
            _real_time(0)
        except OSError:
            _die_of(POWERLESS)
    enough = _free() - order["disk"]
    child = os.fork()
    if child == 0:
        _become(program, order)
    every = 0.05 if not counted else 0.005 if root else 0.02
    while True:
        heard = signal.sigtimedwait(_HEARD, every)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            sys.exit(_code(status))
        if (heard and heard.si_signo == signal.SIGTERM) or os.getppid() != parent:
            _end(child)
            sys.exit(1)
        found = _exceeded(child, order["processes"], order["memory"]) if counted else None
        if counted and not found and _free() < enough:
            found = TOO_FULL
        if found:
            _end(child)
            _die_of(found)


def _become(program: list[str], order: dict[str, float]) -> None:
    """Be the program, with its limits, and behind all others."""
    for kind, value in (
        ("CORE", 0),
        ("CPU", int(order["seconds"]) + 1),
        ("FSIZE", int(order["file"])),
        ("NOFILE", int(order["files"])),
        ("NPROC", _tasks() + int(order["processes"])),
        ("AS", int(order["memory"])),
    ):
        number = getattr(resource, f"RLIMIT_{kind}", None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))
    os.nice(10)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.execve(program[0], program, dict(os.environ))  # noqa: S606 - that there is no shell is the point
    except OSError as problem:
        print(f"{program[0]} can't be started: {problem.strerror}", flush=True)
        os._exit(127)


def _tasks() -> int:
    """How many tasks the user has already: the system counts all of them against the limit."""
    found = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208 - a light start
        with suppress(OSError):  # gone since
            status = os.stat(f"/proc/{name}/task") if name.isdecimal() else None  # noqa: PTH116
            if status and status.st_uid == os.getuid():
                found += status.st_nlink - 2
    return found


def _free() -> int:
    """What is free on the disk of the program's folder. Others write there too, so only much of it means something."""
    disk = os.statvfs(".")
    return disk.f_bavail * disk.f_frsize


def _exceeded(pid: int, tasks: float, memory: float) -> signal.Signals | None:
    """What a process and all below it exceed together. Without /proc nothing is known."""
    count, pages, left = 0, 0, [pid]
    while left:
        each = left.pop()
        threads, children = _family(each)
        count += threads
        left += children
        if count > tasks:
            return TOO_MANY
        with suppress(OSError, IndexError), open(f"/proc/{each}/statm", "rb") as file:  # noqa: PTH123
            pages += int(file.read().split()[1])
    return TOO_MUCH if pages * _PAGE > memory else None


def _family(pid: int) -> tuple[int, list[int]]:
    """How many threads a process has, and its children."""
    threads, children = 0, list[int]()
    with suppress(OSError):  # it ends while it is looked at
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            threads += 1
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:  # noqa: PTH123
                children += map(int, file.read().split())
    return threads, children


def _end(child: int) -> None:
    """End the program with all that it started.

    In a sandbox that is the first process of its own numbering: with it the system ends all others, and lets none
    begin. It must not wait behind them for a processor. Its watcher outside then collects it, and ends.
    """
    for pid in _family(child)[1] or [child]:
        with suppress(OSError):
            _real_time(pid)
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for _ in range(_LET_GO):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _real_time(pid: int) -> None:
    os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _die_of(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
