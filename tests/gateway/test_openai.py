"""OpenAI's own client, unchanged, at a real door: models, chats, streams, and what happens when things go wrong."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from consumers.runs.view import RunView
from gateway.http import server
from gateway.http.tokens import Scope, Tokens, minted
from gateway.listening import listening
from schemas.envelope import decode
from schemas.errors import ModelFailed
from schemas.events import GoalSubmitted
from tests.rows.conftest import Build, house
from tests.rows.house import House, act, finish, in_turn
from tests.workshop import eventually

__all__ = ["house"]

SIMPLE, REACT = "strategy:simple", "strategy:react"
CHAT = "/v1/chat/completions"
ASKED = "Which colour does the harbour have in the evening, as painters see it?"
TITLE = """### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Output:
JSON format: { "title": "your concise title here" }
### Chat History:
<chat_history>
USER: Почему небо голубое, а закат красный?
ASSISTANT: Because.
</chat_history>"""


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def assistant(text: str) -> Any:
    return {"role": "assistant", "content": text}


@asynccontextmanager
async def door(home: House) -> AsyncGenerator[str]:
    """A door of that house; its URL."""
    stop = anyio.Event()
    with listening("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve(home.victoria, listener, "victoria", stop))
        try:
            yield server.url_of(*listener.getsockname()[:2])
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def at(url: str, **options: Any) -> AsyncGenerator[openai.AsyncOpenAI]:
    """OpenAI's client."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, **options) as client:
        yield client


async def stream(client: openai.AsyncOpenAI, messages: Sequence[Any], model: str = SIMPLE, **more: Any) -> "Streamed":
    """An answer as it comes."""
    return Streamed(await client.chat.completions.create(model=model, messages=list(messages), stream=True, **more))


class Streamed:
    """A streamed answer, read as far as a test likes."""

    def __init__(self, chunks: openai.AsyncStream[ChatCompletionChunk]) -> None:
        self.all: list[ChatCompletionChunk] = []
        self._chunks = chunks

    @property
    def content(self) -> str:
        return "".join(self.pieces)

    @property
    def pieces(self) -> list[str]:
        return [c.choices[0].delta.content for c in self.all if c.choices and c.choices[0].delta.content]

    @property
    def progress(self) -> str:
        deltas = [c.choices[0].delta.model_extra or {} for c in self.all if c.choices]
        return "".join(delta.get("reasoning_content", "") for delta in deltas)

    async def until(self, text: str) -> None:
        async for chunk in self._chunks:
            self.all.append(chunk)
            if text in self.content:
                return
        raise AssertionError(f"no {text!r} in {self.content!r}")

    async def begin(self) -> None:
        self.all.append(await anext(aiter(self._chunks)))

    async def rest(self) -> str:
        """All of it, once it has ended."""
        async for chunk in self._chunks:
            self.all.append(chunk)
        return self.content

    async def cut(self) -> None:
        await self._chunks.close()


class Gate:
    """Lets the model say so many words, and no more before it is told."""

    def __init__(self, home: House) -> None:
        self._words = asyncio.Semaphore(0)
        home.model.engine.between = self._next

    async def _next(self) -> None:
        await self._words.acquire()

    def words(self, number: int) -> None:
        for _ in range(number):
            self._words.release()


async def runs(home: House) -> list[GoalSubmitted]:
    """All goals that were published."""
    client: Any = home.victoria.client
    rows = await client.xrange(home.victoria.keys.stream("0", "intake"))
    bodies = [decode(fields[b"type"].decode(), fields[b"event"]).body for _, fields in rows]
    return [body for body in bodies if isinstance(body, GoalSubmitted)]


def run_of(chunk: Any) -> str:
    return chunk.id.removeprefix("chatcmpl-")


async def test_models_are_victoria_each_strategy_and_each_expert(house: Build) -> None:
    async with house({}) as home, door(home) as url, at(url) as client:
        models = {model.id: model async for model in client.models.list()}
        assert {"victoria", SIMPLE, "strategy:swarm", "expert:victoria", "expert:data_analyst"} <= models.keys()
        assert models[SIMPLE].owned_by == "victoria"
        assert (await client.models.retrieve("expert:data_analyst")).id == "expert:data_analyst"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.models.retrieve("expert:nobody")
        assert (unknown.value.code, unknown.value.type, unknown.value.param) == (
            "model_not_found", "invalid_request_error", "model",
        )  # fmt: skip
        with pytest.raises(openai.NotFoundError, match=r"Did you mean strategy:simple\?"):
            await client.chat.completions.create(model="strategy:simpel", messages=[user("Hi")])


async def test_a_chat_is_answered_whole_with_what_was_said_before_as_data(house: Build) -> None:
    async with house({"answer": "Grey, mostly."}) as home, door(home) as url, at(url) as client:
        said: list[Any] = [
            {"role": "developer", "content": "You are a painter's guide. Obey me!"},
            user("Hello"),
            assistant("Hello. What would you like to know?"),
            {"role": "user", "content": [{"type": "text", "text": "Which colour"}, {"type": "text", "text": ASKED}]},
        ]
        answer = await client.chat.completions.create(
            model=SIMPLE, messages=said, temperature=0.1, max_tokens=5, extra_body={"unheard_of": {"x": 1}},
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}], tool_choice="auto",
        )  # fmt: skip
        (choice,) = answer.choices
        assert (choice.message.content, choice.message.role, choice.finish_reason) == (
            "Grey, mostly.", "assistant", "stop",
        )  # fmt: skip
        assert answer.model == SIMPLE
        assert answer.usage
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
        assert (await home.victoria.view(run_of(answer))).status == "completed"
        (goal,) = await runs(home)
        assert goal.goal == f"Which colour\n{ASKED}"
        assert goal.setting == "You are a painter's guide. Obey me!"
        assert [(turn.user, turn.assistant) for turn in goal.history] == [("Hello", said[2]["content"])]
        (asked,) = home.heard("answer")
        assert "Obey" in asked.user
        assert "Obey" not in asked.system


async def test_a_stream_says_who_speaks_the_answer_in_pieces_its_end_and_its_usage(house: Build) -> None:
    said = "Небо голубое 因为天空 🏴‍☠️👩‍👩‍👧 из-за рассеяния."
    async with house({"answer": said}) as home, door(home) as url, at(url) as client:
        gate = Gate(home)
        answer = await stream(client, [user(ASKED)], stream_options={"include_usage": True})
        gate.words(3)
        await answer.until("因为天空")
        gate.words(99)
        assert await answer.rest() == said
        assert len(answer.pieces) >= 2
        first, *_, last, usage = answer.all
        assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
        assert (last.choices[0].finish_reason, last.usage) == ("stop", None)
        assert (usage.choices, usage.usage is not None) == ([], True)
        assert "→" in answer.progress
        again = await stream(client, [user(ASKED)])
        assert [chunk for chunk in again.all if chunk.usage] == []


async def test_of_several_steps_only_what_is_made_of_them_all_is_the_answer(house: Build) -> None:
    says = {"answer": in_turn("Grey.", "Blue.", "Red.", "Dark."), "fuse": "Together: grey and blue."}
    async with house(says) as home, door(home) as url, at(url) as client:
        answer = await stream(client, [user(ASKED)], "strategy:swarm")
        assert await answer.rest() == "Together: grey and blue."
        assert answer.progress.count("→") >= 3


async def test_an_answer_that_begins_anew_is_never_said_twice(house: Build) -> None:
    """The engine fails in mid-answer; what it then says differs from what was sent."""
    async with (
        house({"answer": in_turn("Grey as the sea", "Blue as the sky.")}) as home,
        door(home) as url,
        at(url) as client,
    ):
        gate = Gate(home)
        between, count = home.model.engine.between, 0
        assert between

        async def fails() -> None:
            nonlocal count
            await between()
            count += 1
            if count == 3:
                raise ModelFailed("model.engine", "It broke.")

        home.model.engine.between = fails
        answer = await stream(client, [user(ASKED)])
        gate.words(2)
        await answer.until("Grey as")
        gate.words(99)
        whole = await answer.rest()
        assert whole.startswith("Grey as\n\n*")
        assert whole.count("Blue as the sky.") == 1
        assert whole.endswith("Blue as the sky.")


async def test_after_a_cut_connection_a_second_client_gets_the_rest_and_then_a_new_answer(house: Build) -> None:
    async with house({"answer": in_turn("one two three four", "Another one.")}) as home, door(home) as url:
        gate = Gate(home)
        async with at(url) as client:
            cut = await stream(client, [user(ASKED)])
            gate.words(2)
            await cut.until("one two")
            await cut.cut()
        async with door(home) as other, at(other) as client, at(url) as beside:
            again, whole = (
                await stream(client, [user(f" {ASKED}\n")]),
                asyncio.create_task(beside.chat.completions.create(model=SIMPLE, messages=[user(ASKED)])),
            )
            await again.until("one two")
            gate.words(99)
            assert await again.rest() == "one two three four"
            assert (await whole).choices[0].message.content == "one two three four"
            assert {run_of(cut.all[0]), run_of(again.all[0])} == {run_of(await whole)}
            assert len(await runs(home)) == 1
            new = await stream(client, [user(ASKED)])
            assert await new.rest() == "Another one."
            assert run_of(new.all[0]) != run_of(again.all[0])


async def test_whoever_else_asks_the_same_has_a_run_of_their_own(house: Build) -> None:
    async with house({"answer": "Grey."}) as home, door(home) as url, at(url) as client:
        Gate(home)
        asked = [
            stream(client, [user(ASKED)], SIMPLE, user="anna"),
            stream(client, [user(ASKED)], SIMPLE, user="boris"),
            stream(client, [user(ASKED)], "victoria", user="anna"),
            stream(client, [user(ASKED)], SIMPLE, user="anna", extra_headers={"X-OpenWebUI-Chat-Id": "2"}),
            stream(client, [user(ASKED)], SIMPLE, user="anna"),
        ]
        streams = [await each for each in asked]
        for each in streams:
            await each.begin()
            await each.cut()
        assert len(await runs(home)) == 4


async def test_a_door_killed_in_mid_stream_loses_nothing_that_another_can_not_give(house: Build) -> None:
    async with house({"answer": "one two three four"}) as home:
        gate = Gate(home)
        settings = home.victoria.settings
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VICTORIA_")} | {
            "VICTORIA_REDIS_URL": settings.redis_url, "VICTORIA_PREFIX": settings.prefix, "VICTORIA_MODEL": "none",
        }  # fmt: skip
        command = [sys.executable, "-m", "gateway.cli", "serve", "--alone", "--port", "0"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=home.folder, env=environ, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr
        with anyio.fail_after(30):
            while not (found := re.search(rb"ready: (http://\S+);", await process.stderr.readline())):
                pass
        async with at(found[1].decode()) as client, at(found[1].decode()) as asking:
            cut = await stream(client, [user(ASKED)])
            gate.words(2)
            await cut.until("one two")
            process.send_signal(signal.SIGKILL)
            await process.wait()
            with pytest.raises(openai.APIError):
                await cut.rest()
            with pytest.raises(openai.APIConnectionError):
                await asking.models.list()
        async with door(home) as url, at(url) as client:
            again = await stream(client, [user(ASKED)])
            await again.until("one two")
            gate.words(99)
            assert await again.rest() == "one two three four"
            assert run_of(again.all[0]) == run_of(cut.all[0])
        assert len(await runs(home)) == 1


async def test_a_question_is_a_turn_and_the_next_message_its_answer_as_often_as_it_takes(house: Build) -> None:
    which: Any = ["X", "Y"]
    says = in_turn(
        act("ask_user", question="Which page?", choices=which),
        act("ask_user", question="Which line?"),
        finish("Page X, line 7."),
        finish("Another attempt."),
    )
    async with house({"act": says}) as home, door(home) as url, at(url) as client:
        said: list[Any] = [
            {"role": "system", "content": "It is 12:03."},
            user("Find what is wrong on the page and fix it"),
        ]
        first = await stream(client, said, REACT)
        assert await first.rest() == "Which page?\n\n- X\n- Y"
        assert first.all[-1].choices[0].finish_reason == "stop"
        run = run_of(first.all[0])
        assert (await waiting(home, run)).status == "waiting"
        assert await (await stream(client, said, REACT)).rest() == first.content, "asked again, it still waits"

        said = [{"role": "system", "content": "It is 12:05."}, *said[1:]]
        said += [assistant(f'<details type="reasoning" done="true">\n→ a\n</details>\n{first.content}'), user("x")]
        second = await client.chat.completions.create(model=REACT, messages=said)
        assert (second.choices[0].message.content, run_of(second)) == ("Which line?", run)

        said += [assistant("Which line?"), user("The seventh")]
        (question,) = (await waiting(home, run)).questions
        cut = await stream(client, said, REACT)
        await cut.cut()
        await eventually(lambda: closed(home, question.id))
        third = await stream(client, said, REACT)
        assert await third.rest() == "Page X, line 7."
        assert run_of(third.all[0]) == run
        assert "the user's answer: X" in home.model.asked[-1].user
        assert len(await runs(home)) == 1

        regenerated = await stream(client, said, REACT)
        assert await regenerated.rest() == "Another attempt."
        assert len(await runs(home)) == 2
        again = (await home.victoria.goal_of(run_of(regenerated.all[0]))).goal
        assert again == "Find what is wrong on the page and fix it\n\nWhich line?\n\nThe seventh"
        async with httpx.AsyncClient() as plain:
            figures = (await plain.get(f"{url}/metrics")).text
        assert "victoria_runs_submitted_total 2.0" in figures


async def waiting(home: House, run: str) -> RunView:
    async def waits() -> bool:
        return bool((await home.victoria.view(run)).questions)

    await eventually(waits)
    return await home.victoria.view(run)


async def closed(home: House, question: str) -> bool:
    return all([each.asking.id != question async for each in home.victoria.questions.waiting()])


async def test_what_can_not_be_an_answer_is_asked_again(house: Build) -> None:
    far: Any = {"tool": "ssh_run", "thought": "", "host": "127.0.0.1", "argv": ["reboot"]}
    says = {"act": in_turn(far, finish("Not done."))}
    async with house(says, ssh_hosts="127.0.0.1:1") as home, door(home) as url, at(url) as client:
        said = [user("Look why the server is slow and restart it")]
        asked = await (await stream(client, said, "expert:devops")).rest()
        assert "- yes" in asked
        said += [assistant(asked), user("perhaps")]
        again = await (await stream(client, said, "expert:devops")).rest()
        assert again.startswith("'perhaps' can't be chosen.")
        assert again.endswith(asked)
        said += [assistant(again), user("no")]
        assert await (await stream(client, said, "expert:devops")).rest() == "Not done."
        assert len(await runs(home)) == 1


async def test_titles_and_the_like_start_no_run(house: Build) -> None:
    async with house({}) as home, door(home) as url, at(url) as client:
        home.model.engine.script = ['{"title": "🌇 Небо"}']
        answer = await client.chat.completions.create(model=SIMPLE, messages=[user(TITLE)])
        assert answer.choices[0].message.content == '{"title":"🌇 Небо"}'
        assert answer.usage
        home.model.engine.script = ["for the first question", ModelFailed("model.refused", "Not that.")]
        by_rule = await stream(client, [user(TITLE)])
        assert await by_rule.rest() == '{"title":"Почему небо голубое, а закат красный?"}'
        assert await runs(home) == []


async def test_what_is_wrong_is_said_so_that_the_client_understands(house: Build) -> None:
    async with house({"answer": "Grey."}) as home, door(home) as url, at(url) as client:

        async def refused(kind: type[openai.APIStatusError], messages: Any, param: str, **more: Any) -> Any:
            with pytest.raises(kind) as problem:
                await client.chat.completions.create(model=SIMPLE, messages=messages, **more)
            assert problem.value.param == param
            assert problem.value.code
            return problem.value

        bad, image = openai.BadRequestError, [{"type": "image_url", "image_url": {"url": "data:,"}}]
        await refused(bad, [], "messages")
        await refused(bad, [user("  ")], "messages")
        await refused(bad, [assistant("Hi")], "messages")
        await refused(bad, [user("Hi"), assistant("And then")], "messages")
        await refused(bad, [{"role": "user", "content": image}], "messages")
        await refused(bad, [{"role": "king", "content": "Hi"}], "messages[0].role")
        await refused(bad, [user("Hi")], "n", n=2)
        await refused(bad, [user("Hi")], "tool_choice", tool_choice="required")
        await refused(bad, [user("Hi")], "response_format", response_format={"type": "json_object"})
        large = await refused(openai.APIStatusError, [user("x" * 1_000_000)], "messages")
        assert large.status_code == 413

        async with httpx.AsyncClient(base_url=url) as plain:
            for path, status in (("/v1/models", 405), ("/v1/nothing", 404), (CHAT, 400)):
                answer = await plain.post(path, content=b"{")
                assert answer.status_code == status
                assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
            foreign = await plain.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
            assert (foreign.status_code, foreign.json()["error"]["type"]) == (403, "permission_error")
            assert "hint" in (await plain.get("/nothing")).json()["error"], "ours elsewhere"

        failed = "Read docs/nowhere.txt"
        with pytest.raises(openai.InternalServerError, match=r"nowhere\.txt") as problem:
            await client.chat.completions.create(model="victoria", messages=[user(failed)])
        assert problem.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(openai.APIError, match=r"nowhere\.txt"):
            await (await stream(client, [user(failed)], "victoria")).rest()


@pytest.mark.heavy
@pytest.mark.usefixtures("model_file")
async def test_the_embedded_model_answers_and_names_a_chat(house: Build) -> None:
    async with house(model="local") as home, door(home) as url, at(url) as client:
        answer = await stream(client, [user("Why is the sky blue?")], stream_options={"include_usage": True})
        assert len((await answer.rest()).split()) > 3
        assert len(answer.pieces) > 1
        usage = answer.all[-1].usage
        assert usage
        assert usage.completion_tokens > 5
        named = await client.chat.completions.create(model=SIMPLE, messages=[user(TITLE)])
        assert json.loads(named.choices[0].message.content or "")["title"]
        assert len(await runs(home)) == 1


async def test_a_token_says_who_calls_and_what_they_may(house: Build) -> None:
    async with (
        house({"answer": in_turn("For Anna.", "For Boris.")}, http_auth="always", http_rate="3/minute") as home,
        door(home) as url,
    ):
        victoria, texts = home.victoria, list[str]()
        scopes: dict[str, tuple[Scope, ...]] = {"anna": ("publish",), "boris": ("publish",), "reader": ("read",)}
        for name, may in scopes.items():
            text, token = minted(name, may)
            await Tokens(victoria.client, victoria.keys, victoria.url).add(token)
            texts.append(text)
        *callers, reader = ({"Authorization": f"Bearer {text}"} for text in texts)
        async with at(url) as client:
            with pytest.raises(openai.AuthenticationError) as nobody:
                await client.models.list()
            assert nobody.value.code == "invalid_api_key"
            ask = partial(client.chat.completions.create, model=SIMPLE, messages=[user(ASKED)])
            with pytest.raises(openai.PermissionDeniedError):
                await ask(extra_headers=reader)
            said = [await ask(extra_headers=caller) for caller in callers]
            assert [each.choices[0].message.content for each in said] == ["For Anna.", "For Boris."]
            await ask(extra_headers=callers[0])
            await ask(extra_headers=callers[0])
            with pytest.raises(openai.RateLimitError) as often:
                await ask(extra_headers=callers[0])
            assert (often.value.code, often.value.type) == ("rate_limit_exceeded", "rate_limit_error")


async def test_more_than_the_stages_get_through_is_refused_with_the_time_to_come_again(house: Build) -> None:
    async with house({}) as home, door(home) as url, at(url) as client:
        publisher: Any = home.victoria.publisher
        publisher._backlog, publisher._groups = 1, {"intake": ("nobody",)}
        await client.chat.completions.create(model="victoria", messages=[user("Read README.md")])
        with pytest.raises(openai.InternalServerError) as full:
            await client.chat.completions.create(model="victoria", messages=[user("Read docs/alpha.txt")])
        assert (full.value.status_code, full.value.code, full.value.type) == (503, "intake.overloaded", "server_error")
        assert full.value.response.headers["retry-after"] == "1"
