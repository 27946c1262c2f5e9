"""What can be looked up: events, settings, the state of things, help, completion."""

import json
import os
import re
from pathlib import Path

import pytest

from deploy.embedded import embedded
from deploy.settings import describe
from deploy.wiring import catalogue_topology
from gateway.cli import app
from schemas.events import CATALOGUE
from tests.gateway.conftest import Call, Cli, server_of
from tests.llm.fake_ollama import FakeOllama

COMMANDS = [command.name or "" for command in app.registered_commands]


def test_events_lists_every_type_with_who_emits_it_its_stream_and_its_readers(call: Call) -> None:
    done = call("events")
    topology = catalogue_topology()
    _, *blocks = re.split(r"^(?=[A-Z])", done.out, flags=re.MULTILINE)
    ways = {block.split()[0]: " ".join(block.split()) for block in blocks}
    assert ways.keys() == CATALOGUE.keys()
    for name, event in CATALOGUE.items():
        first, *_ = topology.routes[event]
        assert f"→ {first}" in ways[name]
    assert max(map(len, done.out.splitlines())) <= 80
    rows = {row["type"]: row for row in call("events", "--json").json()}
    assert rows.keys() == CATALOGUE.keys()
    assert {name: tuple(row["streams"]) for name, row in rows.items()} == {
        name: topology.routes[event] for name, event in CATALOGUE.items()
    }
    assert rows["GoalSubmitted"]["streams"] == ["intake"]
    assert rows["GoalSubmitted"]["emitted_by"] == ["gateway", "hypothesis-validation"]
    assert rows["GoalSubmitted"]["fields"]["history"] == "tuple[Exchange, ...]"


def test_one_event_is_shown_with_the_types_of_its_fields(call: Call) -> None:
    done = call("events", "RunProgressed")
    assert re.search(r"^  kind +'understood' \| 'plan' \| 'task_start' \| 'task_end' \|", done.out, re.MULTILINE)
    assert re.search(r"^  plan +Plan \| None *$", done.out, re.MULTILINE)
    assert "…" not in done.out


def test_config_shows_each_value_and_where_it_comes_from_and_masks_passwords(call: Call) -> None:
    url = "redis://me:pa55word@127.0.0.1:1/0"
    done = call("config", "--set", "lease=3", VICTORIA_REDIS_URL=url)
    assert "redis_url = redis://me:***@127.0.0.1:1/0  (environment VICTORIA_REDIS_URL)" in done.out
    assert "lease = 3.0  (flag --lease)" in done.out
    assert "prefix = victoria  (default)" in done.out
    for setting in describe():
        assert f"\n{setting.key} =" in f"\n{done.out}"
        assert setting.environment[0] in done.out
    data = call("config", "--json", VICTORIA_REDIS_URL=url).json()
    assert data["redis_url"] == {"value": "redis://me:***@127.0.0.1:1/0", "origin": "environment VICTORIA_REDIS_URL"}
    assert data["model"]["origin"] == "environment VICTORIA_MODEL"
    assert "pa55word" not in done.out + json.dumps(data)


def test_passwords_of_ollama_hosts_are_shown_nowhere(call: Call) -> None:
    hosts = "gpu-1, https://me:pa55word@127.0.0.1:1,you:pa55word@127.0.0.1:2/x"
    shown = call("config", OLLAMA_HOSTS=hosts)
    assert "ollama_hosts = gpu-1, https://me:***@127.0.0.1:1,***@127.0.0.1:2/x  (environment OLLAMA_HOSTS)" in shown.out
    wanted = {"OLLAMA_HOSTS": hosts.removeprefix("gpu-1, "), "VICTORIA_MODEL": "ollama"}
    for command in (["config", "--json"], ["doctor"], ["models"], ["models", "--json"], ["ask", "Hi"]):
        done = call(*command, **wanted)
        assert "pa55word" not in done.out + done.err
    wrong = call("models", OLLAMA_HOSTS="http://me:pa55word@", VICTORIA_MODEL="ollama")
    assert (wrong.code, "[model.url]" in wrong.err, "pa55word" in wrong.err) == (2, True, False)


def test_doctor_finds_all_well_and_starts_nothing(call: Call, tmp_path: Path) -> None:
    done = call("doctor")
    assert done.code == 0
    assert re.search(r"^✓ server +Valkey \d", done.out, re.MULTILINE)
    assert "! stage      plan: 0 workers\n" in done.out
    checks = call("doctor", "--json", VICTORIA_STATE_DIR=str(tmp_path / "none")).json()
    assert {check["name"]: check["verdict"] for check in checks} == {
        "python": "ok",
        "model": "warning",
        "projects": "ok",
        "server": "ok",
        "database": "ok",
    }
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("environ", "exit_code", "found"),
    [
        ({"VICTORIA_REDIS_URL": "redis://127.0.0.1:1/0"}, 5, r"✗ server +No server answers"),
        ({"VICTORIA_MODEL": "auto", "VICTORIA_LOCAL_MODEL": "/nowhere.gguf"}, 1, r"✗ model +No model can be read"),
        ({"VICTORIA_MODEL": "auto", "VICTORIA_LOCAL_MODEL": __file__}, 1, r"✗ model +.* is not a GGUF model"),
    ],
)
def test_doctor_fails_with_what_to_do(call: Call, environ: dict[str, str], exit_code: int, found: str) -> None:
    done = call("doctor", **environ)
    assert done.code == exit_code
    assert re.search(rf"^{found}.*\n {{13}}\w", done.out, re.MULTILINE), done.out
    assert "projects" in done.out, "one failure does not hide the other checks"


@pytest.mark.usefixtures("without_mlx")
@pytest.mark.parametrize(
    ("model", "exit_code", "found"),
    [
        (
            "auto",
            0,
            [
                "✓ model      ollama: {node} has m:latest",
                "! model      ollama: 127.0.0.1:1 can't be",
                "✓ model      lo",
            ],
        ),
        (
            "ollama:m",
            0,
            ["✓ model      ollama: {node} has m:latest", "! model      ollama: 127.0.0.1:1 can't be reached"],
        ),
        (
            "ollama:x:1b",
            1,
            ["✗ model      There is no model ollama:x:1b", "`victoria models pull x:1b` has Ollama fetch it"],
        ),
        ("mlx", 1, ["✗ model      The MLX engine is not installed", "pip install victoria-streams[mlx]"]),
    ],
)
def test_doctor_looks_at_each_back_end_that_is_wanted(
    call: Call, ollama: FakeOllama, model: str, exit_code: int, found: list[str]
) -> None:
    done = call("doctor", VICTORIA_MODEL=model, OLLAMA_HOSTS=f"{ollama.url},127.0.0.1:1")
    assert done.code == exit_code
    for line in found:
        assert line.format(node=ollama.url.removeprefix("http://")) in done.out


def test_doctor_fails_where_no_node_of_the_named_back_end_answers(call: Call) -> None:
    done = call("doctor", VICTORIA_MODEL="ollama", OLLAMA_HOSTS="127.0.0.1:1")
    assert done.code == 1
    assert "✗ model      ollama: 127.0.0.1:1 can't be reached" in done.out


def test_doctor_warns_of_a_server_that_may_lose_events(call: Call, tmp_path: Path) -> None:
    with embedded(tmp_path), server_of(tmp_path) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "1gb")
        client.config_set("appendonly", "no")
        done = call("doctor", VICTORIA_STATE_DIR=str(tmp_path))
    assert done.code == 1
    assert "✗ memory     maxmemory-policy is allkeys-lru" in done.out
    assert "! durability" in done.out


@pytest.mark.parametrize("name", ["plan", "dead", "results", "plan:delayed", "plan:leases", "intake:counted"])
def test_doctor_names_a_key_that_holds_something_else_and_goes_on(call: Call, cli: Cli, prefix: str, name: str) -> None:
    key = f"{{{prefix}:0}}:{name}"
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.lpush(key, "not ours")
        client.xadd(f"{{{prefix}:infer}}:dead", {"event": "x"})
        done = call("doctor", VICTORIA_PREFIX=prefix)
        client.unlink(key, f"{{{prefix}:infer}}:dead")
    assert done.code == 1
    (failed,) = (line for line in done.out.splitlines() if line.startswith("✗"))
    assert failed.startswith(f"✗ keys       {key} should be a ")
    assert failed.endswith(", and is a list")
    assert "! stage " in done.out
    assert "! dead       1 dead letters" in done.out


def test_tools_shows_what_each_is_for_what_it_may_change_and_why_one_is_not_offered(call: Call) -> None:
    done = call("tools")
    assert max(map(len, done.out.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[lines.index("read_file the text of one file") + 1] == (
        "file_operations · changes nothing · /read PATH"
    )
    assert any("system_admin · never repeated · asks first" in line for line in lines)
    assert "not offered: The setting `search_url` names no SearXNG server." in " ".join(done.out.split())
    rows = {row["name"]: row for row in call("tools", "--json", VICTORIA_SSH_HOSTS="gpu-1").json()}
    assert rows["read_file"]["schema"]["$defs"]["ReadFile"]["properties"]["path"]["maxLength"] == 200
    assert rows["read_file"]["look"] == {"label": "Read", "shows": "text"}
    assert (rows["ssh_run"]["missing"], rows["ssh_run"]["approval"]) == ("", True)
    approved = call("tools", "--json", VICTORIA_APPROVED_TOOLS="ssh_run").json()
    assert not any(row["approval"] for row in approved)


def test_a_broken_tool_of_the_users_own_is_named_with_its_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "shout.py").write_text("import os\n\nnonsense\n")
    done = call("tools", VICTORIA_TOOLS_DIR=str(tmp_path))
    assert (done.code, "shout.py, line 3: NameError" in done.err, "[tool.broken]" in done.err) == (3, True, True)


@pytest.mark.parametrize(
    "command",
    [
        "",
        *COMMANDS,
        "models",
        "models pull",
        "token",
        "token create",
        "token list",
        "token revoke",
        "tasks",
        "tasks add",
        "tasks cycle",
    ],
)
def test_every_help_has_an_example_that_fits(command: str) -> None:
    from typer.testing import CliRunner

    shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    assert re.search(r"Example: .*victoria", shown.output)
    assert max(map(len, shown.output.splitlines())) <= 80


def test_all_commands_are_there() -> None:
    doing = "run chat ask up worker serve publish cancel questions answer"
    looking = (
        "status runs plan show tail lag replay fork redeliver events tools experts strategies config doctor migrate"
    )
    assert f"{doing} {looking}".split() == COMMANDS


def test_alone_it_prints_its_help_and_with_version_its_version(call: Call) -> None:
    alone = call()
    assert (alone.code, "Commands" in alone.out) == (2, True)
    assert re.fullmatch(r"victoria \d+\.\d+.*\n", call("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_produced(call: Call, shell: str) -> None:
    done = call("--show-completion", shell)
    assert done.code == 0
    assert "_VICTORIA_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("victoria wor", {"worker"}),
        ("victoria worker p", {"plan", "project"}),
        ("victoria tail d", {"dead", "delegate"}),
        ("victoria events Run", {"RunProgressed", "RunFinished"}),
    ],
)
def test_completion_knows_commands_stages_streams_and_events(call: Call, words: str, expected: set[str]) -> None:
    count = str(len(words.split()) - 1)
    done = call(_VICTORIA_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert set(done.out.split()) == expected
    assert os.linesep in done.out
