"""Logs: structured events on standard error, for people on a terminal, as JSON elsewhere."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from streams.outcome import named


class _StandardError:
    """Standard error as it is now: a spinner may have put something in its place, to print above itself."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: str) -> None:
    """Show log events from `level` (debug, info, warning, error) on."""
    terminal = sys.stderr.isatty()
    colours = terminal and not os.environ.get("NO_COLOR")
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if level == "debug" else [_in_one_line]),
            *([] if terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=_StandardError()),  # pyright: ignore[reportArgumentType]
        cache_logger_on_first_use=False,
    )


def debugging() -> bool:
    """Whether log events of level debug are shown."""
    return structlog.is_configured() and structlog.get_logger().bind().is_enabled_for(logging.DEBUG)


def _in_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception's name and message; where it was raised is for who debugs."""
    problem = event.pop("exc_info", None)
    if isinstance(problem, BaseException):
        event["error"] = named(problem)
    return event
