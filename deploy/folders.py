"""Which folder is the project's root, and where what belongs to it is kept."""

import hashlib
import os
from pathlib import Path

import platformdirs

FILE = "victoria.toml"
"""The settings file in the project's root, and that of the user in their configuration folder."""


def project_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds victoria.toml or .git, else `start`; always a real path."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if _is_root(folder)), start)


def _is_root(folder: Path) -> bool:
    try:
        return (folder / FILE).exists() or (folder / ".git").exists()
    except OSError:  # a parent that may not be looked into
        return False


def default_state_dir(root: Path) -> Path:
    """One per project folder, and with it one embedded server: equal names in two places don't share."""
    real = root.resolve()
    return platformdirs.user_state_path("victoria") / (
        f"{real.name[:40] or 'root'}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}"
    )
