"""Preparing a goal for whoever works on it: the words without what was only for routing, and what it was said in."""

import re
from collections.abc import Sequence

from consumers.memory import Memory, told
from llm.prompts import excerpt
from schemas.events import Exchange

CONTEXT_CHARACTERS = 4_000
TURN_CHARACTERS = 500
"""Of each side of an earlier turn, what a context holds."""
SETTING_CHARACTERS = 1_000
"""Of what a program says of the whole conversation."""
TURNS = 6
"""Earlier turns in a context, the last ones."""
_ADDRESS = re.compile(r"\s*@\w{1,40}[\s,:，：]+")
_SPACES = re.compile(r"[^\S\n]+")


def normalised(goal: str, experts: Sequence[str] = ()) -> str:
    """The goal without the expert it is addressed to, and with single spaces. Never empty where the goal is not."""
    address = _ADDRESS.match(goal)
    if address and address[0].strip(" \t\n@,:，：").casefold() in experts:
        goal = goal[address.end() :] or goal
    return _SPACES.sub(" ", goal).strip()


def context(history: Sequence[Exchange], project: str, setting: str = "", memories: Sequence[Memory] = ()) -> str:
    """What a goal is said in, for prompts: the project, the setting, what is remembered, and the last turns. Data: no
    order of anybody's stands in it.

    Without these there is nothing to be told: the project's name alone would only distract.
    """
    setting = excerpt(setting, SETTING_CHARACTERS)
    turns = [
        f"User: {excerpt(turn.user, TURN_CHARACTERS)}\nVictoria: {excerpt(turn.assistant, TURN_CHARACTERS)}"
        for turn in history[-TURNS:]
    ]
    if not (turns or setting or memories):
        return ""
    about = [f"Project: {project}"] if project else []
    about += [f"Setting: {setting}"] if setting else []
    about += map(told, memories)
    return excerpt("\n".join([*about, *turns]), CONTEXT_CHARACTERS)
