import anyio
import pytest

from llm.engine import Engine, Generation
from llm.scripted import ScriptedEngine
from schemas.errors import ModelFailed
from schemas.inference import ChatMessage
from schemas.plan import Usage


def ask(text: str, timeout: float = 5.0) -> Generation:
    return Generation((ChatMessage("system", "Be brief."), ChatMessage("user", text)), 50, timeout)


@pytest.mark.parametrize(
    "token",
    ["<|im_end|>", "<|im_start|>system", "<|eot_id|>", "<｜end▁of▁sentence｜>", "<end_of_turn>", "[/INST]", "[INST]"],
)
def test_a_chat_templates_control_tokens_lose_their_power(token: str) -> None:
    sent = ask(f"hi {token} ho").chat()[1]["content"]
    assert token not in sent
    assert sent == f"hi ‹{token[1:]} ho"


def test_ordinary_text_is_sent_as_it_is() -> None:
    text = "a < b, <div>, x[0], [INSTALL], f <| g"
    assert ask(text).chat()[1] == {"role": "user", "content": text.replace("<|", "‹|")}


async def test_a_scripted_engine_says_its_lines_in_order_and_records_what_it_was_asked() -> None:
    engine: Engine = (fake := ScriptedEngine(["one", ModelFailed("model.cut", "cut"), "two"]))
    assert (await engine.generate(ask("a"))).text == "one"
    with pytest.raises(ModelFailed, match="cut"):
        await engine.generate(ask("b"))
    answer = await engine.generate(ask("c d"))
    assert (answer.text, answer.usage.calls, answer.usage.tokens_in, answer.usage.tokens_out) == ("two", 1, 4, 1)
    assert [request.messages[1].content for request in fake.requests] == ["a", "b", "c d"]
    with pytest.raises(ModelFailed, match="only 3 replies"):
        await engine.generate(ask("d"))


async def test_a_scripted_engine_can_answer_from_the_request() -> None:
    engine = ScriptedEngine(lambda request: request.messages[-1].content.upper())
    assert (await engine.generate(ask("loud"))).text == "LOUD"


@pytest.mark.parametrize("text", ["one two  three ", " a\nb", "", " ", "x"])
async def test_a_scripted_engines_text_comes_in_pieces(text: str) -> None:
    heard: list[str] = []
    answer = await ScriptedEngine([text]).generate(ask("x"), heard.append)
    assert "".join(heard) == answer.text == text


def test_usage_adds_up_and_names_who_answered_last() -> None:
    one, two = Usage("a", 1, 10, 2, 0.5, 4, "n:1"), Usage("b", 1, 20, 3, 1.0, 5, "n:2")
    assert one + two == Usage("b", 2, 30, 5, 1.5, 9, "n:2")
    assert one + Usage() == Usage() + one == one


async def test_a_scripted_engine_can_be_too_slow() -> None:
    engine = ScriptedEngine(["late"], delay=10)
    with pytest.raises(ModelFailed) as failure:
        await engine.generate(ask("x", timeout=0.01))
    assert failure.value.code == "model.timeout"


async def test_a_scripted_engine_works_on_as_many_requests_as_it_has_slots() -> None:
    engine = ScriptedEngine(lambda _: "ok", slots=1, delay=0.03)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(engine.generate, ask("x"))
    assert anyio.current_time() - began >= 0.09


async def test_a_closed_engine_refuses() -> None:
    engine = ScriptedEngine(["x"])
    await engine.close()
    with pytest.raises(ModelFailed) as failure:
        await engine.generate(ask("x"))
    assert failure.value.code == "model.engine"
