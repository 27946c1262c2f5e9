"""Which folders Victoria may work in, by name.

`MAIN_PROJECT` and each comma-separated item of `ALLOWED_PROJECTS` is one of

- `name=path`,
- a path (it has a slash, or starts with `~` or `.`), whose last part is the name,
- a name: the root folder if that is its name, else the folder of that name in the root or beside it, else none.

Relative paths start at the root. The main project is always allowed; by default it is the root folder, which a main
project's bare name also means where no folder has that name: a checkout may be called anything.
"""

import os
import re
from pathlib import Path

import msgspec

from deploy.settings import Settings
from schemas.errors import InvalidInput


class Projects(msgspec.Struct, frozen=True):
    """The allowed projects; `main` is meant when none is named. A project's folder may be missing on this machine."""

    main: str
    folders: dict[str, Path | None]

    @classmethod
    def from_settings(cls, settings: Settings, root: Path) -> "Projects":
        """Resolve the settings against the project's root. Raises InvalidInput `project.invalid`."""
        root = root.resolve()
        item = settings.main_project.strip()
        main, folder, explicit = _parse(item, root) if item else (_name(root), root, True)
        if not explicit:
            folder = folder or root
        folders = {main: folder}
        explicits = {main} if explicit else set[str]()
        for item in filter(None, (part.strip() for part in settings.allowed_projects.split(","))):
            name, folder, explicit = _parse(item, root)
            if explicit and name in explicits and folder != folders[name]:
                raise InvalidInput(
                    "project.invalid",
                    f"Two folders are given for the project {name!r}: {folders[name]} and {folder}.",
                    "Give each its own name with name=path.",
                )
            if explicit or name not in folders:
                folders[name] = folder
            if explicit:
                explicits.add(name)
        return cls(main, folders)

    @property
    def names(self) -> tuple[str, ...]:
        """All allowed names, the main project first."""
        return tuple(self.folders)

    def folder(self, name: str) -> Path | None:
        """The real path of the project's folder; None if it has none here, or is not allowed."""
        return self.folders.get(name)

    def resolve(self, name: str) -> str:
        """`name` if it is allowed, else the main project, which is the safe default."""
        name = name.strip()
        return name if name in self.folders else self.main

    def require(self, name: str) -> str:
        """`name` if it is allowed. Raises InvalidInput `project.unknown`."""
        if (name := name.strip()) in self.folders:
            return name
        raise InvalidInput(
            "project.unknown",
            f"There is no project {name!r}.",
            f"Allowed: {', '.join(self.names)}. ALLOWED_PROJECTS adds more.",
        )


def _name(folder: Path) -> str:
    return folder.name or "root"


def _parse(item: str, root: Path) -> tuple[str, Path | None, bool]:
    """An item's name, its folder if that exists, and whether the item itself said which folder."""
    name, equals, path = (part.strip() for part in item.partition("="))
    if _is_path(name):  # the = is part of a path
        equals, path = "=", item
        name = Path(os.path.normpath(root / _home(item))).name
    if not name or (equals and not path) or re.search(r"[\x00-\x1f\x7f/]", name):
        raise InvalidInput(
            "project.invalid", f"{item!r} does not name a project.", "Give a name, a path, or name=path."
        )
    if equals:
        return name, _existing(root / _home(path)), True
    if name == _name(root):
        return name, root, False
    return name, _existing(root / name) or _existing(root.parent / name), False


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith(("~", "."))


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidInput(
            "project.invalid", f"{path!r} starts at a home folder that is not known.", "Write the whole path."
        ) from None


def _existing(folder: Path) -> Path | None:
    try:
        return folder.resolve() if folder.is_dir() else None
    except (OSError, ValueError):  # may not be looked into, or no path at all
        return None
