"""Settings say what tools may use, and which files and folders they reach."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.tools.allowed import Host
from deploy.loading import load
from deploy.settings import Settings
from deploy.tools import allowed, registry
from schemas.errors import InvalidInput


def test_lists_are_written_with_commas() -> None:
    found = allowed(
        Settings(
            programs="ls, /opt/tool ,,",
            ssh_hosts="gpu-1, ops@db-1:2222, [::1]:22",
            approved_tools="ssh_run",
            tool_timeout=5,
        )
    )
    assert found.programs == ("ls", "/opt/tool")
    assert found.hosts == (Host("gpu-1"), Host("db-1", 2222, "ops"), Host("::1"))
    assert (found.approved, found.limits.seconds) == ({"ssh_run"}, 5)


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "gpu:0", "gpu:99999", "user@", "gpu-1;id"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="ssh_hosts"):
        allowed(Settings(ssh_hosts=host))


@pytest.mark.parametrize("url", ["searx", "ftp://searx", "http://", "http://a:99999"])
def test_what_is_no_address_of_a_search_server_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="search_url"):
        load({"search_url": url}, {}, tmp_path)


def test_the_time_zone_is_the_one_that_is_named_or_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert f"{noon.astimezone(allowed(Settings(time_zone='Asia/Tokyo')).zone):%H:%M}" == "21:00"
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert f"{noon.astimezone(allowed(Settings()).zone):%H:%M}" == "14:00"
    monkeypatch.setenv("TZ", "Nowhere/At-all")
    assert noon.astimezone(allowed(Settings()).zone) == noon


@pytest.mark.parametrize("name", ["Nowhere/At-all", "Europe", "../../etc/passwd", "/etc/localtime", "Berlin"])
def test_what_is_no_time_zone_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"time_zone.*Europe/Berlin"):
        load({"time_zone": name}, {}, tmp_path)


def test_settings_decide_which_tools_there_are(tmp_path: Path) -> None:
    none = Settings(tools_dir=tmp_path)
    assert set(registry(none).absent) == {"ssh_run", "web_search"}
    more = Settings(tools_dir=tmp_path, search_url="http://searx/", ssh_hosts="gpu-1")
    assert (registry(more).absent, registry(more).allowed.search) == ({}, "http://searx")
