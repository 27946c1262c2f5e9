"""The agents of these settings that steps can be given to: all that are named, but for this one."""

import re
from functools import partial

from consumers.agents.http import Agents
from consumers.agents.load import AgentLoad
from consumers.delegate import Delegation
from deploy.fields import is_http_url
from deploy.settings import Settings
from deploy.tools import items
from schemas.errors import InvalidInput
from streams.connection import Client, masked
from streams.endings import ended
from streams.keys import Keys

_AGENT = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,39})\s*=\s*(?P<url>\S+)")


def agents(settings: Settings) -> Agents:
    """The other agents. Raises InvalidInput `settings.invalid` for what is no agent."""
    urls = {"victoria": settings.victoria_url, "veronica": settings.veronica_url}
    urls |= dict(map(_agent, items(settings.agents)))
    wanted = settings.use_victoria_enhanced
    others = {name: url for name, url in urls.items() if url and name != settings.agent and wanted}
    return Agents(others, settings.agent, settings.delegate_timeout)


def delegation(settings: Settings, client: Client, keys: Keys) -> Delegation:
    """What has steps done by them. Raises InvalidInput `settings.invalid`."""
    others = agents(settings)
    load = AgentLoad(client, keys, others.urls, settings.delegate_at_once)
    return Delegation(others, load, partial(ended, client, keys))


def _agent(text: str) -> tuple[str, str]:
    parts = _AGENT.fullmatch(text)
    if not parts or not is_http_url(parts["url"]):
        raise InvalidInput(
            "settings.invalid",
            f"`agents` has {masked(text)!r}, which is no agent.",
            "Write an expert's name and the URL of its door: qa=http://lab:8010.",
        )
    return parts["name"], parts["url"]
