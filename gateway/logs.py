"""Logs: structured events on standard error, for people on a terminal, as JSON elsewhere."""

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from schemas.errors import VictoriaError
from streams.outcome import named


class _StandardError:
    """Standard error as it is now: a spinner may have put something in its place, to print above itself."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: str, *, goals: bool = False) -> None:
    """Show log events from `level` (debug, info, warning, error) on.

    An exception may quote a goal: without `goals` its own words are left out, and where it was raised is said instead.
    """
    terminal = sys.stderr.isatty()
    colours = terminal and not os.environ.get("NO_COLOR")
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=colours)
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            partial(_problem, goals=goals, debug=level == "debug"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=_StandardError()),  # pyright: ignore[reportArgumentType]
        cache_logger_on_first_use=False,
    )


def debugging() -> bool:
    """Whether log events of level debug are shown."""
    return structlog.is_configured() and structlog.get_logger().bind().is_enabled_for(logging.DEBUG)


def _problem(
    _logger: Any, _method: str, event: MutableMapping[str, Any], *, goals: bool, debug: bool
) -> MutableMapping[str, Any]:
    """An exception in one line; the way to where it was raised is for who debugs."""
    problem = event.pop("exc_info", None)
    if isinstance(problem, BaseException):
        event["error"] = named(problem) if goals else _without_words(problem)
        if debug:
            way = traceback.format_exception(problem) if goals else traceback.format_tb(problem.__traceback__)
            event["exception"] = "".join(way)
    return event


def _without_words(problem: BaseException) -> str:
    """An exception's name, and its code or where it was raised."""
    name = type(problem).__name__
    if isinstance(problem, VictoriaError):
        return f"{name} [{problem.code}]"
    frames = traceback.extract_tb(problem.__traceback__)
    return f"{name} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name
