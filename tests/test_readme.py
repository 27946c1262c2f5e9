"""The README tells the truth: its commands run as printed, its tables are what the code says."""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from consumers.experts.expert import FOLDER, read_expert
from consumers.experts.roster import Folders
from consumers.strategies.registry import BUILT_IN
from deploy.settings import describe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "deploy" / "SETTINGS.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
OVER_HTTP = re.findall(r"```shell-session\n(.*?)```", README, re.DOTALL)
VARYING = {
    r"__pycache__/(\\n|\n)": "",
    r"\b[0-9a-f]{32}\b": "RUN",
    r"\b\d{4}-\d\d-\d\dT[\d:.]+Z": "MOMENT",
    r"\b\d\d:\d\d:\d\d\.\d{3}\b": "TIME",
    r"\d+\.\d+ s|(?<=\"seconds\":)[\d.e-]+": "SECONDS",
    r"\d+ tokens( in)?(?: \(\d+ cached\))?(, \d+ out)?": "TOKENS",
    r" +": " ",
}
MODEL_SAYS = re.compile(
    r"(?<=## what is an event-driven pipeline\?\n).*?(?=\ncompleted)|^A Redis stream is.*?(?=\nSmolLM2)", re.DOTALL
)


def even(text: str) -> str:
    """Text with all that differs from run to run, and a model's own words, made the same."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = "\n".join(lines) + "\n"
    for pattern, word in VARYING.items():
        joined = re.sub(pattern, word, joined)
    return MODEL_SAYS.sub("MODEL", joined)


def pairs(block: str) -> list[tuple[str, str]]:
    """Each `$ command` of a block with the output printed below it."""
    return [
        (part.partition("\n")[0], part.partition("\n")[2]) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]


def environment(state_dir: Path) -> dict[str, str]:
    """Neither settings of this machine nor those of a make that runs the tests."""
    foreign = ("VICTORIA_", "MAKE", "MFLAGS", "GOAL")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    return environ | {"VICTORIA_STATE_DIR": str(state_dir), "MAIN_PROJECT": "victoria", "COLUMNS": "120"}


def printed_by(command: str, environ: dict[str, str]) -> str:
    """All that a command prints."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environ, text=True, timeout=170,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return done.stdout


def test_every_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """One after the other, as they are read: a later one shows what an earlier one did."""
    for command, expected in chain.from_iterable(map(pairs, BLOCKS)):
        assert even(printed_by(command, environment(tmp_path))) == even(expected), f"$ {command}"


def test_the_http_door_answers_as_the_readme_shows(tmp_path: Path) -> None:
    environ = environment(tmp_path) | {"VICTORIA_MODEL": "none", "VICTORIA_HISTORY": "false"}
    serve = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0"]
    with subprocess.Popen(serve, cwd=ROOT, env=environ, text=True, stderr=subprocess.PIPE) as door:
        try:
            assert door.stderr
            port = re.search(r"ready: http://127.0.0.1:(\d+);", door.stderr.readline())
            assert port
            for command, expected in chain.from_iterable(map(pairs, OVER_HTTP)):
                there = command.replace(":8010", f":{port[1]}")
                assert even(printed_by(there, environ)) == even(expected), f"$ {command}"
        finally:
            door.terminate()


def test_the_two_commands_are_there() -> None:
    assert "make run" in README
    assert "make test" in README
    assert len(BLOCKS) >= 4


def printed(table: str, text: str = README) -> str:
    """What stands between the marks of a table."""
    return (
        text.partition(f"<!-- {table}: made by the test that checks this table -->\n")[2]
        .partition(f"<!-- /{table} -->")[0]
        .strip()
    )


def test_the_table_of_settings_is_what_the_code_says() -> None:
    rows = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for setting in describe():
        default = f"`{setting.default}`" if setting.default else ""
        rows.append(f"| {setting.key} | `{'`, `'.join(setting.environment)}` | {default} | {setting.description} |")
    table = "\n".join(rows)
    assert printed("settings", SETTINGS) == table, f"Put this between the marks:\n{table}"


def test_the_table_of_experts_is_what_their_files_say() -> None:
    rows = (
        f"| {department} | {expert.name} | {expert.title} | {', '.join(expert.capabilities)} |"
        for department, experts in Folders(FOLDER).roster().departments.items()
        for expert in experts
    )
    table = "\n".join(("| department | expert | does | can |", "|---|---|---|---|", *rows))
    assert printed("experts") == table, f"Put this between the marks:\n{table}"


def test_the_table_of_strategies_is_what_their_files_say() -> None:
    rows = (
        f"| {name} | {', '.join(strategy.suits) or 'where it is wanted'} | {strategy.description} |"
        for name, strategy in BUILT_IN.by_name.items()
    )
    table = "\n".join(("| strategy | for what is | shape |", "|---|---|---|", *rows))
    assert printed("strategies") == table, f"Put this between the marks:\n{table}"


def test_the_expert_it_shows_is_a_valid_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "beekeeper.yaml"
    path.write_text(example, encoding="utf-8")
    assert read_expert(path).capabilities == {"bees": 0.95}


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_subcommand_it_names_exists() -> None:
    import typer

    from gateway.cli import app

    command: Any = typer.main.get_command(app)
    mentioned = set(re.findall(r"victoria ([a-z]+)", README))
    assert mentioned == set(command.commands)
