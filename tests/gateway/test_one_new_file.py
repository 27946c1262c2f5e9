"""An expert, a strategy and a tool of one's own are one new file each, and nothing else changes."""

import json
from pathlib import Path

import pytest

from tests.gateway.conftest import Cli
from tests.llm.fake_ollama import Body, FakeOllama, Reply

EXPERT = """\
name: beekeeper
display_name: Beekeeper
title: Looks after bees
department: garden
rank: assistant
tools: [finish]
capabilities: {bees: 0.9}
instructions: You look after bees, and never hurry.
keywords:
  sure: {en: [my bees, my beehive]}
"""
STRATEGY = """\
from typing import ClassVar

from consumers.strategies.strategy import Ask, Brief, Strategy
from schemas.plan import Plan, Step


class Twice(Strategy):
    name: ClassVar[str] = "twice"
    description: ClassVar[str] = "two answers, the second upon the first"

    async def shape(self, brief: Brief, ask: Ask) -> Plan:
        first = Step("1", "first", brief.goal, how="answer", inner=True)
        return Plan(self.name, (first, Step("2", "second", brief.goal, how="answer", depends_on=("1",))))
"""
TOOL = """\
from typing import ClassVar

from consumers.tools.tool import Site, ToolArguments


class Weather(ToolArguments, frozen=True, tag="weather"):
    description: ClassVar[str] = "the weather in a city"

    city: str

    async def run(self, site: Site) -> str:
        return f"It rains in {self.city}."
"""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Folders of one's own, empty as yet, by the settings that name them."""
    names = ("experts", "strategies", "tools")
    for name in names:
        (tmp_path / name).mkdir()
    return {f"VICTORIA_{name.upper()}_DIR": str(tmp_path / name) for name in names}


def says(ollama: FakeOllama, *actions: dict[str, str]) -> None:
    """The model's actions, one after the other; and what it says where none is asked for."""
    coming = iter(actions)

    async def script(reply: Reply, body: Body) -> None:
        await reply.begin()
        await reply.say(json.dumps(next(coming)) if "finish" in str(body.get("format")) else "So it is.")
        await reply.done()

    ollama.scripts["/api/chat"] = script


def act(tool: str, **arguments: str) -> dict[str, str]:
    return {"tool": tool, "thought": "", **arguments}


def test_an_expert(cli: Cli, ollama: FakeOllama, folders: dict[str, str], tmp_path: Path) -> None:
    at = {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url, **folders}
    goal = "look after my bees in my beehive"
    before = cli("run", goal, "--json", **at).json()
    (tmp_path / "experts" / "beekeeper.yaml").write_text(EXPERT)
    says(ollama, act("finish", answer="Bzz."))
    after = cli("run", goal, "--json", **at).json()
    assert [step["expert"] for step in before["metadata"]["steps"]] == ["victoria"]
    assert [step["expert"] for step in after["metadata"]["steps"]] == ["beekeeper"]
    assert after["output"] == "Bzz."
    assert "never hurry" in ollama.chats[-1]["messages"][0]["content"]


def test_a_strategy(cli: Cli, ollama: FakeOllama, folders: dict[str, str], tmp_path: Path) -> None:
    at = {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url, **folders}
    says(ollama)
    before = cli("run", "Zzz", "--strategy", "twice", "--json", **at)
    (tmp_path / "strategies" / "twice.py").write_text(STRATEGY)
    after = cli("run", "Zzz", "--strategy", "twice", "--json", **at).json()
    assert "strategy.unknown" in before.out
    assert (after["method"], len(after["metadata"]["steps"])) == ("twice", 2)
    assert "So it is." in ollama.chats[-1]["messages"][1]["content"], "the second answer knows the first"


def test_a_tool(cli: Cli, ollama: FakeOllama, folders: dict[str, str], tmp_path: Path) -> None:
    at = {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url, **folders}
    (tmp_path / "tools" / "weather.py").write_text(TOOL)
    says(ollama, act("weather", city="Riga"), act("finish", answer="Take an umbrella."))
    done = cli("run", "Zzz", "--strategy", "react", "--json", **at).json()
    assert done["output"] == "Take an umbrella."
    assert [step["tools"] for step in done["metadata"]["steps"]] == [["weather"]]
    assert "It rains in Riga." in ollama.chats[-1]["messages"][1]["content"]
