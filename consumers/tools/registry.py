"""All tools by name. A new tool is one file beside this one, and its arguments in `_ANY`."""

from difflib import get_close_matches
from typing import cast, get_args

import msgspec

from consumers.tools.finish import Finish
from consumers.tools.list_directory import ListDirectory
from consumers.tools.read_file import ReadFile
from consumers.tools.tool import Tool, ToolArguments
from schemas.errors import ToolRefused
from schemas.plan import ToolCall

__all__ = ["TOOLS", "Action", "Finish", "Tool", "ToolArguments", "describe_tools", "parse_call"]

_ANY = ReadFile | ListDirectory | Finish

TOOLS: dict[str, Tool] = {tool.name: tool for tool in map(Tool.of, get_args(_ANY))}

Action = cast("type[ToolArguments]", _ANY)
"""What a model answers in one round of its loop: the union of all tools' arguments, told apart by the field `tool`."""


def parse_call(call: ToolCall) -> tuple[Tool, ToolArguments]:
    """The tool a call names, with its checked arguments. Raises ToolRefused `tool.unknown` or `tool.arguments`."""
    tool = TOOLS.get(call.tool)
    if tool is None:
        near = get_close_matches(call.tool[:80], TOOLS, n=1)
        raise ToolRefused(
            "tool.unknown",
            f"No tool is called {call.tool[:80]!r}.",
            f"Did you mean {near[0]}?" if near else f"The tools are {', '.join(TOOLS)}.",
        )
    fields = {"tool": tool.name, "thought": "", **call.arguments}
    try:
        return tool, msgspec.convert(fields, tool.arguments)
    except msgspec.ValidationError as problem:
        raise ToolRefused(
            "tool.arguments",
            f"The arguments of {tool.name} are wrong: {problem}.",
            f"It takes {', '.join(tool.parameters)}.",
        ) from problem


def describe_tools() -> str:
    """The tools for a prompt, one line each: `read_file(path): the text of one file`."""
    return "\n".join(f"{t.name}({', '.join(t.parameters)}): {t.description}" for t in TOOLS.values())
