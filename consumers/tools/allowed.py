"""What settings say to the tools: programs, hosts, addresses, how much of anything, and where the user's clocks are."""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

from consumers.tools.programs import BOUNDED


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a program may take. `seconds` is its time, by the clock and of a processor; sizes are bytes.

    `memory` holds for one process and for all together, `file` for each file it writes, `disk` for all of them,
    `output` for what it says; `processes` counts threads too.
    """

    seconds: float = 60
    memory: int = 1 << 30
    file: int = 64 << 20
    disk: int = 2 << 30
    output: int = 64 << 10
    processes: int = 128
    files: int = 256


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that ssh_run may reach; an empty `user` is the one who runs Victoria."""

    name: str
    port: int = 22
    user: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What tools may use beside their project's folder. `approved` names tools that act without being asked for.

    An empty `search` is no address, an `ssh_key` of None is the keys of the user's agent. `sandbox` is the path of
    bubblewrap; None looks for it, "" does without. `zone` is the user's time zone.
    """

    programs: tuple[str, ...] = tuple(BOUNDED)
    sandbox: str | None = None
    limits: Limits = Limits()
    hosts: tuple[Host, ...] = ()
    ssh_key: Path | None = None
    known_hosts: Path = Path("~/.ssh/known_hosts")
    search: str = ""
    approved: frozenset[str] = frozenset()
    zone: tzinfo = UTC
