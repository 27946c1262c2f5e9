"""A known answer at the doors: it says whose it is, and there is a way past it and a way to clear it."""

import re

from tests.gateway.conftest import Call
from tests.gateway.indoors import indoors
from tests.gateway.test_openai import SIMPLE, at, door, user
from tests.llm.fake_ollama import FakeOllama
from tests.rows.conftest import Build, house
from tests.rows.house import in_turn

__all__ = ["house"]

QUESTION = "What is a Redis stream?"


async def test_over_http_a_known_answer_says_whose_it_is_and_fresh_finds_it_anew(house: Build) -> None:
    body = {"goal": QUESTION, "async_mode": 0}
    says = {"answer": in_turn("One.", "Two.", "Three.")}
    async with house(says, answer_cache="600") as home, indoors(home.victoria) as client:
        first = (await client.post("/run", json=body)).json()
        assert "known" not in first["knowledge"]
        again = (await client.post("/run", json=body)).json()
        assert (again["status"], again["output"]) == ("success", "One.")
        known = again["knowledge"]
        assert (known["known"]["run"], known["calls"]) == (first["knowledge"]["task_id"], 0)
        status = (await client.get(f"/run/status/{known['task_id']}")).json()
        assert status["knowledge"] == known
        fresh = (await client.post("/run", json={**body, "fresh": True})).json()
        assert (fresh["output"], "known" in fresh["knowledge"]) == ("Two.", False)
        assert (await client.post("/run", json=body)).json()["output"] == "Two."


async def test_a_chat_client_has_the_known_answer_but_for_another_attempt_a_seed_or_another_person(
    house: Build,
) -> None:
    says = {"answer": in_turn(*(f"Answer {number}." for number in range(9)))}
    async with house(says, answer_cache="600") as home, door(home) as url, at(url) as client:

        async def said(chat: str, person: str = "anna", seed: int | None = None) -> str:
            done = await client.chat.completions.create(
                model=SIMPLE,
                messages=[user(QUESTION)],
                user=person,
                extra_headers={"x-openwebui-chat-id": chat},
                seed=seed,
            )
            return done.choices[0].message.content or ""

        first = await said("one")
        assert await said("two") == first
        assert await said("three", "ben") != first
        assert await said("four", seed=1) != first
        attempt = await said("one")
        assert attempt != first
        assert await said("five") == attempt


def test_the_command_line_gives_a_known_answer_finds_it_anew_and_clears_what_is_known(
    call: Call, ollama: FakeOllama
) -> None:
    more = {"VICTORIA_MODEL": "ollama", "OLLAMA_HOSTS": ollama.url, "VICTORIA_ANSWER_CACHE": "600"}
    first = call("run", "--json", QUESTION, **more).json()
    assert (first["metadata"]["source"], "known" in first) == ("model", False)
    again = call("run", QUESTION, **more)
    assert again.out.strip() == first["output"].strip()
    assert re.search(
        rf"^Run {first['run_id']} had found this out at \S+ \S+ UTC; what it rests on", again.err, re.MULTILINE
    )
    fresh = call("run", "--fresh", "--json", QUESTION, **more).json()
    assert "known" not in fresh
    assert call("memory", "clear-answers", "--json").json()["cleared"] == 1
    assert call("memory", "clear-answers").out.startswith("0 answers of ")
