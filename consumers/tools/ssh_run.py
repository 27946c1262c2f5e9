"""`ssh_run`: a command on another machine, of those that settings name and whose keys are known.

Nothing of the user's ssh configuration is read, which could run programs of its own; nothing is forwarded, and a
password is never asked for. The far shell gets the arguments quoted, so that it takes them as they are.
"""

import os
import shlex
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import anyio
from anyio import to_thread
from msgspec import Meta

from consumers.tools.allowed import Allowed, Host
from consumers.tools.plain import plain_output
from consumers.tools.tool import Argv, Look, Site, ToolArguments
from schemas.errors import ToolRefused
from streams.stage import Effects


class SshRun(ToolArguments, frozen=True, tag="ssh_run"):
    """Run one command on another machine; `argv` is a program's name and its arguments, each by itself. No shell."""

    description: ClassVar[str] = "what a program says on another machine; no shell, no pipes"
    capability: ClassVar[str] = "system_admin"
    effects: ClassVar[Effects] = "unknown"
    approval: ClassVar[bool] = True
    commands: ClassVar[tuple[str, ...]] = ("/ssh HOST PROGRAM ARGUMENT ...",)
    look: ClassVar[Look] = Look("Run far away", "terminal")

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    argv: Argv

    @classmethod
    def missing(cls, allowed: Allowed) -> str:
        """Without hosts, or without the library, there is nothing to reach."""
        if not allowed.hosts:
            return "The setting `ssh_hosts` names no machine."
        return "" if find_spec("asyncssh") else "Install what it needs: pip install victoria-streams[ssh]"

    async def run(self, site: Site) -> str:
        """What it said, and how it ended if not well. Raises ToolRefused `ssh.*`."""
        host = _host(self.host, site.allowed)
        if any("\0" in word for word in self.argv):
            raise ToolRefused("ssh.invalid", "An argument holds a NUL.", "Write it as text.")
        said = bytearray()
        begun = False
        try:
            with anyio.fail_after(site.allowed.limits.seconds):
                connection = await _connected(host, site.allowed)
                try:
                    begun = True
                    return await _said(connection, self.argv, said, site.allowed.limits.output)
                finally:
                    connection.abort()  # a command that still runs loses its channel, and is hung up
        except TimeoutError:
            after = f"It had said: {plain_output(bytes(said[-1_000:]))}" if said else "It had said nothing."
            raise ToolRefused(
                "ssh.seconds" if begun else "ssh.away",
                f"{self.host} took longer than {site.allowed.limits.seconds:g} s. {after}",
                "Ask for less at once." if begun else "Look whether the machine runs.",
            ) from None


def _host(name: str, allowed: Allowed) -> Host:
    for host in allowed.hosts:
        if name in (host.name, f"{host.name}:{host.port}"):
            return host
    names = ", ".join(host.name for host in allowed.hosts)
    raise ToolRefused(
        "ssh.host", f"{name[:80]!r} is none of the machines that may be reached.", f"They are {names[:500]}."
    )


async def _connected(host: Host, allowed: Allowed) -> Any:
    """A connection to a machine that proved to be the one we know. Raises ToolRefused."""
    import asyncssh  # late: few need it

    known = allowed.known_hosts.expanduser()
    agent = None if allowed.ssh_key else os.environ.get("SSH_AUTH_SOCK")
    for fine, message, hint in (
        (known.is_file(), f"There is no file {known} of known machines.", "Connect once by ssh, and check the key."),
        (agent or allowed.ssh_key, "No ssh-agent runs, and `ssh_key` names no key.", "Name one, or start an agent."),
    ):
        if not fine:
            raise ToolRefused("ssh.settings", message, hint)
    user = {"username": host.user} if host.user else {}
    try:
        keys: Any = ()
        if allowed.ssh_key:
            keys = [await to_thread.run_sync(asyncssh.read_private_key, str(allowed.ssh_key))]
        return await asyncssh.connect(
            host.name,
            host.port,
            **user,
            config=None,
            known_hosts=str(known),
            client_keys=keys,
            agent_path=agent,
            agent_forwarding=False,
            preferred_auth="publickey",
            x509_trusted_certs=None,
            gss_host=None,
        )
    except asyncssh.HostKeyNotVerifiable as problem:
        raise ToolRefused(
            "ssh.host_key",
            f"{host.name} has another key than {known} says, or none is known.",
            "Connect once by ssh, and check the key; a changed one may be somebody else.",
        ) from problem
    except asyncssh.PermissionDenied as problem:
        raise ToolRefused(
            "ssh.denied", f"{host.name} does not let us in: {problem.reason}", "Put our public key there."
        ) from problem
    except (asyncssh.KeyImportError, asyncssh.Error, OSError, ValueError) as problem:
        if isinstance(problem, TimeoutError):
            raise
        raise ToolRefused(
            "ssh.away",
            f"{host.name} can't be reached: {type(problem).__name__}: {problem}"[:500],
            "Look whether the machine runs.",
        ) from problem


async def _said(connection: Any, argv: tuple[str, ...], said: bytearray, most: int) -> str:
    """Run the command and read what it says, into `said`, to its end or until that is too much."""
    import asyncssh

    try:
        process = await connection.create_process(
            shlex.join(argv), stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding=None, request_pty=False
        )
        while len(said) <= most:
            piece = await process.stdout.read(most + 1 - len(said))
            if not piece:
                break
            said += piece
        text = plain_output(bytes(said[:most])).rstrip()
        if len(said) > most:
            return f"{text}\n(it said more than {most:,} bytes and was ended)"
        await process.wait_closed()
    except (asyncssh.Error, OSError) as problem:
        if isinstance(problem, TimeoutError):
            raise
        raise ToolRefused(
            "ssh.lost",
            f"The connection was lost after the command was sent: {problem}"[:500],
            "Look there whether it was done.",
        ) from problem
    code = process.exit_status
    if code == 0:
        return text or "(it said nothing)"
    how = f"exit code {code}" if code is not None and code >= 0 else "ended by a signal"
    return f"{text}\n({how})".lstrip()
