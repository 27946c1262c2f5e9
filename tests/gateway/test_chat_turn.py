"""What a chat shows of a run, by its events alone."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from gateway.chat.line import Ended, Heard
from gateway.chat.turn import Question, Turn, facts, who, wrapped
from gateway.http.bodies import Knowledge, StepReport
from schemas.events import AnswerProgressed, RunProgressed
from schemas.plan import Plan, Step

AT = datetime(2026, 1, 1, tzinfo=UTC)
EVIL = "\x1b[31mred\x07\u202e"
STEPS = (Step("1", "Look", "look", expert="qa"), Step("2", "写报告", "write", expert="content_writer"))


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def told(turn: Turn, *bodies: RunProgressed | AnswerProgressed) -> list[str]:
    """What stays of events that come a second apart."""
    return [line.text for number, body in enumerate(bodies) for line in turn.see(Heard(later(number), body))]


def shown(turn: Turn, width: int = 60, height: int = 24) -> list[str]:
    return [line.text for line in turn.region(width, height, later(9))]


def event(kind: str, step: str = "", text: str = "", **more: object) -> RunProgressed:
    return RunProgressed(kind=kind, stage="step-execute", step_id=step, text=text, **more)  # pyright: ignore[reportArgumentType]


def words(text: str, offset: int = 0, step: str = "1", effect: str = "e") -> AnswerProgressed:
    return AnswerProgressed(effect=effect, offset=offset, text=text, step=step)


def test_steps_are_shown_in_place_and_settle_into_finished_lines() -> None:
    turn = Turn("r", AT)
    assert shown(turn) == ["⠋ understand 9.0 s"]
    stays = told(turn, event("plan", plan=Plan("swarm", STEPS)), event("task_start", "1", "Look"))
    assert stays == ["plan  swarm, 2 steps"]
    stays = told(turn, event("task_start", "1", "Look"), event("task_start", "2", "写报告"))
    assert shown(turn) == ["⠋ 1 Look · qa  9.0 s", "⠋ 2 写报告 · content_writer  8.0 s"]
    failed = event("task_end", "2", "It broke.", status="failed")
    assert told(turn, event("task_end", "1", status="ok"), failed) == [
        "✓ 1 Look · qa",
        "✗ 2 写报告 · content_writer · failed: It broke.",
    ]
    assert shown(turn) == ["⠋ putting the answer together 9.0 s"]


def test_what_was_said_of_an_answer_stays_when_it_is_cancelled() -> None:
    turn = Turn("r", AT)
    told(turn, event("task_start", "1", "Look"), words("One two"))
    known = Knowledge("simple", "m", "model", None, "victoria", "r", 0, 0, 0, 0, 0.0, (), ())
    end = Ended("r", "cancelled", "The user cancelled it.", known)
    assert [line.text for line in turn.see(Heard(AT, end))] == ["", "One two"]


def test_an_answer_that_begins_anew_voids_what_was_said() -> None:
    turn = Turn("r", AT)
    told(turn, event("task_start", "1", "Look"), words("One "), words("two", 4))
    assert shown(turn)[-1] == "  One two"
    told(turn, words("Three"))
    assert shown(turn)[-1] == "  Three"
    told(turn, words("Four", 3, effect="other"))
    assert shown(turn)[-1] == "  Four"
    told(turn, event("task_end", "1", status="ok"), words("late", 5))
    assert "late" not in "".join(shown(turn))


def test_a_question_is_open_until_its_step_goes_on_by_whomever_it_was_answered() -> None:
    for goes_on in (words("So"), event("task_end", "1", status="ok"), None):
        turn = Turn("r", AT)
        asked = event("question", "1", "Which?", question_id="r.1", choices=("X", "Y"))
        assert told(turn, event("task_start", "1", "Look"), asked) == ["? Which?", "  1  X", "  2  Y"]
        (question,) = turn.questions
        if goes_on:
            told(turn, goes_on)
        else:
            turn.close(question)
        assert turn.questions == []


def test_a_choice_can_be_named_by_its_number() -> None:
    question = Question("q", "1", "Which?", ("X", "Y"))
    assert [question.meant(reply) for reply in (" 2 ", "3", "0", "x", "²")] == ["Y", "3", "0", "x", "²"]
    assert Question("q", "1", "How many?", ("2", "1")).meant("1") == "1"


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400), st.integers(20, 120), st.integers(6, 50), st.integers(1, 12))
def test_nothing_is_wider_than_the_terminal_or_takes_more_than_half_of_it(
    text: str, width: int, height: int, steps: int
) -> None:
    turn = Turn("r", AT)
    told(turn, *(event("task_start", str(number), text) for number in range(steps)))
    told(turn, *(words(text, step=str(number)) for number in range(steps)))
    turn.trouble = text
    region = shown(turn, width, height)
    assert len(region) <= max(height // 2, 4) + 2
    assert max(map(cell_len, region)) <= width
    assert not any(char in "".join(region) for char in "\x1b\x07\n\r\u202e")


def test_words_of_models_cannot_steer_the_terminal() -> None:
    turn = Turn("r", AT)
    told(turn, event("task_start", "1", EVIL), words(f"{EVIL}\r\nnext"))
    assert shown(turn)[1:] == ["  ·[31mred···", "  next"]
    assert wrapped(f"a\t{EVIL}", 40) == ["a   ·[31mred··"]


def test_who_did_it_is_the_experts_and_else_the_agent() -> None:
    def ended(*steps: StepReport, delegated: str | None = None) -> Ended:
        known = Knowledge("swarm", "m", "model", delegated, "victoria", "r", 10, 5, 0, 2, 1.25, steps, ())
        return Ended("r", "completed", "Done.", known)

    def step(expert: str, agent: str = "", status: str = "ok") -> StepReport:
        return StepReport("1", "Look", status, (), 0.1, expert, agent)  # pyright: ignore[reportArgumentType]

    assert (
        who(ended(step("qa"), step("qa"), step("devops", "veronica"), step("mobile", status="failed")))
        == "qa, devops at veronica"
    )
    assert (who(ended()), who(ended(delegated="veronica"))) == ("victoria", "veronica")
    assert facts(ended(step("qa"))).text == "✓ completed · swarm · by qa · m · 1.2 s · 15 tokens"
