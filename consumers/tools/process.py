"""A program with bounds on all it takes: time, processors, memory, processes, files, and what it says.

What it says is bounded while it is read. It is ended, with all it started, at the first bound it meets, and when
whoever waits for it is cancelled.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Literal

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process

from consumers.tools import supervisor
from consumers.tools.allowed import Limits

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - in the sandbox that is its own
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
"""All that a program gets of an environment."""
_LET_GO = 10.0
"""Seconds in which what was ended must be gone."""

Bound = Literal["seconds", "output", "processes", "memory", "disk", "root"]
_SAID: Mapping[int, Bound] = {
    -supervisor.TOO_MANY: "processes",
    -supervisor.TOO_MUCH: "memory",
    -supervisor.TOO_FULL: "disk",
    -supervisor.POWERLESS: "root",
}


class Ended(msgspec.Struct, frozen=True):
    """What a program said on both its outputs, and how it ended: by `code`, or at a bound; `root` is explained where
    that is refused. A code above 128 is mostly a signal's number behind 128."""

    output: bytes
    code: int
    bound: Bound | None = None


async def run(argv: Sequence[str], limits: Limits, folder: Path, *, starts_others: bool) -> Ended:
    """Run `argv`, whose first is a path, in `folder`, without input. Raises OSError if that can't be.

    Of a program that `starts_others` these count too.
    """
    order = msgspec.json.encode({"starts_others": starts_others, **_numbers(limits)}).decode()
    process = await anyio.open_process(
        # -I and -S: nothing of the project, of the user or of the environment is imported.
        [sys.executable, "-I", "-S", supervisor.__file__, order, *argv],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=folder,
        env=dict(ENVIRONMENT),
        start_new_session=True,
    )
    said = bytearray()
    bound: Bound | None = "seconds"
    try:
        with anyio.move_on_after(limits.seconds):
            if whole := await _read(_output(process), said, limits.output):
                await process.wait()
            bound = None if whole else "output"
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    code = process.returncode or 0
    return Ended(bytes(said[: limits.output]), code, bound or _SAID.get(code))


def _numbers(limits: Limits) -> dict[str, float]:
    return {name: getattr(limits, name) for name in ("seconds", "memory", "disk", "file", "files", "processes")}


def _output(process: Process) -> ByteReceiveStream:
    assert process.stdout  # noqa: S101 - it was asked for
    return process.stdout


async def _read(stream: ByteReceiveStream, said: bytearray, most: int) -> bool:
    """Read into `said`; False as soon as that is more than `most`."""
    while len(said) <= most:
        try:
            said += await stream.receive(most + 1 - len(said))
        except anyio.EndOfStream:
            return True
    return False


async def _end(process: Process) -> None:
    """See it gone, with all that it started: the last who holds its output has let go."""
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_LET_GO):
            await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(_LET_GO), suppress(anyio.BrokenResourceError, anyio.EndOfStream):
        while True:
            await _output(process).receive()
    await process.aclose()
