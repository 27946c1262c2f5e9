"""Where each setting's value comes from: flag, environment, the project's victoria.toml, the user's, default, in that
order.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import platformdirs

from deploy.fields import Field, fields_of
from deploy.folders import FILE, default_state_dir, project_root
from deploy.settings import Settings
from schemas.errors import InvalidInput


class Loaded(msgspec.Struct, frozen=True):
    """Settings, for each key where its value came from (`environment VICTORIA_MODEL`), and the project's root."""

    settings: Settings
    origins: dict[str, str]
    root: Path


def load(
    flags: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    own: Path | None = None,
) -> Loaded:
    """The settings for working directory `folder`, by default the process's, of a user whose configuration folder is
    `own`.

    `flags` maps keys (`redis_url`) to text or values; None means not given. A variable that is set but empty counts as
    not set. Relative paths start at `folder`, those in a file at its own folder. Raises InvalidInput:
    `settings.unknown`, `settings.invalid`, `settings.malformed`, `settings.unreadable`, `settings.personal`.
    """
    try:
        folder = (folder or Path.cwd()).resolve()
    except FileNotFoundError:
        raise InvalidInput(
            "settings.unreadable", "The working directory no longer exists.", "Change to one that does."
        ) from None
    root = project_root(folder)
    files = [root / FILE, (own or platformdirs.user_config_path("victoria")) / FILE]
    written = {path: _read(path) for path in files}
    _refuse_unknown(flags, environ, written)
    _refuse_personal(written[files[0]], *files)

    values: dict[str, Any] = {"state_dir": default_state_dir(root)}
    origins: dict[str, str] = {}
    for key, field in fields_of(Settings).items():
        variable = next((name for name in field.names if environ.get(name, "").strip() and _is_ours(name, environ)), "")
        if (given := flags.get(key)) is not None:
            origin, anchor, typed = f"flag {_flag(key)}", folder, False
        elif variable:
            given, origin, anchor, typed = environ[variable], f"environment {variable}", folder, False
        elif path := next((path for path in files if key in written[path]), None):
            given, origin, anchor, typed = written[path][key], f"{FILE} ({path})", path.parent, True
        else:
            origins[key] = "default"
            continue
        origins[key], values[key] = origin, field.read(given, origin, anchor, typed=typed)
    return Loaded(Settings(**values), origins, root)


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _read(path: Path) -> dict[str, Any]:
    raw = b""
    try:
        raw = path.read_bytes()
        return tomllib.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(
            "settings.unreadable", f"{path} can't be read: {error.strerror}.", "It should be a readable text file."
        ) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = f"Not UTF-8 (at line {line})"
    except (ValueError, RecursionError) as error:  # TOML's own errors name line and column
        problem = str(error)
    raise InvalidInput(
        "settings.malformed", f"{path} is not valid TOML: {problem}.", 'A line looks like: model = "auto"'
    )


# Kubernetes gives each container variables about the services beside it; one named `victoria` makes VICTORIA_PORT, one
# named `victoria-http` VICTORIA_HTTP_PORT.
_SERVICE_LINK = re.compile(r"VICTORIA(_\w+)?_(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT_\d+_\w+=|PORT=\w+://)")


def _is_ours(name: str, environ: Mapping[str, str]) -> bool:
    return not _SERVICE_LINK.match(f"{name}={environ[name]}")


def _refuse_unknown(
    flags: Mapping[str, Any], environ: Mapping[str, str], written: Mapping[Path, Mapping[str, Any]]
) -> None:
    fields = fields_of(Settings)
    variables = {name for field in fields.values() for name in field.names}
    for key in flags:
        if key not in fields:
            raise _unknown(f"There is no flag {_flag(key)}.", _flag(key), [_flag(known) for known in fields])
    for name in environ:
        if name.startswith("VICTORIA_") and name not in variables and _is_ours(name, environ):
            raise _unknown(f"There is no setting for the environment variable {name}.", name, variables)
    for path, given in written.items():
        for key in given:
            if key not in fields:
                raise _unknown(f"There is no setting {key!r}, which {path} has.", key, fields)


def _refuse_personal(written: Mapping[str, Any], path: Path, own: Path) -> None:
    """A project may be somebody else's: it gives itself no rights, and sends nobody's goals anywhere."""
    fields = fields_of(Settings)
    for key in written:
        if fields[key].personal:
            raise InvalidInput(
                "settings.personal",
                f"`{key}` can't be set in {path}: a project must not give itself such rights.",
                f"Set {fields[key].names[0]} in the environment, or {key} in {own}.",
            )


def _unknown(message: str, name: str, known: "list[str] | set[str] | dict[str, Field]") -> InvalidInput:
    near = difflib.get_close_matches(name, sorted(known), 1)
    hint = f"Did you mean {near[0]}?" if near else "`victoria config` lists the settings."
    return InvalidInput("settings.unknown", message, hint)
