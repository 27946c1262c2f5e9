"""Of all that is offered, the question gets the best model that will do now; where there is none, it is said why."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm.models import Capability, Offer, Wish, full_name
from llm.models import Model as OfferedModel
from llm.router import ANY, UNUSABLE, Needs, ranked
from schemas.advice import INVALID, NO_OTHER, Tried
from schemas.errors import ErrorInfo, ModelFailed, NoModelNow, VictoriaError
from schemas.inference import ChatMessage

RESTS = ErrorInfo("model.unreachable", "It is away.")


def offer(
    name: str = "m",
    node: str = "",
    *,
    engine: str = "local",
    size: int = 0,
    context: int = 0,
    loaded: bool = False,
    can: frozenset[Capability] = frozenset(),
    **more: Any,
) -> Offer:
    model = OfferedModel(engine, node, name, size, context, loaded, capabilities=can)
    fields: dict[str, Any] = {"slots": 2, **more}
    return Offer(model, **fields)


def best(*offers: Offer, needs: Needs | None = None, **more: Any) -> Offer:
    return ranked(offers, needs or Needs(), **more)[0]


def problem(*offers: Offer, needs: Needs | None = None, **more: Any) -> VictoriaError:
    with pytest.raises((ModelFailed, NoModelNow)) as caught:
        ranked(offers, needs or Needs(), **more)
    return caught.value


SCHEMA: frozenset[Capability] = frozenset({"schema"})


@pytest.mark.parametrize(
    ("better", "worse", "more"),
    [
        (offer("small", size=1), offer("large", size=9), {"priority": ("small", "large")}),
        (offer("named", size=1), offer("large", size=9), {"priority": ("named",)}),
        (offer("large", size=9), offer("small", size=1, loaded=True), {}),
        (offer("a", can=SCHEMA), offer("b", loaded=True), {"needs": Needs(schema=True)}),
        (offer("a", loaded=True), offer("b", can=SCHEMA), {}),
        (offer(engine="mlx"), offer(engine="local", loaded=True), {}),
        (offer(engine="ollama"), offer(engine="mlx", loaded=True), {}),
        (offer(loaded=True), offer(), {"warm": {"p": "n"}, "needs": Needs(prefix="p")}),
        (offer(node="n", in_flight=2), offer(node="o"), {"warm": {"p": "n"}, "needs": Needs(prefix="p")}),
        (offer(node="o", in_flight=1, slots=4), offer(node="n", in_flight=1), {}),
        (offer("kept", size=1), offer("large", size=9), {"needs": Needs(prefer="kept"), "priority": ("large",)}),
        (offer("twice"), offer("once"), {"priority": ("twice", "once", "twice")}),
    ],
)
def test_the_better_one_comes_first(better: Offer, worse: Offer, more: dict[str, Any]) -> None:
    assert best(better, worse, **more) == better
    assert best(worse, better, **more) == better


def test_names_without_a_tag_mean_the_latest() -> None:
    llama = offer("llama3:latest", size=1)
    assert best(offer("large", size=9), llama, priority=["llama3"]) == llama
    assert best(offer("large", size=9), llama, wish=Wish.parse("llama3")) == llama


@pytest.mark.parametrize(
    ("offers", "more", "code", "for_ever"),
    [
        ([], {}, "model.absent", False),
        ([offer("m")], {"wish": Wish.parse("other")}, "model.absent", False),
        ([offer("m")], {"needs": Needs(model="other")}, "model.absent", False),
        ([offer("m", state="open", error=RESTS)], {}, "model.resting", False),
        ([offer("m", state="half-open", error=RESTS)], {}, "model.resting", False),
        ([offer("m")], {"wish": Wish.parse("none")}, "model.none", True),
        ([offer("m")], {"needs": Needs(avoid=frozenset({"m"}))}, NO_OTHER, True),
        ([offer("m", context=100)], {"needs": Needs(tokens=101)}, "model.overflow", True),
        ([offer("m", context=100)], {"needs": Needs(outgrown=frozenset({"m"}))}, "model.overflow", True),
        *(
            ([offer("m", state="open", error=ErrorInfo(code, "It can't.", "Do this."))], {}, code, True)
            for code in UNUSABLE
        ),
        (
            [offer("m", state="open", error=ErrorInfo("model.broken", "")), offer("n", state="open", error=RESTS)],
            {},
            "model.resting",
            False,
        ),
    ],
)
def test_where_no_model_will_do_it_is_said_why_and_whether_waiting_may_help(
    offers: list[Offer], more: dict[str, Any], code: str, *, for_ever: bool
) -> None:
    found = problem(*offers, **more)
    assert (found.code, isinstance(found, ModelFailed)) == (code, for_ever)
    assert found.hint
    assert found.retryable is not for_ever


def test_a_question_that_outgrew_a_model_needs_a_larger_context_and_not_just_another_name() -> None:
    small, like, large = offer("small", context=100), offer("like", context=100), offer("large", context=200)
    needs = Needs(outgrown=frozenset({"small"}))
    assert ranked([small, like, large], needs) == [large]
    unknown = offer("unknown", context=0)
    assert ranked([small, like, unknown], needs) == [unknown]


def needs_after(*tried: tuple[str, str]) -> Needs:
    messages = (ChatMessage("system", "s"), ChatMessage("user", "u" * 120))
    return Needs.of(messages, None, tried=[Tried(*each) for each in tried])


@pytest.mark.parametrize(
    ("tried", "avoid", "outgrown", "prefer"),
    [
        ([], set[str](), set[str](), ""),
        ([("a", "model.unreachable")], set[str](), set[str](), ""),
        ([("a", INVALID)], set[str](), set[str](), "a"),
        ([("a", INVALID), ("a", INVALID)], {"a"}, set[str](), ""),
        ([("a", INVALID), ("a", INVALID), ("b", "model.unreachable")], {"a"}, set[str](), ""),
        ([("a", INVALID), ("a", INVALID), ("b", INVALID)], {"a"}, set[str](), "b"),
        ([("a", "model.cut"), ("b", "model.engine")], {"a"}, set[str](), ""),
        ([("a", "model.broken")], {"a"}, set[str](), ""),
        ([("a", "model.overflow"), ("b", "model.busy")], set[str](), {"a"}, ""),
    ],
)
def test_what_was_tried_decides_what_is_needed(
    tried: list[tuple[str, str]], avoid: set[str], outgrown: set[str], prefer: str
) -> None:
    needs = needs_after(*tried)
    assert (needs.avoid, needs.outgrown, needs.prefer, needs.tokens) == (avoid, outgrown, prefer, 10)


def test_questions_that_begin_alike_share_a_prefix_and_others_do_not() -> None:
    def prefix(system: str, user: str) -> str:
        return Needs.of((ChatMessage("system", system), ChatMessage("user", user)), None).prefix

    assert prefix("rules", "a") == prefix("rules", "b") != prefix("other rules", "a")
    assert Needs.of((), None).prefix == ""


names = st.sampled_from(["a", "b", "c", "d:latest", "d"])
offers = st.builds(
    offer,
    names,
    st.sampled_from(["", "n:1", "n:2"]),
    engine=st.sampled_from(["ollama", "mlx", "local", "another"]),
    size=st.integers(0, 3),
    context=st.sampled_from([0, 100, 200, 300]),
    loaded=st.booleans(),
    can=st.sampled_from([frozenset[Capability](), SCHEMA]),
    in_flight=st.integers(0, 3),
    slots=st.integers(0, 2),
    state=st.sampled_from(["closed", "closed", "open", "half-open"]),
)
needs = st.builds(
    Needs,
    st.sampled_from([0, 150, 250]),
    st.booleans(),
    st.sampled_from(["", "", "a"]),
    st.sampled_from(["", "b"]),
    st.frozensets(names, max_size=2),
    st.frozensets(names, max_size=2),
    st.sampled_from(["", "p"]),
)
wishes = st.sampled_from([ANY, Wish("local"), Wish("", "d"), Wish("ollama", "a")])


@given(st.lists(offers, max_size=8), needs, wishes, st.lists(names, max_size=4))
def test_what_rests_is_outgrown_avoided_or_not_wanted_is_never_chosen_and_the_list_is_kept(
    found: list[Offer], needed: Needs, wish: Wish, priority: list[str]
) -> None:
    try:
        chosen = ranked(found, needed, wish, priority, {"p": "n:1"})
    except (ModelFailed, NoModelNow):
        return
    assert chosen
    for each in chosen:
        assert each.state == "closed"
        assert each.model.name not in needed.avoid | needed.outgrown
        assert not each.model.context or each.model.context >= needed.tokens
        assert wish.accepts(each.model)
        assert needed.model in ("", each.model.name)
    listed = [full_name(name) for name in priority]
    places = [
        listed.index(name) if (name := full_name(each.model.name)) in listed else len(listed)
        for each in chosen
        if each.model.name != needed.prefer
    ]
    assert places == sorted(places)


@given(st.lists(offers, max_size=8), needs, wishes, st.randoms())
def test_the_order_in_which_offers_come_decides_nothing(
    found: list[Offer], needed: Needs, wish: Wish, random: Any
) -> None:
    assume(found)
    shuffled = random.sample(found, len(found))
    outcomes: list[Any] = []
    for each in (found, shuffled):
        try:
            outcomes.append([(o.model.size, o.model.name != needed.prefer) for o in ranked(each, needed, wish)])
        except (ModelFailed, NoModelNow) as said:
            outcomes.append(said.code in UNUSABLE or said.code)
    assert outcomes[0] == outcomes[1]
