"""`victoria run`: one command starts what is missing, shows each stage, and prints the answer."""

import re
import subprocess
import sys

import pytest

from tests.gateway.conftest import Call, Cli

FILES = "alpha.txt\nbeta.txt\ngamma.txt\n"


@pytest.mark.parametrize(
    "goal", ["List the files in the folder docs", "Покажи файлы в папке docs", "列出文件夹 docs 中的文件"]
)
def test_a_goal_in_any_language_gives_the_real_files_and_shows_each_stage(call: Call, goal: str) -> None:
    done = call("run", goal)
    assert (done.code, done.out) == (0, FILES)
    for stage in ("understand", "plan", "step-execute"):
        assert re.search(rf"^✓ {stage} +\d+\.\d\d s  ", done.err, re.MULTILINE), done.err
    assert re.search(r"^completed · method rules · model none · 0 tokens · \d+\.\d\d s$", done.err, re.MULTILINE)
    assert re.search(r"^understand \d+\.\d\d s · plan .* · aggregate ", done.err, re.MULTILINE)
    assert re.search(r"^run [0-9a-f]{32}$", done.err, re.MULTILINE)


def test_without_a_terminal_nothing_is_coloured_or_animated(cli: Cli) -> None:
    done = cli("run", "Read docs/beta.txt")
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out + done.err
    assert done.out == "This is beta.txt.\n"


def test_json_is_exactly_one_object_with_everything(call: Call) -> None:
    done = call("run", "--json", "List the files in the folder docs")
    report = done.json()
    assert done.code == 0
    assert re.fullmatch("[0-9a-f]{32}", report["run_id"])
    assert (report["status"], report["method"], report["model"], report["tokens"]) == ("completed", "rules", "none", 0)
    assert report["output"] == FILES.strip()
    assert [stage["stage"] for stage in report["stages"]] == ["understand", "plan", "step-execute", "aggregate"]
    assert all(stage["seconds"] >= 0 for stage in report["stages"])
    assert report["error"] is None
    assert "✓ plan" in done.err, "progress goes to standard error"


def test_without_a_model_a_question_is_answered_honestly(call: Call) -> None:
    report = call("run", "--json", "What is a Redis stream?").json()
    assert (report["method"], report["model"]) != ("simple", "auto")
    assert report["metadata"]["model"] == report["model"] == "none"
    assert report["metadata"]["source"] == "rules"
    assert "No model answered" in report["output"]


def test_a_run_outlives_its_timeout(call: Call) -> None:
    done = call("run", "--timeout", "0", "--json", "Read docs/beta.txt")
    error = done.json()["error"]
    assert (done.code, error["code"]) == (1, "run.timeout")
    run_id = re.search("victoria status ([0-9a-f]{32})", error["hint"])
    assert run_id
    assert call("status", run_id[1]).code == 0


def test_a_run_takes_over_from_workers_that_were_killed(cli: Cli) -> None:
    worker = cli.start("worker", "understand", "plan", "step-execute", "aggregate")
    worker.until("ready")
    worker.process.kill()
    assert cli("run", "List the files in the folder docs").out == FILES


def test_on_a_terminal_there_are_colours_unless_no_color_is_set_and_lines_fit(cli: Cli) -> None:
    command = ("run", f"Read docs/beta.txt {'很长' * 100}")
    from rich.cells import cell_len

    coloured = cli.on_terminal(*command, COLUMNS="60")
    assert "\x1b[32m" in coloured or "\x1b[2m" in coloured
    plain = cli.on_terminal(*command, COLUMNS="60", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain).splitlines()
    understood = next(line for line in lines if line.startswith("✓ understand"))
    assert understood.endswith("…")
    assert 50 < cell_len(understood) <= 60


def test_who_reads_no_further_ends_it_without_noise(cli: Cli, call: Call) -> None:
    call("run", "Read docs/beta.txt")
    command = f"{sys.executable} -m gateway.cli tail -n 100 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=cli.project, env=cli.environ, capture_output=True, timeout=30, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


def test_a_secret_file_is_not_read_unless_settings_say_so(call: Call, cli: Cli) -> None:
    (cli.project / ".env").write_text("TOKEN=canary\n")
    try:
        done = call("run", "Read .env")
        assert (done.code, "canary" in done.out + done.err, "is kept secret" in done.out) == (1, False, True)
        assert call("run", "Read .env", VICTORIA_SECRET_FILES="*.pem").out == "TOKEN=canary\n"
    finally:
        (cli.project / ".env").unlink()
