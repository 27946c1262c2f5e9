"""Where an embedded server lives: the lock files, the log and the socket of one state folder.

Locks are flock locks. The kernel holds one as long as any process has the opened file, so a lock dies with its
holders, however they die; and a lock that a child process inherits is held from the child's first to last instant.
The folder has to be on a local disk.
"""

import contextlib
import errno
import hashlib
import os
import socket
import stat
import struct
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

SOCKET_LIMIT = 100
"""Bytes: the system's limit for a socket's path is 104 on macOS, 108 on Linux."""
LOG_LIMIT = 1_000_000
"""Bytes of log beyond which a new keeper starts a new file; one old one is kept."""


class Place(NamedTuple):
    """One state folder, an absolute path. All methods raise OSError when the folder can't be used."""

    folder: Path

    @property
    def log(self) -> Path:
        """What the server and its keeper print."""
        return self.folder / "server.log"

    def lock(self, name: str) -> int:
        """Wait for `<name>.lock` and hold it exclusively: the open file that does, to be closed with os.close."""
        opened = self._locked(name, shared=False, wait=True)
        assert opened is not None  # noqa: S101 - it waited
        return opened

    def try_lock(self, name: str, *, shared: bool = False) -> int | None:
        """The same without waiting; None if somebody else holds it."""
        return self._locked(name, shared=shared, wait=False)

    def is_locked(self, name: str) -> bool:
        """Whether somebody holds `<name>.lock` exclusively. Looks with a shared lock, so lookers don't meet."""
        opened = self.try_lock(name, shared=True)
        if opened is not None:
            os.close(opened)
        return opened is None

    def _locked(self, name: str, *, shared: bool, wait: bool) -> int | None:
        import fcntl  # not on Windows, where importing this module should still be possible

        opened = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(opened, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(opened)
            return None
        except BaseException:
            os.close(opened)
            raise
        return opened

    def socket(self) -> Path | None:
        """Where the last server started here listens. None without one, or if others could have put it there."""
        try:
            path = Path(os.fsdecode((self.folder / "socket").read_bytes()))
            return path if _is_private(path.parent) else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def new_socket(self, name: str) -> Path:
        """Choose and remember where the next server listens: a file in a folder that only this user can enter.

        Remembered, because TMPDIR may differ in the next process. Call it only while no server lives here.
        """
        short = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        candidates = (self.folder / "run", Path(tempfile.gettempdir(), f"victoria-{short}"))
        for parent in candidates:
            path = parent / name
            if len(os.fsencode(path)) > SOCKET_LIMIT or "," in str(path):  # Postgres takes lists, separated by commas
                continue
            with contextlib.suppress(FileExistsError):
                parent.mkdir(0o700)
            if not _is_private(parent):
                raise PermissionError(errno.EPERM, "It has to be a folder that only you can enter", str(parent))
            written = self.folder / "socket.new"
            written.write_bytes(os.fsencode(path))
            written.replace(self.folder / "socket")
            return path
        raise OSError(errno.ENAMETOOLONG, "Its path does not do for a unix socket", str(candidates[-1]))

    def printed(self, start: int) -> list[str]:
        """The lines of the log from byte `start` on, at most the last 64 KiB of them."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(start if start <= size else 0, size - 65_536))  # shorter: it was begun anew
                return log.read().decode(errors="replace").splitlines()
        except OSError:
            return []

    def log_size(self) -> int:
        """Bytes of log so far."""
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def rotate_log(self) -> None:
        """Begin a new log if this one is long. For who holds the keeper's lock."""
        if self.log_size() > LOG_LIMIT:
            self.log.replace(self.folder / "server.log.1")


def listener(path: Path) -> int | None:
    """The id of the process that listens on the socket, as the kernel knows it. None if there is none to be seen."""
    try:
        with connected(path, 1.0) as connection:
            if sys.platform == "darwin":
                peer = connection.getsockopt(0, 2, 4)  # SOL_LOCAL, LOCAL_PEERPID
            else:
                peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4)
    except OSError:
        return None
    pid: int = struct.unpack("i", peer)[0]
    return pid if pid > 1 else None


def connected(path: Path, timeout: float) -> socket.socket:
    """A connection to who listens there, with a time limit for all it does. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _is_private(folder: Path) -> bool:
    """Whether only this user can enter: a real folder, ours, mode 0700. Once so, nobody else can change it."""
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
