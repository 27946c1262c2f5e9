"""A server of one's own that may be killed: valkey-server that has on disk what it acknowledged."""

import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio

from deploy.valkey import answers, command, server_binary, url_of

START_WITHIN = 30.0


class Server:
    """Keeps its data in `folder`, and listens on a unix socket there. `fsync` is its appendfsync: `always` for one that
    is going to be killed."""

    def __init__(self, folder: Path, fsync: Literal["always", "no"] = "always") -> None:
        self.folder, self.socket, self._fsync = folder, folder / "s", fsync
        self.url = url_of(self.socket)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start on the files that are there; returns when it answers. Raises TimeoutError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "dir": str(self.folder),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time
                [server_binary(), *words], stdout=log, stderr=log
            )
        with anyio.fail_after(START_WITHIN):
            while not answers(self.socket):
                await anyio.sleep(0.01)

    async def kill(self) -> None:
        """SIGKILL: it has no time for anything."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(self._process.wait)

    async def shut_down(self) -> None:
        """SHUTDOWN, as an operator would."""
        if self._process:
            with suppress(OSError):  # it hangs up before it answers
                await anyio.to_thread.run_sync(command, self.socket, "SHUTDOWN NOSAVE NOW FORCE")
            await anyio.to_thread.run_sync(self._process.wait)

    def version(self) -> str:
        """Its name and version."""
        reply = command(self.socket, "INFO server").decode(errors="replace")
        info = {name: value for name, _, value in (line.partition(":") for line in reply.splitlines())}
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version')}"
