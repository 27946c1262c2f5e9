"""What load is put on: doors and workers as processes of their own, on a server of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Started:
    """A process, and the rest of the first line it said after `ready`."""

    process: "subprocess.Popen[str]"
    said: str

    @property
    def memory(self) -> int:
        """Bytes of RAM it has now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    @property
    def seconds(self) -> float:
        """Seconds of processor time it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@dataclass
class Yard:
    """Starts doors and workers on one server; `log` has what they say."""

    url: str
    log: Path
    prefix: str = "load"
    leaving: ExitStack = field(default_factory=ExitStack)

    def door(self, port: int = 0) -> Started:
        """`victoria serve --alone`; `said` is its URL."""
        return self._start("gateway.cli", "serve", "--alone", "--port", str(port))

    def worker(self, pace: float = 0.0) -> Started:
        """All stages with a scripted model, which says a word each `pace` seconds. It leaves the processor to others,
        as if it ran elsewhere: the door is what is measured."""
        worker = self._start("tests.load.worker", self.url, self.prefix, str(pace))
        os.setpriority(os.PRIO_PROCESS, worker.process.pid, 10)
        return worker

    def _start(self, *module: str) -> Started:
        own = {"VICTORIA_REDIS_URL": self.url, "VICTORIA_PREFIX": self.prefix, "VICTORIA_MODEL": "none"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VICTORIA_")}
        with self.log.open("a") as log, ExitStack() as undo:
            process = subprocess.Popen(
                [sys.executable, "-m", *module], cwd=ROOT, env=kept | own, text=True, stdout=log, stderr=subprocess.PIPE
            )
            started = Started(process, "")
            undo.callback(started.kill)
            assert process.stderr
            for line in process.stderr:
                log.write(line)
                if found := re.match(r"ready:? ?(http://[^;\s]+)?", line):
                    started.said = found[1] or ""
                    break
            else:
                raise RuntimeError(f"{module[0]} did not come up: see {self.log}")
            undo.pop_all()
        self.leaving.callback(started.kill)
        return started


@contextmanager
def yard(url: str, folder: Path) -> Generator[Yard]:
    """What is started here ends with it."""
    made = Yard(url, folder / "log")
    with made.leaving:
        yield made
