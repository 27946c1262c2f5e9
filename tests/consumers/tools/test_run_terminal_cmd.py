"""A program runs in the project's folder, in a sandbox where there is one, and what it says comes back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from consumers.tools import sandbox
from consumers.tools.allowed import Allowed, Limits
from consumers.tools.programs import BOUNDED, FOLDERS, allowed_program
from consumers.tools.run_terminal_cmd import RunTerminalCmd
from consumers.tools.tool import Site
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused

WITHIN = 10.0
needs_sandbox = pytest.mark.skipif(not sandbox.working(None), reason="bubblewrap does not work here")
SH = ("sh", "ls", "cat", "date", "echo")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a.md").write_text("alpha\nbeta\n")
    (root / ".env").write_text("x=1")
    return root


async def ran(project: Path, *argv: str, writable: bool = False, allowed: Allowed | None = None) -> str:
    site = Site(Workspace(project, writable=writable), allowed or Allowed(programs=SH))
    return await RunTerminalCmd("", argv).run(site)


def processes(text: str) -> list[str]:
    """Process ids whose command line has `text`."""
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.append(folder.name)
        except OSError:
            continue
    return found


# In either case


@pytest.mark.parametrize("bwrap", [None, ""])
async def test_what_reads_no_files_runs_everywhere(project: Path, bwrap: str | None) -> None:
    allowed = Allowed(programs=SH, sandbox=bwrap)
    assert await ran(project, "echo", "a  b", "$HOME", "*", allowed=allowed) == "a  b $HOME *"
    assert float(await ran(project, "date", "+%s", allowed=allowed)) == pytest.approx(time.time(), abs=5)


async def test_without_a_sandbox_what_reads_files_is_refused_with_what_to_do(project: Path) -> None:
    with pytest.raises(ToolRefused) as caught:
        await ran(project, "ls", allowed=Allowed(sandbox=""))
    assert (caught.value.code, "bubblewrap" in caught.value.hint) == ("sandbox.missing", True)
    assert sandbox.working("/nowhere/bwrap") == ""


@pytest.mark.parametrize("name", BOUNDED)
def test_every_program_of_the_default_is_known_where_it_is_installed(name: str, project: Path) -> None:
    if not any(Path(folder, name).exists() for folder in FOLDERS):
        pytest.skip(f"there is no {name} here")
    path = allowed_program((name,), BOUNDED, project).path
    assert (path.name, Path(os.path.realpath(path.parent))) == (name, path.parent)


@pytest.mark.parametrize(
    "argv",
    [
        ("ls", "-la", "docs"),
        ("head", "-n5", "docs/a.md"),
        ("head", "-5", "docs/a.md"),
        ("tail", "-n", "+2", "docs/a.md"),
        ("tail", "--lines=1", "docs/a.md"),
        ("grep", "-rn", "-e", "-beta", "--include=*.md", "."),
        ("find", ".", "(", "-name", "*.md", "-o", "-type", "d", ")", "-not", "-path", "./x", "-print"),
        ("sort", "-t:", "-k", "2,2n", "docs/a.md"),
        ("uniq", "-c", "docs/a.md"),
        ("cut", "-d", "-", "-f1", "docs/a.md"),
        ("wc", "-l", "--", "docs/a.md"),
        ("date", "-u", "+%F"),
    ],
)
def test_usual_options_are_allowed(argv: tuple[str, ...], project: Path) -> None:
    assert allowed_program(argv, BOUNDED, project).bounded


def test_a_program_may_be_allowed_by_its_path_but_never_one_of_the_project(project: Path) -> None:
    assert allowed_program(("sh", "-c", "x"), ("/bin/sh",), project).sandboxed
    tool = project / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    (project.parent / "linked").symlink_to(tool)
    for entry, code in (
        (str(tool), "project"),
        (str(project.parent / "linked"), "project"),
        ("relative/sh", "missing"),
    ):
        with pytest.raises(ToolRefused, match=rf"command\.{code}"):
            allowed_program((Path(entry).name,), (entry,), project)


async def test_a_project_that_is_gone_is_a_refusal(project: Path) -> None:
    with pytest.raises(ToolRefused, match=r"command\.start"):
        await ran(project / "none", "echo", "x", allowed=Allowed(sandbox=""))


# In the sandbox


@needs_sandbox
async def test_a_program_sees_the_project_and_says_what_it_found(project: Path) -> None:
    assert await ran(project, "cat", "docs/a.md") == "alpha\nbeta"
    assert await ran(project, "sh", "-c", "pwd") == str(project)
    assert await ran(project, "sh", "-c", ":") == "(it said nothing)"


@needs_sandbox
async def test_an_exit_code_is_said_and_both_outputs_in_their_order(project: Path) -> None:
    assert await ran(project, "sh", "-c", "echo a; echo b >&2; echo c; exit 3") == "a\nb\nc\n(exit code 3)"
    assert await ran(project, "sh", "-c", "kill -9 $$") == "(exit code 137)"


@needs_sandbox
async def test_a_project_is_read_only_unless_it_is_said_to_be_writable(project: Path) -> None:
    assert "Read-only file system" in await ran(project, "sh", "-c", "echo x > new")
    assert not (project / "new").exists()
    await ran(project, "sh", "-c", "echo x > new; rm docs/a.md", writable=True)
    assert ((project / "new").read_text(), (project / "docs" / "a.md").exists()) == ("x\n", False)


@needs_sandbox
async def test_secrets_are_covered_as_settings_say(project: Path) -> None:
    assert "Permission denied" in await ran(project, "cat", ".env")
    site = Site(Workspace(project, secrets=["docs"]), Allowed(programs=SH))
    assert await RunTerminalCmd("", ("cat", ".env")).run(site) == "x=1"
    assert await RunTerminalCmd("", ("ls", "docs")).run(site) == "(it said nothing)"


@needs_sandbox
async def test_a_folder_that_holds_the_system_is_no_project_for_programs() -> None:
    for root, code in (("/", r"command\.project"), ("/etc", r"sandbox\.folder")):
        with pytest.raises(ToolRefused, match=code):
            await ran(Path(root), "ls")


@needs_sandbox
async def test_a_program_of_the_users_own_is_seen_in_the_sandbox(project: Path, tmp_path: Path) -> None:
    tool = tmp_path / "hello"
    tool.write_text("#!/bin/sh\necho hello from $0\n")
    tool.chmod(0o755)
    assert await ran(project, "hello", allowed=Allowed(programs=(str(tool),))) == f"hello from {tool}"


@needs_sandbox
async def test_one_that_is_cancelled_is_gone_at_once(project: Path) -> None:
    mark, began = f"9{time.monotonic_ns()}", 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ran, project, "sh", "-c", f"sleep {mark} & sleep {mark}")
        with anyio.fail_after(WITHIN):
            while len(processes(f"sleep\0{mark}")) < 2:
                await anyio.sleep(0.02)
        began = time.monotonic()
        tasks.cancel_scope.cancel()
    assert time.monotonic() - began < 5
    assert processes(mark) == []


WORKER = """
import anyio, sys
from pathlib import Path
from consumers.tools.allowed import Allowed
from consumers.tools.run_terminal_cmd import RunTerminalCmd
from consumers.tools.tool import Site
from consumers.tools.workspace import Workspace
site = Site(Workspace(Path(sys.argv[1])), Allowed(programs=("sh",)))
anyio.run(RunTerminalCmd("", ("sh", "-c", f"setsid sleep {sys.argv[2]} & sleep {sys.argv[2]}")).run, site)
"""


@needs_sandbox
async def test_when_the_worker_is_killed_its_programs_die_with_it(project: Path) -> None:
    mark = f"8{time.monotonic_ns()}"
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(project), mark])  # noqa: ASYNC220
    with anyio.fail_after(WITHIN):
        while len(processes(f"sleep\0{mark}")) < 2:
            await anyio.sleep(0.02)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        while processes(mark):
            await anyio.sleep(0.02)


@needs_sandbox
async def test_many_programs_at_once_do_not_count_against_each_other(project: Path) -> None:
    said: list[str] = []
    allowed = Allowed(programs=SH, limits=Limits(processes=8))

    async def one() -> None:
        said.append(await ran(project, "sh", "-c", "sleep 0.1 & sleep 0.1 & wait; echo done", allowed=allowed))

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(one)
    assert said == ["done"] * 12


@needs_sandbox
async def test_a_program_that_fills_the_disk_file_by_file_is_ended(project: Path) -> None:
    allowed = Allowed(programs=(*SH, "head"), limits=Limits(seconds=20, disk=100 << 20))
    fills = "i=0; while :; do i=$((i+1)); head -c 30000000 /dev/zero > $i; done"
    with pytest.raises(ToolRefused) as refused:
        await ran(project, "sh", "-c", fills, writable=True, allowed=allowed)
    assert refused.value.code == "command.disk"
    assert f"{100 << 20:,} bytes" in refused.value.message
