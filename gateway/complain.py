"""How a command ends when something is wrong: a code, a sentence and a hint, never a traceback, and an exit code."""

import re
import sys
import traceback
from collections.abc import Iterator
from typing import TypeVar, cast

from typer.exceptions import TyperException

from gateway.logs import debugging
from gateway.screen import ERR, emit, styled
from schemas.errors import InvalidInput, Overloaded, VictoriaError
from streams.connection import masked

E = TypeVar("E", bound=BaseException)


class Interrupted(VictoriaError):
    """The user pressed Ctrl-C."""

    exit_code = 130


class Bug(VictoriaError):
    """Something nobody thought of."""


def complain(problem: BaseException, as_json: bool) -> int:
    """Tell what is wrong, for people on standard error or as one JSON object on standard output; the exit code."""
    if any(leaves(problem, BrokenPipeError)) or any(leaves(problem, SystemExit)):
        return 1  # whoever read our output has enough, as `head` does; SystemExit is Rich's word for it
    error = next(leaves(problem, VictoriaError), None) or _as_ours(next(leaves(problem, BaseException)))
    error.message, error.hint = _shown(error.message), _shown(error.hint)
    if isinstance(error, Bug) and debugging():
        traceback.print_exception(problem)
    if as_json:
        more = {"retry_after": error.retry_after} if isinstance(error, Overloaded) else {}
        emit({"error": {"code": error.code, "message": error.message, "hint": error.hint, **more}})
    else:
        mark = () if isinstance(error, Interrupted) else (("error", "bold red"), " ")
        ERR.print(styled(*mark, f"{error.message} ", (f"[{error.code}]", "dim")), soft_wrap=True)
        if error.hint:
            ERR.print(styled(("hint", "bold"), f"  {error.hint}"), soft_wrap=True)
    return error.exit_code


def _shown(text: str) -> str:
    """Text that is Unicode, and whose URLs show no password, also where one was given in a wrong place."""
    return re.sub(r"[\w+.-]+://[^\s'\")]+", lambda url: masked(url[0]), text.encode(errors="replace").decode())


def wants_json(arguments: list[str]) -> bool:
    """Whether a command is called with --json; also where its other arguments are wrong."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def leaves(problem: BaseException, kind: type[E]) -> Iterator[E]:
    """The exceptions of one kind in what may be a group of groups."""
    if isinstance(problem, BaseExceptionGroup):
        for part in cast("tuple[BaseException, ...]", problem.exceptions):
            yield from leaves(part, kind)
    elif isinstance(problem, kind):
        yield problem


def _as_ours(problem: BaseException) -> VictoriaError:
    match problem:
        case KeyboardInterrupt():
            return Interrupted("interrupted", "Interrupted.")
        case OSError():
            return VictoriaError("system", f"The system refuses: {problem}", "Correct that, and try again.")
        case _ if not _is_text(*sys.argv[1:]):  # names of files may be anything, all else stumbles over that somewhere
            return InvalidInput("usage.encoding", "An argument is not valid Unicode text.", "Write it in UTF-8.")
        case TyperException():
            context = getattr(problem, "ctx", None)
            hint = f"{context.get_usage()}; `{context.command_path} --help` says more." if context else ""
            return InvalidInput("usage", problem.format_message(), hint)
        case _:
            what = f"{type(problem).__name__}: {problem}".rstrip(": ").replace("\n", " ")
            hint = "`--set log_level=debug` shows where." if not debugging() else "Please report it."
            return Bug("bug", f"Victoria made a mistake: {what}", hint)


def _is_text(*arguments: str) -> bool:
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        return False
    return True
