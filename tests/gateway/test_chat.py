"""The chat as people meet it: in a terminal, with a model whose words the test knows."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anyio.from_thread import start_blocking_portal
from rich.cells import cell_len

from deploy.embedded import embedded
from tests.gateway.conftest import Cli
from tests.gateway.door import start
from tests.gateway.tmux import Tmux, needs_tmux
from tests.llm.fake_ollama import Body, Reply, fake_ollama

pytestmark = needs_tmux

RUSSIAN = "Поток Redis хранит события по порядку, и каждая группа читает его сама, пока не подтвердит всё прочитанное."
CHINESE = "流是按顺序保存事件的日志，每个消费者组独立读取，直到确认所有已读的条目为止，任何进程都可以随时停止。"


class Model:
    """Says what it is asked for by a word in the goal; `go` lets it say the rest."""

    def __init__(self) -> None:
        self.go = False

    async def __call__(self, reply: Reply, body: Body) -> None:
        said: str = body["messages"][-1]["content"]
        wanted: str = json.dumps(body.get("format"))
        await reply.begin()
        if "restated" in wanted:
            await reply.say(json.dumps({"restated": "?", "category": "simple", "first_step": ""}))
        elif "tool" in wanted:
            action = {"tool": "ask_user", "thought": "", "question": "Which page?", "choices": ["X", "Y"]}
            if "answer: Y" in said:
                action = {"tool": "finish", "thought": "", "answer": "Page Y is fine."}
            await reply.say(json.dumps(action))
        elif "endless" in said:
            await reply.say("It begins")
            await asyncio.sleep(60)
        else:
            text = CHINESE if "中文" in said else RUSSIAN
            await reply.say(text[:40])
            while not self.go:
                await asyncio.sleep(0.01)
            await reply.say(text[40:])
        await reply.done()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Cli]:
    """A project with a server, all stages, and that model."""
    project = tmp_path_factory.mktemp("home") / "project"
    (project / "docs").mkdir(parents=True)
    (project / "victoria.toml").touch()
    (project / "docs" / "alpha.txt").write_text("This is alpha.txt.\n")
    state = tmp_path_factory.mktemp("state")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_ollama()) as fake, embedded(state):
        fake.scripts["/api/chat"] = model
        cli = Cli(project, state)
        cli.environ |= {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": fake.url}
        worker = cli.start("up")
        worker.until("ready: ")
        yield cli
        assert worker.end(signal.SIGTERM)[0] == 0
        for running in cli.running:
            running.process.kill()
            running.process.wait()
            assert running.process.stdout
            running.process.stdout.close()


@pytest.fixture
def chat(office: Cli, tmp_path: Path) -> Iterator[Callable[..., Tmux]]:
    """Begins chats in terminals."""
    opened: list[Tmux] = []

    def begin(*arguments: str, columns: int = 80) -> Tmux:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(Tmux(folder, office, "chat", *arguments, columns=columns))
        opened[-1].until("/help\n", "›")
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def test_answers_come_word_by_word_and_wrap_at_60_columns_in_any_script(
    chat: Callable[..., Tmux], model: Model
) -> None:
    pane = chat(columns=60)
    for goal, text in (("Что такое поток?", RUSSIAN), ("用中文说什么是流？", CHINESE)):
        model.go = False
        pane.type(goal)
        assert "completed" not in pane.until(text[:20]).rpartition(goal)[2]
        model.go = True
        shown = pane.until(text[-12:], "completed").rpartition(goal)[2]
        lines = shown.splitlines()
        assert max(map(cell_len, lines)) <= 60
        assert text.replace(" ", "") in "".join(lines).replace(" ", "")
        assert re.search(r"✓ completed · \w+ · by \w+ · m:latest · \d+\.\d s · \d+ tokens", " ".join(shown.split()))
        assert shown.count(text[:10]) == 1, "what was shown as it came is gone"
    assert re.search(r"^› 用中文说什么是流？$", pane.screen, re.MULTILINE)


def test_a_question_is_answered_in_line(chat: Callable[..., Tmux]) -> None:
    pane = chat("--expert", "veronica", "--strategy", "react")
    pane.type("Look what is wrong with the page")
    pane.until("? Which page?", "1  X", "2  Y", "answer ›")
    pane.press("Enter")
    pane.until("It needs an answer.")
    pane.type("2")
    shown = pane.until("Page Y is fine.", "completed", "by veronica")
    assert shown.rstrip().endswith("›")


def test_a_run_is_cancelled_by_ctrl_c_and_the_next_goal_goes_on(chat: Callable[..., Tmux], model: Model) -> None:
    model.go = True
    pane = chat()
    pane.type("Say endless things")
    pane.until("It begins")
    pane.press("C-c")
    pane.until("· cancelled ·")
    pane.type("/cancel")
    pane.until("Nothing is under way.")
    pane.type("Read docs/alpha.txt")
    pane.until("This is alpha.txt.", "completed")
    pane.press("half a line", "C-c", "C-c")
    assert pane.ended() == 0


def test_a_chat_that_was_killed_is_taken_up_again_with_what_it_had_under_way(
    chat: Callable[..., Tmux], model: Model
) -> None:
    model.go = False
    pane = chat("--session", "trip")
    pane.type("Read docs/alpha.txt")
    pane.until("completed")
    pane.type("Что такое поток?")
    pane.until(RUSSIAN[:20])
    os.kill(pane.pid, signal.SIGKILL)
    again = chat("--session", "trip")
    again.until("› Read docs/alpha.txt", "This is alpha.txt.", RUSSIAN[:20])
    model.go = True
    again.until(RUSSIAN[-12:], "completed")


def test_a_door_that_is_killed_and_started_again_is_not_noticed(
    office: Cli, chat: Callable[..., Tmux], model: Model
) -> None:
    model.go = False
    door = start(office, "--alone")
    pane = chat("--url", door.url)
    pane.type("Что такое поток?")
    pane.until(RUSSIAN[:20])
    door.kill()
    pane.until("does not answer", "It is tried again.")
    start(office, "--alone", port=urlsplit(door.url).port or 0)
    model.go = True
    shown = pane.until(RUSSIAN[-12:], "completed")
    assert shown.count(RUSSIAN[:20]) == 1
    pane.type("/status")
    pane.until("models m:latest", door.url)
