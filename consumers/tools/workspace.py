"""A project's folder, and the only way tools reach it: nothing outside its root can be read or listed.

A path is checked twice. First it is resolved as the system would (symlinks followed) and must lie under the root.
Then the resolved path, which has no links left, is opened one component after the other, each relative to the folder
opened before it and never through a link. So a folder swapped for a link after the check is an error, not a way out.
"""

import errno
import os
import re
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from schemas.errors import ToolRefused

Kind = Literal["file", "folder", "symlink", "other"]

SECRETS = (
    *(".git", ".env*", ".ssh", ".gnupg", ".aws", ".kube", ".docker", ".netrc", ".pgpass", ".npmrc", ".pypirc"),
    *(".git-credentials", ".htpasswd", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12"),
    *("*.pfx", "*.jks", "*.keystore", "*.kdbx"),
)
"""Names of files and folders that are not read unless settings say so, in whatever case; * stands for anything."""
_PRIVATE_KEY = re.compile(r"--(?:BEGIN|END) [A-Z0-9 ]*PRIVATE KEY")
"""Where one begins or ends, wherever that stands: programs number lines, name files before them, and cut."""

MAX_BYTES = 256 * 1024
MAX_ENTRIES = 1_000
_SCANNED = 100_000
_LONGEST_PATH = 4_096


@lru_cache  # a workspace is made for every goal, always with the same names
def _any_of(names: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(name.casefold()) for name in names)) if names else None


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that nobody writes to must not wait. O_NOCTTY: nor may a terminal become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Entry(msgspec.Struct, frozen=True):
    """One name in a folder. `size` is in bytes, 0 for all but files. Bytes that are not UTF-8 show as U+FFFD."""

    name: str
    kind: Kind
    size: int


class Listing(msgspec.Struct, frozen=True):
    """A folder's entries by name. `left_out` counts those over the limit (at least: counting is bounded too)."""

    entries: tuple[Entry, ...]
    left_out: int = 0


class Workspace:
    """Access to one project's folder, confined to it. Blocking: call it in a thread.

    What lies under a name of `secrets` is refused, and, if there are any, text that holds a private key. `writable`
    says whether programs may change the folder; here nothing does.

    Every refusal is a ToolRefused: `path.invalid`, `path.parent`, `path.outside`, `path.symlink`, `path.missing`,
    `path.not_folder`, `path.not_file`, `path.device`, `path.too_large`, `path.binary`, `path.denied`, `path.secret`.
    """

    __slots__ = ("_secret", "max_bytes", "max_entries", "root", "writable")

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int = MAX_BYTES,
        max_entries: int = MAX_ENTRIES,
        secrets: Iterable[str] = SECRETS,
        writable: bool = False,
    ) -> None:
        self.root = root.absolute()
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.writable = writable
        self._secret = _any_of(tuple(secrets))

    def is_secret(self, name: str) -> bool:
        """Whether a file or folder of this name is not to be read."""
        return bool(self._secret and self._secret.fullmatch(name.casefold()))

    def read(self, path: str) -> str:
        """The text of a UTF-8 file of at most `max_bytes`, without a byte order mark."""
        if not path.strip():
            raise ToolRefused("path.invalid", "The path of a file is empty.", "Name a file of the project.")
        *folders, name = self._resolved(path) or (".",)
        with self._opened(folders, path) as parent, _explained(path):
            _require(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode, "file", path)
            file = os.open(name, _FILE, dir_fd=parent)
            try:
                _require(os.fstat(file).st_mode, "file", path)
                data = self._bounded(file, path)
            finally:
                os.close(file)
        text = _text(data, path)
        self.require_public(text, path)
        return text

    def require_public(self, text: str, path: str) -> None:
        """See that a text, found at `path`, holds no private key. Raises ToolRefused `path.secret`."""
        if self._secret and _PRIVATE_KEY.search(text):
            raise _secret_refused(path)

    def list(self, path: str = "") -> Listing:
        """What a folder holds, hidden names included, not its subfolders' content. "" and "." are the root."""
        with self._opened(self._resolved(path or "."), path) as folder, _explained(path):
            with os.scandir(folder) as scan:
                names = sorted(entry.name for entry in islice(scan, _SCANNED))
            entries = tuple(_entry(name, folder) for name in names[: self.max_entries])
        return Listing(entries, left_out=len(names) - len(entries))

    def _resolved(self, path: str) -> tuple[str, ...]:
        """The components of `path` under the root, all symlinks followed; () for the root."""
        _check_form(path)
        root = Path(os.path.realpath(self.root))
        asked = root / path  # an absolute path stands for itself
        with _explained(path):  # a link removed between being seen and being followed is an error even here
            real = Path(os.path.realpath(asked))
        if real.is_relative_to(root):
            parts = real.relative_to(root).parts
            named = asked.relative_to(root).parts if asked.is_relative_to(root) else ()
            if any(map(self.is_secret, (*parts, *named))):
                raise _secret_refused(path)
            return parts
        if asked.is_relative_to(root) or asked.is_relative_to(self.root):
            raise _link_refused(path)
        raise ToolRefused(
            "path.outside",
            f"{_shown(path)} is outside the project's folder.",
            "Use a path relative to the project's folder.",
        )

    @contextmanager
    def _opened(self, folders: Sequence[str], path: str) -> Generator[int]:
        """A descriptor of the folder reached from the root by `folders`, of which none may be a link."""
        with _explained(path):
            folder = os.open(os.path.realpath(self.root), _FOLDER)
        try:
            for name in folders:
                with _explained(path):
                    _require(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode, "folder", path)
                    child = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = child
            yield folder
        finally:
            os.close(folder)

    def _bounded(self, file: int, path: str) -> bytes:
        size = os.fstat(file).st_size
        data = bytearray()
        # The size only saves reading for nothing: the file may grow while it is read.
        while size <= self.max_bytes and len(data) <= self.max_bytes:
            piece = os.read(file, self.max_bytes + 1 - len(data))
            if not piece:
                return bytes(data)
            data += piece
        raise ToolRefused(
            "path.too_large",
            f"{_shown(path)} has {max(size, len(data)):,} bytes; {self.max_bytes:,} can be read.",
            "Choose a smaller file.",
        )


def _check_form(path: str) -> None:
    """Refuse what needs no look at the disk."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise ToolRefused("path.invalid", "The path is not valid Unicode.", "Write the path as plain text.") from None
    if "\0" in path:
        raise ToolRefused("path.invalid", "The path holds a NUL character.", "Write the path as plain text.")
    if length > _LONGEST_PATH:
        raise _too_long(path)
    if ".." in path.split("/"):
        raise ToolRefused(
            "path.parent", f"{_shown(path)} has a `..` in it.", "Name the path from the project's folder down."
        )
    if path.startswith("~"):
        raise ToolRefused(
            "path.outside",
            f"{_shown(path)} stands for a home folder, which is outside the project's folder.",
            "Use a path relative to the project's folder; a name that begins with ~ is written ./~name.",
        )


def _require(mode: int, wanted: Literal["file", "folder"], path: str) -> None:
    if stat.S_ISLNK(mode):
        # No link is left in a resolved path: it goes round in a circle, or was put there a moment ago.
        raise _link_refused(path)
    if wanted == "folder" and not stat.S_ISDIR(mode):
        raise _not_folder(path)
    if wanted == "file" and stat.S_ISDIR(mode):
        raise ToolRefused("path.not_file", f"{_shown(path)} is a folder.", "List it, or name a file in it.")
    if wanted == "file" and not stat.S_ISREG(mode):
        raise _device(path)


@contextmanager
def _explained(path: str) -> Generator[None]:
    """The system's errors as refusals."""
    try:
        yield
    except OSError as problem:
        _refuse(problem, path)
    except RecursionError:  # realpath, on hundreds of links in a row
        raise _link_refused(path) from None


def _refuse(problem: OSError, path: str) -> NoReturn:
    match problem.errno:
        case errno.ENOENT:
            refusal = ToolRefused(
                "path.missing", f"{_shown(path)} does not exist.", "List the folder to see its names."
            )
        case errno.ENOTDIR:
            refusal = _not_folder(path)
        case errno.ELOOP | errno.EINVAL:  # EINVAL: a link was seen, and was none any more when it was followed
            refusal = _link_refused(path)
        case errno.ENXIO | errno.ENODEV | errno.EOPNOTSUPP:
            refusal = _device(path)
        case errno.ENAMETOOLONG:
            refusal = _too_long(path)
        case _:
            refusal = ToolRefused(
                "path.denied",
                f"{_shown(path)} can't be opened: {problem.strerror or 'unknown error'}.",
                "Check the permissions of the project's folder.",
            )
    raise refusal from problem


def _secret_refused(path: str) -> ToolRefused:
    return ToolRefused(
        "path.secret",
        f"{_shown(path)} is kept secret.",
        "Do without it. The setting `secret_files` has the names that are.",
    )


def _link_refused(path: str) -> ToolRefused:
    return ToolRefused(
        "path.symlink",
        f"{_shown(path)} goes through a symbolic link that leaves the project's folder, or leads nowhere.",
        "Name the file itself.",
    )


def _not_folder(path: str) -> ToolRefused:
    return ToolRefused("path.not_folder", f"{_shown(path)} is not a folder.", "Read it, or list the folder it is in.")


def _device(path: str) -> ToolRefused:
    return ToolRefused("path.device", f"{_shown(path)} is a device, pipe or socket.", "Only plain files can be read.")


def _too_long(path: str) -> ToolRefused:
    return ToolRefused("path.invalid", f"The path {_shown(path)} is too long.", "Use a shorter path.")


def _shown(path: str) -> str:
    return repr(path if len(path) <= 120 else path[:120] + "…") if path else "The project's folder"


def _text(data: bytes, path: str) -> str:
    if b"\0" not in data:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    raise ToolRefused("path.binary", f"{_shown(path)} is not UTF-8 text.", "Only text files in UTF-8 can be read.")


def _entry(name: str, folder: int) -> Entry:
    shown = os.fsencode(name).decode(errors="replace")
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:  # gone since the folder was scanned
        return Entry(shown, "other", 0)
    if stat.S_ISREG(status.st_mode):
        return Entry(shown, "file", status.st_size)
    if stat.S_ISDIR(status.st_mode):
        return Entry(shown, "folder", 0)
    return Entry(shown, "symlink" if stat.S_ISLNK(status.st_mode) else "other", 0)
