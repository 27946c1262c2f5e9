"""Everything measured runs as a process of its own and prints its figures as one line of JSON: ours, and the peers'.

Peers live in virtual environments of their own under .bench/, made from `peers/<peer>/requirements.txt`.
"""

import json
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".bench"
UV = Path(sys.executable).parent / "uv"
WITHIN = 300.0
"""Seconds a program may take."""

TOLD = ("hops_per_s", "per_s", "p50_ms", "runs_per_s")
"""Which figures are shown while the measurement goes on."""

Figures = dict[str, Any]


def victoria(*arguments: str | int) -> Figures:
    """A command of ours with --json."""
    return _figures("Victoria", [sys.executable, "-m", "gateway.cli", *map(str, arguments), "--json"])


def draft(url: str, events: int, batch: int) -> Figures:
    """The draft's loop."""
    return _figures("draft", [sys.executable, "-m", "tests.bench.draft", url, str(events), str(batch)])


def drain(peer: str, url: str, count: int) -> Figures:
    """A peer's no-op jobs: `per_s`, and `how` it was set up."""
    return _figures(peer, [environment(peer), PEERS / peer / "drain.py", url, str(count)])


def runs(peer: str, kind: str, count: int, in_flight: int) -> Figures:
    """A peer's runs of five steps: `p50_ms`, `runs_per_s`, and `how` it was set up."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [environment(peer), PEERS / peer / "run.py", kind, folder, str(count), str(in_flight)]
        return _figures(f"{peer}, {kind}", command, folder)


def version(peer: str, package: str) -> str:
    """The version of a package in a peer's environment."""
    for line in (PEERS / peer / "requirements.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2].split()[0]
    raise LookupError(f"{package} is not in the requirements of {peer}")


def environment(peer: str) -> Path:
    """The Python of a peer's environment, which is made where it is missing or has other requirements."""
    requirements = PEERS / peer / "requirements.txt"
    folder = ENVIRONMENTS / f"{peer}-{sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"· installing {peer}", file=sys.stderr)
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([UV, "pip", "install", "--quiet", "--python", python, "-r", requirements], check=True)
        complete.touch()
    return python


def _figures(name: str, command: list[str | Path], runtime: str = "") -> Figures:
    foreign = ("VICTORIA_", "MAKE", "MFLAGS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    if runtime:
        environ["XDG_RUNTIME_DIR"] = runtime
    done = subprocess.run(
        command, cwd=ROOT, env=environ, text=True, timeout=WITHIN, check=False,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    said = ", ".join(f"{what} {value:,.4g}" for what, value in figures.items() if what in TOLD)
    print(f"· {name}: {said}", file=sys.stderr, flush=True)
    return figures
