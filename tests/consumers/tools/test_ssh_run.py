"""A command runs on a machine that settings name and whose key is known, and on no other."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import asyncssh
import pytest

from consumers.tools.allowed import Allowed, Host, Limits
from consumers.tools.ssh_run import SshRun
from consumers.tools.tool import Site
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused


class Far:
    """A real server on this machine; it knows some commands, and remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.commands: list[str] = []
        self.environments: list[dict[str, Any]] = []
        self.agents: list[object] = []
        self.hung_up = anyio.Event()
        for name in ("host", "user", "stranger"):
            key: Any = cast("Any", asyncssh).generate_private_key("ssh-ed25519")
            key.write_private_key(str(folder / name))
            key.write_public_key(str(folder / f"{name}.pub"))

    async def answer(self, process: Any) -> None:
        """What the far shell does."""
        self.commands.append(process.command)
        self.environments.append(dict(process.env))
        self.agents.append(process.get_extra_info("connection").get_agent_path())
        match process.command.split()[0]:
            case "hang":
                process.stdout.write("so far")
                await process.channel.wait_closed()
                self.hung_up.set()
            case "flood":
                try:
                    while True:
                        process.stdout.write("x" * 10_000)
                        await process.stdout.drain()
                finally:
                    self.hung_up.set()
            case "vanish":
                process.get_extra_info("connection").abort()
            case "fail":
                process.stderr.write("no \x1b[2J\n")
                process.exit(3)
            case _:
                process.stdout.write(f"did {process.command}\n")
                process.exit(0)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    far = Far(tmp_path)
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[str(tmp_path / "host")],
        authorized_client_keys=str(tmp_path / "user.pub"),
        process_factory=far.answer,
        agent_forwarding=True,
    )
    far.port = server.get_port()
    known = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{far.port} {known}")
    yield far
    server.close()
    await server.wait_closed()


def allowed(far: Far, **fields: Any) -> Allowed:
    usual: dict[str, Any] = {
        "hosts": (Host("127.0.0.1", far.port, "ops"),),
        "ssh_key": far.folder / "user",
        "known_hosts": far.folder / "known_hosts",
        "limits": Limits(seconds=5, output=1_000),
    }
    return Allowed(**(usual | fields))


async def ran(far: Far, *argv: str, host: str = "127.0.0.1", **fields: Any) -> str:
    return await SshRun("", host, argv).run(Site(Workspace(far.folder), allowed(far, **fields)))


async def refused(far: Far, *argv: str, host: str = "127.0.0.1", **fields: Any) -> ToolRefused:
    with pytest.raises(ToolRefused) as caught:
        await ran(far, *argv, host=host, **fields)
    assert caught.value.hint
    return caught.value


async def test_a_command_is_done_far_away_and_its_words_reach_the_far_shell_as_they_are(far: Far) -> None:
    assert await ran(far, "uptime") == "did uptime"
    await ran(far, "echo", "$(reboot)", "a b", ";", "x'y", "`id`", "-n", "")
    assert far.commands[1] == """echo '$(reboot)' 'a b' ';' 'x'"'"'y' '`id`' -n ''"""


async def test_how_it_ended_is_said(far: Far) -> None:
    assert await ran(far, "fail") == "no \\x1b[2J\n(exit code 3)"


async def test_nothing_is_forwarded_or_sent_along(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(far.folder / "agent"))
    monkeypatch.setenv("LC_SECRET", "x")
    await ran(far, "uptime")
    assert (far.environments, far.agents) == ([{}], [None])


async def test_the_users_own_ssh_configuration_is_not_read(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    home = far.folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(f"Host *\n  ProxyCommand touch {far.folder}/pwned\n  User root\n")
    monkeypatch.setenv("HOME", str(home))
    assert await ran(far, "uptime") == "did uptime"
    assert not (far.folder / "pwned").exists()


async def test_the_keys_of_the_users_agent_are_used_where_no_file_is_named(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert (await refused(far, "uptime", ssh_key=None)).code == "ssh.settings"
    agent = await anyio.open_process(["ssh-agent", "-D", "-a", str(far.folder / "agent")])
    try:
        with anyio.fail_after(10):
            while not (far.folder / "agent").exists():
                await anyio.sleep(0.02)
        environ = {**os.environ, "SSH_AUTH_SOCK": str(far.folder / "agent")}
        (far.folder / "user").chmod(0o600)
        await anyio.run_process(["ssh-add", str(far.folder / "user")], env=environ)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(far.folder / "agent"))
        assert await ran(far, "uptime", ssh_key=None) == "did uptime"
        assert far.agents == [None]
    finally:
        agent.kill()
        await agent.aclose()


@pytest.mark.parametrize(
    "host", ["evil.example", "-oProxyCommand=touch pwned", "localhost", "ops@127.0.0.1", "127.0.0.1:22", "127.0.0.1 "]
)
async def test_no_other_machine_is_reached(far: Far, host: str) -> None:
    assert (await refused(far, "uptime", host=host)).code == "ssh.host"
    assert far.commands == []


async def test_a_machine_with_another_key_is_not_spoken_to(far: Far) -> None:
    known = far.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{far.port} {(far.folder / 'stranger.pub').read_text()}")
    assert (await refused(far, "uptime")).code == "ssh.host_key"
    known.write_text("")
    assert (await refused(far, "uptime")).code == "ssh.host_key"
    known.unlink()
    assert (await refused(far, "uptime")).code == "ssh.settings"
    assert far.commands == []


@pytest.mark.parametrize(
    ("key", "code"), [("stranger", "ssh.denied"), ("none", "ssh.away"), ("known_hosts", "ssh.away")]
)
async def test_a_key_that_does_not_fit_or_is_none_is_a_refusal(far: Far, key: str, code: str) -> None:
    assert (await refused(far, "uptime", ssh_key=far.folder / key)).code == code


async def test_a_command_that_takes_too_long_is_left_and_hung_up(far: Far) -> None:
    refusal = await refused(far, "hang", limits=Limits(seconds=0.5))
    assert (refusal.code, "so far" in refusal.message) == ("ssh.seconds", True)
    with anyio.fail_after(10):
        await far.hung_up.wait()


async def test_endless_output_is_cut(far: Far) -> None:
    said = await ran(far, "flood")
    assert said == "x" * 1_000 + "\n(it said more than 1,000 bytes and was ended)"
    with anyio.fail_after(10):
        await far.hung_up.wait()


async def test_a_connection_that_is_lost_leaves_the_outcome_open_and_says_so(far: Far) -> None:
    assert (await refused(far, "vanish")).code == "ssh.lost"


async def test_a_machine_that_is_away_is_a_refusal(far: Far) -> None:
    hosts = (Host("127.0.0.1", 1),)
    assert (await refused(far, "uptime", hosts=hosts)).code == "ssh.away"


async def test_a_machine_that_never_says_hello_is_a_refusal(far: Far) -> None:
    async def hold(stream: Any) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as mute, anyio.create_task_group() as tasks:
        tasks.start_soon(mute.serve, hold)
        host = Host("127.0.0.1", mute.extra(anyio.abc.SocketAttribute.local_port))
        refusal = await refused(far, "uptime", hosts=(host,), limits=Limits(seconds=0.5))
        assert refusal.code == "ssh.away"
        tasks.cancel_scope.cancel()
