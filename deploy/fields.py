"""One setting as data: its names, the texts about it, and how a given value is read.

All of it comes from the annotations of a settings record: `Annotated[type, Meta(description=...), More(...)]`.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from schemas.errors import InvalidInput
from streams.connection import masked


class More(NamedTuple):
    """What msgspec.Meta has no place for: further environment names, and texts where the type does not say enough.

    What is `personal` is the user's to say, not a project's: its file may be somebody else's.
    """

    names: tuple[str, ...] = ()
    expects: str = ""
    default: str = ""
    personal: bool = False


class Field(NamedTuple):
    """A key, its environment names (the first wins), and texts: what it expects, its default, what it is."""

    key: str
    names: tuple[str, ...]
    expects: str
    default: str
    description: str
    hint: Any
    personal: bool

    def read(self, given: Any, origin: str, anchor: Path, *, typed: bool) -> Any:
        """`given` as the key's type; relative paths start at `anchor`. Raises InvalidInput `settings.invalid`.

        `typed` is for a file with types of its own; otherwise text is read leniently.
        """
        try:
            return _value(self.key, self.hint, given, anchor, typed=typed)
        except (KeyError, ValueError, RuntimeError):  # RuntimeError: a ~ without a home; msgspec's are ValueErrors
            raise InvalidInput(
                "settings.invalid",
                f"`{self.key}` is {shown(self.key, given)[:200]!r} (from {origin}); expected {self.expects}.",
                f"Correct it there, or remove it to have the default: {self.default or 'empty'}.",
            ) from None


@functools.cache
def fields_of(record: type[msgspec.Struct]) -> dict[str, Field]:
    """The fields of a settings record by key, in its order."""
    hints = get_type_hints(record, include_extras=True)
    fields: dict[str, Field] = {}
    for field in msgspec.structs.fields(record):
        key, hint = field.name, hints[field.name]
        kind, meta, *rest = get_args(hint)
        more = cast("More", rest[0]) if rest else More()
        fields[key] = Field(
            key,
            names=(f"VICTORIA_{key.upper()}", *more.names),
            expects=more.expects or _expected(kind, meta),
            default=more.default or shown(key, field.default),
            description=meta.description or "",
            hint=hint,
            personal=more.personal,
        )
    return fields


def shown(key: str, value: Any) -> str:
    """A value as text for people: passwords in URLs masked, booleans as they are written in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if key == "token":
        return "***" if value else ""
    if key in ("agents", "ollama_hosts"):
        return re.sub(r"[^,\s]+", lambda host: masked(host[0]), str(value))
    return masked(str(value)) if key.endswith("_url") else str(value)


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _value(key: str, hint: Any, given: Any, anchor: Path, *, typed: bool) -> Any:
    kind = get_args(hint)[0]
    if isinstance(given, str):
        given = given.strip()
        if re.search(r"[\x00-\x1f\x7f]", given):
            raise ValueError(given)
    if kind is Path:
        if not isinstance(given, str | Path) or not str(given):
            raise ValueError(given)
        return _placed(given, anchor)
    if kind is bool and isinstance(given, str) and not typed:
        return _BOOLEANS[given.lower()]
    value = msgspec.convert(given, hint, strict=typed)
    if key == "redis_url":
        _check_redis_url(value)
    if key in ("search_url", "victoria_url", "veronica_url"):
        _check_http_url(value)
    if key == "time_zone" and value:
        _check_time_zone(value)
    if key in ("local_model", "mlx_model", "ssh_key") and value:
        return str(_placed(value, anchor))
    return _placed_model(value, anchor) if key == "model" else value


def _placed_model(model: str, anchor: Path) -> str:
    """`local:` and `mlx:` may name a file or folder."""
    engine, _, name = model.partition(":")
    if engine in ("local", "mlx") and ("/" in name or name.endswith(".gguf")):
        return f"{engine}:{_placed(name, anchor)}"
    return model


def _placed(path: str | Path, anchor: Path) -> Path:
    return Path(os.path.normpath(anchor / Path(path).expanduser()))


def _check_redis_url(url: str) -> None:
    parts = urlsplit(url)
    match parts.scheme:
        case "redis" | "rediss":
            fine = parts.hostname and parts.port != 0 and re.fullmatch(r"/?\d*", parts.path)
        case "unix":
            fine = parts.path.startswith("/")
        case _:
            fine = not url
    if not fine:
        raise ValueError(url)


def is_http_url(url: str) -> bool:
    """Whether it is the address of a server, perhaps with a path, and with nothing behind that."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search("[?#]", url)
        )
    except ValueError:  # its port is no number
        return False


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except OSError:  # a folder of zones
        raise ValueError(name) from None


def _check_http_url(url: str) -> None:
    if url and not is_http_url(url):
        raise ValueError(url)


def _expected(kind: Any, meta: Meta) -> str:
    if get_origin(kind) is Literal:
        *some, last = get_args(kind)
        return f"{', '.join(some)} or {last}"
    text = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}[kind]
    if meta.gt is not None:
        return f"{text} above {meta.gt}, at most {meta.le}"
    return text if meta.ge is None else f"{text} from {meta.ge} to {meta.le}"
