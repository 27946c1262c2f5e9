"""Settings say which other agents there are: nobody who isn't named."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from deploy.agents import agents
from deploy.loading import load
from deploy.settings import Settings
from schemas.errors import InvalidInput


def test_nobody_is_there_by_default() -> None:
    assert agents(Settings()).urls == {}


def test_agents_are_named_one_by_one() -> None:
    found = agents(
        Settings(
            veronica_url="http://ops:8011", agents="qa=https://u:p@lab/qa/ , devops = http://b:1,", delegate_timeout=5
        )
    )
    assert found.urls == {"veronica": "http://ops:8011", "qa": "https://u:p@lab/qa/", "devops": "http://b:1"}
    assert (found.own, found.timeout) == ("victoria", 5)


def test_an_agent_never_delegates_to_itself() -> None:
    both = Settings(victoria_url="http://a:8010", veronica_url="http://b:8011")
    assert set(agents(both).urls) == {"veronica"}
    assert set(agents(replace(both, agent="veronica")).urls) == {"victoria"}
    assert set(agents(replace(both, agent="qa", agents="qa=http://c:1")).urls) == {"victoria", "veronica"}


@pytest.mark.parametrize(
    "text", ["qa", "qa=", "=http://a", "Qa=http://a", "qa=ftp://a", "qa=http://", "qa=http://a?x", "q a=http://a"]
)
def test_what_is_no_agent_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="agents"):
        agents(Settings(agents=text))


@pytest.mark.parametrize("url", ["ops", "ftp://ops", "http://", "http://a:99999", "http://a:x", "http://a/#b"])
def test_what_is_no_address_of_a_door_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="veronica_url"):
        load({}, {"VERONICA_URL": url}, tmp_path)


def test_passwords_of_agents_are_not_shown() -> None:
    settings = Settings(agents="qa=http://ops:hunter2@lab", veronica_url="http://ops:hunter2@b")
    assert "hunter2" not in repr(settings)
    with pytest.raises(InvalidInput) as caught:
        agents(Settings(agents="qa=ftp://ops:hunter2@lab"))
    assert "hunter2" not in str(caught.value)
