"""What is on a stream stays readable: by later programs, after changes of fields, and whatever garbage lies there."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope, decode, derived_id, encode
from schemas.errors import ErrorInfo, InvalidInput
from schemas.events import (
    CATALOGUE,
    AnswerFound,
    AnswerProgressed,
    AnswersCollected,
    CancelRequested,
    ChatMessage,
    DeadlinePassed,
    DeadlineSet,
    DelegationRequested,
    Event,
    Exchange,
    ExchangeCompleted,
    Fields,
    GoalSubmitted,
    GoalUnderstood,
    HypothesisJudged,
    HypothesisRaised,
    InferenceRequested,
    MemoryKept,
    Metadata,
    PlanProposed,
    QuestionAnswered,
    QuestionAsked,
    ReplanRequested,
    RunFinished,
    RunProgressed,
    StageFailed,
    StageTime,
    StepFinished,
    StepHandedOff,
    StepReady,
    StepSummary,
    ValidationDue,
    ValidationFinished,
)
from schemas.plan import Done, Known, Plan, Progress, Seen, Spent, Step, ToolCall, Usage

AT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
ERROR = ErrorInfo("some.code", "It went wrong.", "Try again.")
USAGE = Usage("tiny", 2, 30, 40, 0.5)
SPENT = Spent("plan", AT, USAGE)
CALL = ToolCall("read_file", {"path": "отчёт «1».txt"})
STEP = Step(
    "2", "заголовок", "做点什么", "tool", "memo", "veronica", "notes", ("1",), True, "a text", CALL, inner=True
)  # fmt: skip
PLAN = Plan("react", (STEP,), aggregate=True, quorum=2, revisable=True, notes=("note",))
SEEN = Seen(CALL, "5eed")
PROGRESS = Progress(2, ("seen",), ("{}",), ("read_file",), "best", "{}", (SEEN,))
KNOWN = Known("run-0", AT)

SAMPLES: tuple[Event, ...] = (
    GoalSubmitted(
        goal="goal \u2028 😀",
        project="p",
        session="s",
        history=(Exchange("q", "a"),),
        setting="A travel guide.",
        strategy="swarm",
        expert="memo",
        delegated_by="veronica",
        asker="backup-1",
        cache="renew",
    ),
    GoalUnderstood(
        restated="r",
        category="multi_step",
        kind="coding",
        first_step="f",
        project="p",
        session="s",
        context="c",
        expert="memo",
        strategy="swarm",
        calls=(CALL,),
        question="q",
        question_alone=True,
        confidence=0.8,
        delegated_by="veronica",
        answer_key="5eed",
        source="model",
        spent=(SPENT,),
    ),
    AnswerFound(
        restated="r",
        output="o",
        known=KNOWN,
        method="simple",
        model="tiny",
        expert="memo",
        project="p",
        session="s",
        spent=(SPENT,),
    ),
    PlanProposed(
        restated="r",
        plan=PLAN,
        project="p",
        session="s",
        context="c",
        expert="memo",
        revision=1,
        answer_key="5eed",
        spent=(SPENT,),
    ),
    ReplanRequested(
        restated="r",
        revision=1,
        why="w",
        done=(Done(STEP, "failed", "o", "e"),),
        left=(STEP,),
        strategy="parallel",
        project="p",
        session="s",
        context="c",
        expert="memo",
    ),
    StepReady(
        step=STEP, goal="g", project="p", session="s", context="c", inputs={"1": "text"}, progress=PROGRESS, reply="yes"
    ),
    DelegationRequested(step=STEP, goal="g", project="p", context="c", inputs={"1": "text"}),
    StepFinished(
        step_id="2",
        status="partial",
        output="o",
        source="model",
        agent="veronica",
        expert="memo",
        tools=("read_file",),
        settles=True,
        note="n",
        error=ERROR,
        spent=SPENT,
        sources=(SEEN,),
    ),
    QuestionAsked(
        question_id="r.1",
        step_id="2",
        question="?",
        choices=("yes", "no"),
        approval=True,
        expires=AT,
        progress=PROGRESS,
        spent=SPENT,
    ),
    QuestionAnswered(question_id="r.1", answer="да"),
    StepHandedOff(step_id="2", capability="c", expert="schedule", reason="r", progress=PROGRESS, spent=SPENT),
    DeadlineSet(at=AT, question_id="r.1"),
    DeadlinePassed(question_id="r.1"),
    AnswersCollected(count=2),
    StageFailed(stage="plan", error=ERROR),
    CancelRequested(reason="enough"),
    RunProgressed(
        kind="task_end",
        stage="aggregate",
        text="t",
        step_id="2",
        status="blocked",
        plan=PLAN,
        question_id="q",
        choices=("a",),
    ),
    RunFinished(
        status="failed",
        output="o",
        method="simple",
        metadata=Metadata(
            model="tiny",
            source="model",
            delegated_to=None,
            tokens_in=1,
            tokens_out=2,
            seconds=0.25,
            steps=(StepSummary("2", "t", "failed", ("read_file",), ERROR),),
            notes=("n",),
        ),
        stages=(StageTime("plan", 0.5, 2, USAGE),),
        error=ERROR,
        known=KNOWN,
    ),
    ExchangeCompleted(session="s", goal="g", output="o", status="completed", expert="memo", project="p"),
    MemoryKept(project="p", session="s", tag="fact", text="t", trust="tool", source="run:r"),
    HypothesisRaised(statement="it is so", project="p", session="s", evidence=("e",), source="run:r"),
    ValidationFinished(
        hypothesis="h", validation="v", status="failed", output="o", source="tool", error=ErrorInfo("c", "m", "h")
    ),
    ValidationDue(at=AT),
    HypothesisJudged(
        statement="it is so",
        verdict="refuted",
        confidence=0.5,
        evidence=("e",),
        why="w",
        project="p",
        session="s",
        source="run:r",
    ),
    InferenceRequested(
        effect="e/answer",
        request="hash",
        messages=(ChatMessage("system", "s"), ChatMessage("user", "u")),
        max_tokens=10,
        reply_to="channel",
        deadline=AT,
        answer_schema={"type": "object", "properties": {"a": {"type": "string"}}},
        priority="background",
        model="m",
        step="1",
        outlives_run=True,
    ),
    AnswerProgressed(effect="e/answer", offset=3, text="t", step="1"),
)


def envelope(body: Event, version: int | None = None) -> Envelope[Event]:
    return Envelope(
        id="e" * 24,
        run="run-1",
        v=body.version if version is None else version,
        at=AT,
        trust="tool",
        body=body,
        cause="c" * 24,
        traceparent="00-aa-bb-01",
    )


def entry(sample: Event, **changes: object) -> bytes:
    """An entry's JSON, with fields of its envelope replaced or added."""
    return json.dumps(json.loads(encode(envelope(sample))) | changes).encode()


def type_of(sample: Event) -> str:
    return type(sample).__name__


def code(type_name: str, data: bytes) -> str:
    with pytest.raises(InvalidInput) as refusal:
        decode(type_name, data)
    assert refusal.value.hint
    return refusal.value.code


def test_every_event_of_the_catalogue_has_one_sample_here_that_fills_every_field() -> None:
    assert [type_of(sample) for sample in SAMPLES] == list(CATALOGUE)
    for sample in SAMPLES:
        said = json.loads(encode(envelope(sample)))["body"]
        assert set(said) == set(sample.__struct_fields__), type_of(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=type_of)
def test_every_event_comes_back_as_it_was_said(sample: Event) -> None:
    assert decode(type_of(sample), encode(envelope(sample))) == envelope(sample)


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_any_text_that_is_unicode_comes_back_as_it_was_said(goal: str, session: str, turns: Any) -> None:
    said = GoalSubmitted(goal=goal, session=session, history=tuple(Exchange(*turn) for turn in turns))
    assert decode("GoalSubmitted", encode(envelope(said))).body == said


@pytest.mark.parametrize("sample", SAMPLES, ids=type_of)
def test_fields_that_a_later_program_added_are_ignored(sample: Event) -> None:
    body = json.loads(encode(envelope(sample)))["body"] | {"colour": {"deep": [1, None]}}
    assert decode(type_of(sample), entry(sample, body=body, region="eu")) == envelope(sample)


def _first_to_second(old: Fields) -> Fields:
    return {"who": old["text"][0], "dest": old["text"][1]}


def _second_to_third(old: Fields) -> Fields:
    return {"who": old["who"], "to": old["dest"]}


class Moved(Event, frozen=True, kw_only=True):
    """An event in its third version: `to` was called `dest` in the second; the first had both in one `text`."""

    version: ClassVar[int] = 3
    upgrades: ClassVar[dict[int, Callable[[Fields], Fields]]] = {1: _first_to_second, 2: _second_to_third}

    who: str
    to: str


del CATALOGUE["Moved"]  # an event is in the catalogue as soon as its class is; this one only inside its tests


@pytest.mark.parametrize(
    ("version", "body"),
    [(1, {"text": ["ann", "home"]}), (2, {"who": "ann", "dest": "home"}), (3, {"who": "ann", "to": "home"})],
)
def test_an_entry_of_an_old_version_is_upgraded_step_by_step_and_nothing_else_of_it_changes(
    monkeypatch: pytest.MonkeyPatch, version: int, body: Fields
) -> None:
    monkeypatch.setitem(CATALOGUE, "Moved", Moved)
    now = Moved(who="ann", to="home")
    assert decode("Moved", entry(now, v=version, body=body)) == envelope(now, 3)


@pytest.mark.parametrize(
    ("version", "body"),
    [(1, {"no": "text"}), (1, {"text": None}), (2, {"who": "ann"}), (2, []), (3, {"who": "ann"}), (3, {"who": 1})],
)
def test_what_an_upgrade_cannot_make_sense_of_is_malformed(
    monkeypatch: pytest.MonkeyPatch, version: int, body: object
) -> None:
    monkeypatch.setitem(CATALOGUE, "Moved", Moved)
    assert code("Moved", entry(Moved(who="", to=""), v=version, body=body)) == "event.malformed"


def test_the_first_version_after_the_known_ones_is_refused_as_newer_even_if_it_looks_the_same() -> None:
    for sample in SAMPLES:
        assert code(type_of(sample), entry(sample, v=sample.version + 1)) == "event.newer_version"
    assert code("StageFailed", entry(SAMPLES[5], v=7, body={"wholly": "other"})) == "event.newer_version"


@pytest.mark.parametrize("version", [0, -1, -(10**15)])
def test_a_version_that_never_was_is_malformed(version: int) -> None:
    assert code("StageFailed", entry(SAMPLES[5], v=version)) == "event.malformed"


@pytest.mark.parametrize("limits", [{"tokens": -1}, {"calls": 10**13}, {"ends": "2026-01-01T00:00:00"}, [], 5])
def test_limits_that_make_no_sense_are_malformed(limits: object) -> None:
    assert code("StageFailed", entry(SAMPLES[5], limits=limits)) == "event.malformed"


@pytest.mark.parametrize("name", ["", "Event", "goalsubmitted", "x" * 10_000])
def test_an_unknown_type_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        decode(name, encode(envelope(SAMPLES[0])))
    assert refusal.value.code == "event.unknown_type"
    assert len(str(refusal.value)) < 300


TYPES = st.sampled_from([*CATALOGUE, "Unknown"])


def only_refuses(type_name: str, data: bytes) -> None:
    with suppress(InvalidInput):
        decode(type_name, data)


@given(TYPES, st.binary())
def test_no_bytes_raise_anything_but_a_refusal(type_name: str, data: bytes) -> None:
    only_refuses(type_name, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_no_entry_that_is_wrong_in_one_place_raises_anything_but_a_refusal(sample: Event, data: st.DataObject) -> None:
    whole: dict[str, Any] = json.loads(encode(envelope(sample)))
    part = data.draw(st.sampled_from([whole, cast("dict[str, Any]", whole["body"])]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    only_refuses(type_of(sample), json.dumps(whole).encode())


@given(st.sampled_from(SAMPLES), st.data())
def test_no_entry_that_was_cut_or_damaged_raises_anything_but_a_refusal(sample: Event, data: st.DataObject) -> None:
    said = bytearray(encode(envelope(sample)))
    place = data.draw(st.integers(0, len(said) - 1))
    said[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    only_refuses(type_of(sample), bytes(said))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"body":' * 100_000,
        b'{"body":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"v":' + b"9" * 100_000 + b"}",
        b'{"v":1e999}',
        b'{"at":"9999-12-31T23:59:60Z"}',
        b'"\\ud800"',
        b"\xff\xfe",
        b"null",
        b"",
    ],
    ids=range(10),
)
def test_hostile_json_is_malformed(data: bytes) -> None:
    assert code("GoalSubmitted", data) == "event.malformed"
    assert code("InferenceRequested", data) == "event.malformed"


def test_an_entry_reads_as_json_and_leaves_out_what_is_as_usual() -> None:
    plain = Envelope[Event](id="e", run="r", v=1, at=AT, trust="user", body=GoalSubmitted(goal="hi"))
    assert json.loads(encode(plain)) == {
        "id": "e",
        "run": "r",
        "v": 1,
        "at": "2026-01-02T03:04:05.678900Z",
        "trust": "user",
        "body": {"goal": "hi"},
    }


def test_ids_are_the_same_in_every_process_and_release() -> None:
    assert derived_id("run-1", "GoalSubmitted") == "59d62588567cbb0b0e315e0b"
    assert derived_id("event-1", "aggregate", 0) == "e382628f45be8412fb5fc908"


@given(st.lists(st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_an_id_tells_its_parts_apart(parts: list[str]) -> None:
    assert derived_id(*parts) == derived_id(*parts)
    assert len(derived_id(*parts)) == 24
    assert derived_id(*parts) != derived_id(*parts, 0)
    assert derived_id("x", *parts) != derived_id(f"x{parts[0]}", *parts[1:])
    assert derived_id(*parts, "1") == derived_id(*parts, 1)
