"""`run_terminal_cmd`: a program, without a shell, from a list of allowed ones, in a sandbox where there is one."""

from functools import partial
from typing import ClassVar

from anyio import to_thread

from consumers.tools import process, sandbox
from consumers.tools.plain import plain_output
from consumers.tools.programs import BOUNDED, Program, allowed_program
from consumers.tools.tool import Argv, Look, Site, ToolArguments
from schemas.errors import ToolRefused
from streams.stage import Effects


class RunTerminalCmd(ToolArguments, frozen=True, tag="run_terminal_cmd"):
    """Run one program in the project's folder; `argv` is its name and its arguments, each by itself. No shell."""

    description: ClassVar[str] = 'what a program says, as in ["grep", "-rn", "word", "."]; no shell, no pipes'
    capability: ClassVar[str] = "execution"
    effects: ClassVar[Effects] = "unknown"
    commands: ClassVar[tuple[str, ...]] = ("/run PROGRAM ARGUMENT ...",)
    look: ClassVar[Look] = Look("Run", "terminal")

    argv: Argv

    def policy(self) -> Effects:
        """What is bounded only looks; a program that the user added may write, where the project lets it."""
        return "none" if self.argv[0] in BOUNDED else self.effects

    async def run(self, site: Site) -> str:
        """What it said, and how it ended if not well. Raises ToolRefused `command.*`, `sandbox.*`, `path.secret`."""
        program, argv = await to_thread.run_sync(partial(_prepared, self.argv, site))
        limits = site.allowed.limits
        try:
            ended = await process.run(argv, limits, site.workspace.root, starts_others=not program.bounded)
        except OSError as problem:
            raise ToolRefused(
                "command.start",
                f"{self.argv[0]} can't be started: {problem.strerror}.",
                "Look whether the project's folder is there.",
            ) from problem
        said = plain_output(ended.output).rstrip()
        site.workspace.require_public(said, " ".join(self.argv))
        match ended.bound:
            case "output":
                return f"{said}\n(it said more than {limits.output:,} bytes and was ended)"
            case None if ended.code:
                return f"{said}\n(exit code {ended.code})".lstrip()
            case None:
                return said or "(it said nothing)"
            case bound:
                message, hint = _EXCEEDED[bound]
                raise ToolRefused(f"command.{bound}", message.format(self.argv[0], limits), hint)


_LESS = "Ask for less at once."
_EXCEEDED = {
    "seconds": ("{0} took longer than {1.seconds:g} s and was ended.", _LESS),
    "memory": ("{0} took more than {1.memory:,} bytes of memory and was ended.", _LESS),
    "disk": ("{0} wrote more than {1.disk:,} bytes and was ended.", "Write less; what is there, it left."),
    "processes": ("{0} started more than {1.processes} processes or threads and was ended.", _LESS),
    "root": (
        "{0} may start any number of processes, and the system does not hold root to a limit.",
        "Run Victoria as another user than root.",
    ),
}


def _prepared(words: tuple[str, ...], site: Site) -> tuple[Program, list[str]]:
    """The program, and the command that runs it."""
    program = allowed_program(words, site.allowed.programs, site.workspace.root)
    if bwrap := sandbox.working(site.allowed.sandbox):
        return program, sandbox.wrapped(bwrap, program.path, words[1:], site.workspace)
    if program.sandboxed:
        raise ToolRefused(
            "sandbox.missing",
            f"{words[0]} runs in a sandbox only, and bubblewrap does not work here.",
            "Install bubblewrap 0.8 or newer. read_file and list_directory need none.",
        )
    return program, [str(program.path), *words[1:]]
