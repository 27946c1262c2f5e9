import os
from pathlib import Path
from typing import Any

import pytest

from deploy.folders import default_state_dir, project_root
from deploy.loading import Loaded, load
from deploy.settings import Settings, describe
from schemas.errors import InvalidInput


def loaded(folder: Path, toml: str = "", flags: dict[str, Any] | None = None, **environ: str) -> Loaded:
    (folder / "victoria.toml").write_text(toml, encoding="utf-8")
    return load(flags or {}, environ, folder)


def refused(folder: Path, toml: str = "", flags: dict[str, Any] | None = None, **environ: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        loaded(folder, toml, flags, **environ)
    return caught.value


def test_without_any_settings_the_defaults_hold(tmp_path: Path) -> None:
    found = load({}, {}, tmp_path)
    assert found.settings.redis_url == ""
    assert found.settings.model == "auto"
    assert (found.settings.lease, found.settings.grace) == (10, 10)
    assert set(found.origins.values()) == {"default"}
    assert found.root == tmp_path


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    toml = "partitions = 2\nlocal_slots = 2\nlease = 2"
    found = loaded(
        tmp_path, toml, {"partitions": "4", "prefix": None}, VICTORIA_PARTITIONS="3", VICTORIA_LOCAL_SLOTS="3"
    )
    assert (found.settings.partitions, found.settings.local_slots, found.settings.lease) == (4, 3, 2.0)
    assert found.origins["partitions"] == "flag --partitions"
    assert found.origins["local_slots"] == "environment VICTORIA_LOCAL_SLOTS"
    assert found.origins["lease"] == f"victoria.toml ({tmp_path / 'victoria.toml'})"
    assert found.origins["prefix"] == "default"


def test_the_file_is_found_from_any_folder_below_the_root(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "victoria.toml").write_text('local_model = "models/a.gguf"\nstate_dir = "state"')
    found = load({"cache_dir": "cache"}, {}, below)
    assert found.root == tmp_path
    assert found.settings.local_model == str(tmp_path / "models/a.gguf"), "the file's paths start at its folder"
    assert found.settings.state_dir == tmp_path / "state"
    assert found.settings.cache_dir == below / "cache", "a flag's paths start where it was typed"


def test_the_root_is_the_nearest_folder_with_a_settings_file_or_git(tmp_path: Path) -> None:
    inner = tmp_path / "inner" / "deep"
    inner.mkdir(parents=True)
    assert project_root(inner) == inner
    (tmp_path / ".git").mkdir()
    assert project_root(inner) == tmp_path
    (tmp_path / "inner" / "victoria.toml").touch()
    assert project_root(inner) == tmp_path / "inner"


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("VICTORIA_MODEL", "local", "model", "local"),
        ("MAIN_PROJECT", "shop", "main_project", "shop"),
        ("VICTORIA_MAIN_PROJECT", "shop", "main_project", "shop"),
        ("ALLOWED_PROJECTS", "a,b", "allowed_projects", "a,b"),
        ("VICTORIA_URL", "http://a", "victoria_url", "http://a"),
        ("VERONICA_URL", "http://b", "veronica_url", "http://b"),
        ("DATABASE_URL", "postgres://c", "database_url", "postgres://c"),
        ("VICTORIA_POSTGRES_URL", "postgres://c", "database_url", "postgres://c"),
        ("USE_VICTORIA_ENHANCED", "Yes", "use_victoria_enhanced", True),
        ("ENABLE_EVENT_MONITORING", "off", "enable_event_monitoring", False),
        ("ENABLE_EVENT_MONITORING", " 1 \n", "enable_event_monitoring", True),
    ],
)
def test_well_known_environment_names_work(tmp_path: Path, name: str, value: str, key: str, expected: Any) -> None:
    found = load({}, {name: value}, tmp_path)
    assert getattr(found.settings, key) == expected
    assert found.origins[key] == f"environment {name}"


def test_the_name_with_victoria_in_front_wins_over_the_short_one(tmp_path: Path) -> None:
    found = load({}, {"MAIN_PROJECT": "a", "VICTORIA_MAIN_PROJECT": "b"}, tmp_path)
    assert found.settings.main_project == "b"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    found = loaded(tmp_path, "partitions = 2", VICTORIA_PARTITIONS="", VICTORIA_MAIN_PROJECT=" ", MAIN_PROJECT="a")
    assert (found.settings.partitions, found.settings.main_project) == (2, "a")


def test_misspelt_names_are_refused_with_the_nearest_right_one(tmp_path: Path) -> None:
    for error, nearest in (
        (refused(tmp_path, flags={"redis_ulr": "x"}), "--redis-url"),
        (refused(tmp_path, VICTORIA_REDIS_ULR="x"), "VICTORIA_REDIS_URL"),
        (refused(tmp_path, "redis_ulr = 'x'"), "redis_url"),
    ):
        assert error.code == "settings.unknown"
        assert nearest in error.hint


def test_variables_that_kubernetes_or_others_set_do_no_harm(tmp_path: Path) -> None:
    links = {
        "VICTORIA_SERVICE_HOST": "10.0.0.1",
        "VICTORIA_SERVICE_PORT_HTTP": "8010",
        "VICTORIA_PORT": "tcp://10.0.0.1:8010",
        "VICTORIA_HTTP_PORT": "tcp://10.0.0.1:8010",
        "VICTORIA_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
        "MODEL": "x",
    }
    assert set(load({}, links, tmp_path).origins.values()) == {"default"}
    assert refused(tmp_path, VICTORIA_PORT="8010").code == "settings.unknown"


@pytest.mark.parametrize(
    ("key", "value", "expects"),
    [
        ("partitions", "0", "from 1 to 256"),
        ("partitions", "many", "whole number"),
        ("lease", "0.2", "above 0.2"),
        ("lease", "nan", "a number"),
        ("grace", "inf", "a number"),
        ("log_level", "loud", "debug, info, warning or error"),
        ("use_victoria_enhanced", "maybe", "true or false"),
        ("prefix", "a:b", "without braces"),
        ("prefix", "{a}", "without braces"),
        ("redis_url", "localhost:6379", "redis://"),
        ("redis_url", "http://localhost", "redis://"),
        ("redis_url", "redis://", "redis://"),
        ("redis_url", "redis://localhost:99999", "redis://"),
        ("redis_url", "redis://[::1", "redis://"),
        ("redis_url", "redis://localhost/one", "redis://"),
        ("redis_url", "unix://socket", "redis://"),
        ("main_project", "a\x00b", "text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_its_origin_and_what_is_expected(
    tmp_path: Path, key: str, value: str, expects: str
) -> None:
    error = refused(tmp_path, "", None, **{f"VICTORIA_{key.upper()}": value})
    assert error.code == "settings.invalid"
    for part in (f"`{key}`", f"VICTORIA_{key.upper()}", expects, repr(value)):
        assert part in error.message


@pytest.mark.parametrize(
    "toml", ["partitions = '2'", "partitions = true", "model = 1", "state_dir = ''", "model = ''", "prefix = []"]
)
def test_values_in_the_file_must_have_the_right_type(tmp_path: Path, toml: str) -> None:
    error = refused(tmp_path, toml)
    assert error.code == "settings.invalid"
    assert str(tmp_path / "victoria.toml") in error.message


@pytest.mark.parametrize(
    "url",
    ["", "redis://h", "redis://:pw@h:1/2", "rediss://u:pw@h", "unix:///a/b.sock?db=1", "redis://[::1]:6379"],
)
def test_usual_redis_urls_are_accepted(tmp_path: Path, url: str) -> None:
    assert load({"redis_url": url}, {}, tmp_path).settings.redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@h",
        "redis://user:s3cret@h/1",
        "redis://s3cret@h",
        "redis://user:a/s3cret@b@h",
        "rediss://h?password=s3cret&db=1",
        "http://user:s3cret@h",
        "user:s3cret@h",
        "redis://:s3cret@h:port",
    ],
)
def test_passwords_are_never_shown(tmp_path: Path, url: str) -> None:
    text = said_about(tmp_path, {"redis_url": url, "database_url": url})
    assert "s3cret" not in text
    assert "***" in text


def said_about(folder: Path, flags: dict[str, Any]) -> str:
    try:
        found = load(flags, {}, folder)
    except InvalidInput as error:
        return f"{error} {error!r} {error.info} {error.__cause__}"
    return f"{found!r} {found.settings} {found.settings.shown()}"


def test_a_broken_file_is_refused_with_the_line(tmp_path: Path) -> None:
    error = refused(tmp_path, "partitions = 2\nmodel = auto")
    assert error.code == "settings.malformed"
    assert "line 2" in error.message
    (tmp_path / "victoria.toml").write_bytes(b"# fine\nmodel = '\xff'")
    with pytest.raises(InvalidInput, match="line 2"):
        load({}, {}, tmp_path)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victoria.toml").mkdir()
    with pytest.raises(InvalidInput) as caught:
        load({}, {}, tmp_path)
    assert caught.value.code == "settings.unreadable"


def test_each_project_folder_has_its_own_state_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "shop", tmp_path / "two" / "shop"
    one.mkdir(parents=True)
    two.mkdir(parents=True)
    (tmp_path / "link").symlink_to(one)
    assert default_state_dir(one) != default_state_dir(two)
    assert default_state_dir(one) == default_state_dir(tmp_path / "link")
    assert default_state_dir(one).name.startswith("shop-")
    assert load({}, {}, one).settings.state_dir == default_state_dir(one)


def test_every_setting_is_described_and_has_its_environment_name() -> None:
    rows = {row.key: row for row in describe()}
    assert tuple(rows) == Settings.__struct_fields__
    for key, row in rows.items():
        assert row.environment[0] == f"VICTORIA_{key.upper()}"
        assert row.description.endswith(".")
        assert row.type
        assert str(Path.home()) not in row.default, "the README must not name this machine's folders"
    names = [name for row in rows.values() for name in row.environment]
    assert len(names) == len(set(names))


def test_the_process_environment_is_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("VICTORIA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VICTORIA_MODEL", "none")
    monkeypatch.chdir(tmp_path)
    assert load().settings.model == "none"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("tools_dir", "tools"), ("strategies_dir", "s"), ("experts_dir", "e"), ("approved_tools", "ssh_run")),
        *(("programs", "sh"), ("secret_files", ""), ("writable_projects", "shop"), ("allowed_projects", "home=/root")),
        *(("main_project", "/etc"), ("ssh_hosts", "db-1"), ("ssh_key", "k"), ("ssh_known_hosts", "h")),
        *(("redis_url", "redis://far"), ("ollama_hosts", "far"), ("search_url", "http://far"), ("agents", "")),
        *(("victoria_url", "http://far"), ("veronica_url", "http://far"), ("database_url", "postgresql://far")),
    ],
)
def test_a_projects_file_gives_no_rights_and_sends_goals_nowhere_but_its_users_may(
    key: str, value: str, tmp_path: Path
) -> None:
    error = refused(tmp_path, f'{key} = "{value}"')
    assert error.code == "settings.personal"
    own = tmp_path / "own"
    own.mkdir()
    (own / "victoria.toml").write_text(f'{key} = "{value}"\npartitions = 2')
    (tmp_path / "victoria.toml").write_text("partitions = 3")
    found = load({}, {}, tmp_path, own)
    assert found.origins[key] == f"victoria.toml ({own / 'victoria.toml'})"
    assert found.settings.partitions == 3, "the nearer file counts"
