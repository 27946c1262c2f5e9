"""The tools of these settings: the built-in ones and the user's own, and what they may use."""

import re
import warnings
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from consumers.tools.allowed import Allowed, Host, Limits
from consumers.tools.registry import Registry, built_in, in_folder
from deploy.settings import Settings
from schemas.errors import InvalidInput

_HOST = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?:\[(?P<ip6>[0-9a-fA-F:]+)\]|(?P<name>[\w.-]+))(?::(?P<port>\d{1,5}))?")


def items(text: str) -> tuple[str, ...]:
    """The items of a list that is written with commas."""
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def registry(settings: Settings) -> Registry:
    """All tools. Raises CouldNotStart `tool.broken`, InvalidInput `settings.invalid`."""
    return Registry.of([*built_in(), *in_folder(settings.tools_dir)], allowed(settings))


def allowed(settings: Settings) -> Allowed:
    """What tools may use. Raises InvalidInput `settings.invalid` for a host that is none."""
    return Allowed(
        programs=items(settings.programs),
        limits=Limits(seconds=settings.tool_timeout),
        hosts=tuple(map(_host, items(settings.ssh_hosts))),
        ssh_key=Path(settings.ssh_key) if settings.ssh_key else None,
        known_hosts=settings.ssh_known_hosts,
        search=settings.search_url.rstrip("/"),
        approved=frozenset(items(settings.approved_tools)),
        zone=zone(settings.time_zone),
    )


def zone(name: str) -> tzinfo:
    """A time zone by its name; the system's for none. Where the system has none that makes sense, its offset of now."""
    if name:
        return ZoneInfo(name)
    from tzlocal import reload_localzone  # late: one that names its zone does without

    try:
        with warnings.catch_warnings(action="ignore"):
            return reload_localzone()
    except (LookupError, ValueError, OSError):
        return datetime.now().astimezone().tzinfo or UTC


def _host(text: str) -> Host:
    parts = _HOST.fullmatch(text)
    port = int(parts["port"] or 22) if parts else 0
    if not parts or not 0 < port < 65_536:
        raise InvalidInput(
            "settings.invalid", f"`ssh_hosts` has {text!r}, which is no host.", "Write user@host:port; host is enough."
        )
    return Host(parts["ip6"] or parts["name"], port, parts["user"] or "")
