"""The sandbox: bubblewrap, in which a program sees the system's programs and one project's folder, and nothing else.

It has no network, no processes but its own, no capabilities and no way to get any, an empty /tmp of its own, and all
else it sees is read-only; the project's folder too, unless that may be written to. What the workspace calls secret is
covered, and so are sockets: through one it could talk to servers outside. It ends with the process that started it,
and all that it started ends with it.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused

MAX_ENTRIES, MAX_COVERED = 200_000, 500
"""How many names in a project's folder are looked at for what to cover, and how many may be covered."""
TMP_BYTES = 64 << 20
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store", "/gnu/store")
_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_OWN = ("/proc", "/dev", "/tmp")  # noqa: S108 - inside the sandbox
_BASE = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL", "--die-with-parent", "--new-session"),
    *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
)


def wrapped(bwrap: str, program: Path, arguments: Sequence[str], workspace: Workspace) -> list[str]:
    """The command that runs a program in the sandbox, in the workspace's folder. Blocking.

    Raises ToolRefused `sandbox.folder` or `sandbox.too_large`.
    """
    root = os.path.realpath(workspace.root)
    if any(Path(own).is_relative_to(root) for own in (*_SYSTEM, *_FILES, *_OWN)):
        raise ToolRefused("sandbox.folder", f"The folder {root} holds the system.", "Work in a folder of its own.")
    bind = "--bind" if workspace.writable else "--ro-bind"
    covers = [argument for path in _covered(workspace, root) for argument in _cover(path)]
    own = () if any(program.is_relative_to(each) for each in _SYSTEM) else ("--ro-bind", str(program), str(program))
    return [
        *(bwrap, *_BASE, *_seen(), bind, root, root, *covers, *own),
        *("--remount-ro", "/", "--chdir", root, "--", str(program), *arguments),
    ]


@cache
def working(bwrap: str | None) -> str:
    """The path of a bubblewrap that works here, by default the one found; "" if there is none. Blocking."""
    path = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin") if bwrap is None else bwrap
    if not path:
        return ""
    try:
        tried = subprocess.run(  # noqa: S603 - a fixed command
            [path, *_BASE, *_seen(), "--remount-ro", "/", "--", "/usr/bin/true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return path if tried.returncode == 0 else ""


def _seen() -> list[str]:
    """The system as programs need it. Where /bin is a link to /usr/bin, as mostly, it is one here too."""
    seen: list[str] = []
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            seen += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            seen += ["--ro-bind", str(path), str(path)]
    for file in _FILES:
        seen += ["--ro-bind-try", file, file]
    # /dev is writable memory until it is remounted.
    return [*seen, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: E501, S108 # fmt: skip


def _cover(path: Path) -> list[str]:
    """Put something empty over a file or folder."""
    if path.is_dir():
        return ["--tmpfs", str(path), "--remount-ro", str(path)]
    return ["--ro-bind", "/dev/null", str(path)]


def _covered(workspace: Workspace, root: str) -> list[Path]:
    """What programs must not see in the workspace: its secrets, sockets, pipes and devices."""
    found: set[Path] = set()
    for seen, entry in enumerate(_entries(root, found)):
        if seen >= MAX_ENTRIES or len(found) > MAX_COVERED:
            raise ToolRefused(
                "sandbox.too_large",
                f"The project's folder has more than {MAX_ENTRIES:,} names, or {MAX_COVERED} secrets.",
                "Work in a smaller folder.",
            )
        if workspace.is_secret(entry.name):
            # Over a link nothing can be put; what it leads to counts if the sandbox has it at all.
            real = Path(os.path.realpath(entry.path))
            if real.exists() and real.is_relative_to(root) and real != Path(root):
                found.add(real)
        elif not (entry.is_symlink() or entry.is_dir() or _is_plain(entry)):
            found.add(Path(entry.path))
    return sorted(path for path in found if not any(parent in found for parent in path.parents))


def _entries(root: str, covered: set[Path]) -> Iterator["os.DirEntry[str]"]:
    left = [root]
    while left:
        folder = left.pop()
        if Path(folder) in covered:
            continue
        try:
            with os.scandir(folder) as scan:
                for entry in scan:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError:  # gone, or not ours to read, and so not the program's either
            continue


def _is_plain(entry: "os.DirEntry[str]") -> bool:
    try:
        return stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
    except OSError:  # gone
        return True
