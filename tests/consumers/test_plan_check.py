"""Whatever plan is proposed, the one that runs has unique steps, known dependencies and no circle, and says why."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumers.runs.check import MAX_STEPS, checked, kept, renumbered
from consumers.runs.release import in_order
from consumers.strategies.strategy import Colleague
from schemas.plan import Plan, Step

IDS = st.sampled_from(["", "1", "2", "3", "a", "b", "c", "шаг", "d" * 50])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans with any ids and dependencies; titles tell the steps apart."""
    ids = draw(st.lists(IDS | st.integers(0, 30).map(str), max_size=30))
    needs = st.lists(st.sampled_from(ids) | IDS if ids else IDS, max_size=8).map(tuple)
    steps = tuple(Step(id_, f"title {n}", "Do it.", depends_on=draw(needs)) for n, id_ in enumerate(ids))
    return Plan("react", steps, aggregate=draw(st.booleans()), notes=draw(st.sampled_from([(), ("before",)])))


def once(step: Step) -> Step:
    """The step with each dependency named once."""
    return replace(step, depends_on=tuple(dict.fromkeys(step.depends_on)))


@given(plans())
def test_a_checked_plan_is_unique_known_acyclic_and_bounded(plan: Plan) -> None:
    made = checked(plan)
    ids = [step.id for step in made.steps]
    assert len(ids) == len(set(ids)) <= MAX_STEPS
    done: set[str] = set()
    for step in in_order(made):  # which fails on a circle
        assert set(step.depends_on) <= done
        done.add(step.id)
    assert done == set(ids)


@given(plans())
def test_a_check_takes_away_and_never_adds_or_reorders(plan: Plan) -> None:
    made = checked(plan)
    places = [int(step.title.removeprefix("title ")) for step in made.steps]
    assert places == sorted(places)
    for place, step in zip(places, made.steps, strict=True):
        before = once(plan.steps[place])
        assert replace(step, depends_on=before.depends_on) == before
        kept = iter(before.depends_on)
        assert all(other in kept for other in step.depends_on), "a subsequence"
    assert (made.strategy, made.aggregate) == (plan.strategy, plan.aggregate)


@given(plans())
def test_notes_name_a_repair_if_and_only_if_there_was_one(plan: Plan) -> None:
    made = checked(plan)
    changed = made.steps != tuple(map(once, plan.steps))
    assert made.notes[: len(plan.notes)] == plan.notes
    assert (len(made.notes) > len(plan.notes)) == changed


@given(plans())
def test_checking_again_changes_nothing(plan: Plan) -> None:
    assert checked(checked(plan)) == checked(plan)


@given(plans())
def test_a_dependency_is_cut_only_if_it_is_unknown_on_itself_or_closes_a_circle(plan: Plan) -> None:
    made = checked(plan)
    ids = {step.id for step in made.steps}
    needs = {step.id: set(step.depends_on) for step in made.steps}
    first = {step.id: step for step in reversed(plan.steps)}
    for step in made.steps:
        for cut in set(first[step.id].depends_on) - needs[step.id]:
            assert cut not in ids or step.id in _reached(cut, needs)


def _reached(start: str, needs: dict[str, set[str]]) -> set[str]:
    found = {start}
    while more := {other for one in found for other in needs[one]} - found:
        found |= more
    return found


@given(plans())
def test_renumbering_calls_steps_by_their_place_and_keeps_who_needs_whom(plan: Plan) -> None:
    before = checked(plan)
    after = renumbered(before)
    assert [step.id for step in after.steps] == [str(n) for n in range(1, len(before.steps) + 1)]
    titles = {step.id: step.title for step in before.steps}
    renamed = {step.id: step.title for step in after.steps}
    for one, other in zip(before.steps, after.steps, strict=True):
        assert [titles[need] for need in one.depends_on] == [renamed[need] for need in other.depends_on]
        assert replace(other, id=one.id, depends_on=one.depends_on) == one
    assert checked(after) == after
    assert renumbered(after) == after


def step(id_: str, *needs: str) -> Step:
    return Step(id_, id_, "Do it.", depends_on=needs)


def test_every_repair_is_named_in_the_notes() -> None:
    made = checked(Plan("react", (step("a", "b", "a", "x"), step("b", "c"), step("c", "a"), step("a"))))
    assert [(s.id, s.depends_on) for s in made.steps] == [("a", ("b",)), ("b", ("c",)), ("c", ())]
    assert made.notes == (
        "Step 'a' appears again; only the first is kept.",
        "Step 'a' depended on itself.",
        "Step 'a' depended on 'x', which does not exist.",
        "Step 'c' depended on 'a', which depends on it: the circle was cut there.",
    )


def test_the_same_repair_over_and_over_is_named_once() -> None:
    made = checked(Plan("react", (step("a"), step("a"), step("a"), step("a"))))
    assert made.notes == ("Step 'a' appears again; only the first is kept.",)


def test_a_plan_of_too_many_steps_keeps_the_first_20_and_says_which_it_left_out() -> None:
    made = checked(Plan("react", tuple(step(str(n), str(n + 1)) for n in range(22))))
    assert [s.id for s in made.steps] == [str(n) for n in range(20)]
    assert made.notes == (
        "Step '20' was left out: a plan has at most 20 steps.",
        "Step '21' was left out: a plan has at most 20 steps.",
        "Step '19' depended on '20', which does not exist.",
    )


def test_notes_of_a_renumbered_plan_explain_the_ids_they_use() -> None:
    plan = checked(Plan("react", (step("2", "1"), step("1", "1"))))
    made = renumbered(plan)
    assert [(s.id, s.depends_on) for s in made.steps] == [("1", ("2",)), ("2", ())]
    assert made.notes == ("Step '1' depended on itself.", "In these notes '2' is step 1, '1' is step 2.")


def test_a_plan_without_repairs_gets_no_note_by_renumbering() -> None:
    assert renumbered(checked(Plan("react", (step("x"), step("y", "x"))))).notes == ()


# Experts and capabilities

STAFF = (
    Colleague("ann", "Ann", "rooms", capabilities={"cooking": 0.9, "singing": 0.5}),
    Colleague("bob", "Bob", "rooms", capabilities={"cooking": 0.95}, load=0.5),
)
NAMES, CAN = {"ann", "bob"}, {"cooking", "singing"}


def work(id_: str, expert: str = "", capability: str = "") -> Step:
    return Step(id_, id_, "Do it.", expert=expert, capability=capability)


STAFFED = st.lists(
    st.builds(
        work,
        st.sampled_from("abcd"),
        st.sampled_from(["", "ann", "bob", "carl"]),
        st.sampled_from(["", "cooking", "singing", "flying"]),
    ),
    max_size=6,
    unique_by=lambda step: step.id,
).map(lambda steps: Plan("react", tuple(steps)))


@given(STAFFED)
def test_a_checked_plan_names_only_experts_and_capabilities_there_are(plan: Plan) -> None:
    made = checked(plan, STAFF)
    assert {step.expert for step in made.steps} <= {*NAMES, ""}
    assert {step.capability for step in made.steps} <= {*CAN, ""}
    assert checked(made, STAFF) == made
    for before, after in zip(plan.steps, made.steps, strict=True):
        if before.expert in NAMES:
            assert after.expert == before.expert
        if before.capability in CAN:
            assert (after.capability, bool(after.expert)) == (before.capability, True)


@given(STAFFED)
def test_each_unknown_expert_and_capability_is_reported(plan: Plan) -> None:
    unknown = [step.expert == "carl" for step in plan.steps] + [step.capability == "flying" for step in plan.steps]
    assert len(checked(plan, STAFF).notes) == sum(unknown)  # ids differ, and so do the notes


def test_an_unknown_expert_is_replaced_by_who_is_able_and_least_busy_or_by_nobody() -> None:
    made = checked(Plan("react", (work("a", "carl", "cooking"), work("b", "carl"), work("c", "", "flying"))), STAFF)
    assert [(s.expert, s.capability) for s in made.steps] == [("ann", "cooking"), ("", ""), ("", "")]
    assert made.notes == (
        "Step 'a' was for 'carl', whom nobody knows: it is ann's.",
        "Step 'b' was for 'carl', whom nobody knows: it is nobody's.",
        "Step 'c' needs 'flying', which nobody can.",
    )


# What is left of a plan


def test_what_is_left_may_depend_on_what_is_done_and_is_numbered_after_it() -> None:
    plan = checked(Plan("parallel", (step("x", "1", "2"), step("y", "x", "9"), step("2"))), (), ["1", "2"])
    assert [(s.id, s.depends_on) for s in plan.steps] == [("x", ("1", "2")), ("y", ("x",))]
    assert plan.notes == (
        "Step '2' appears again; only the first is kept.",
        "Step 'y' depended on '9', which does not exist.",
    )
    made = renumbered(replace(plan, notes=()), 4)
    assert [(s.id, s.depends_on) for s in made.steps] == [("5", ("1", "2")), ("6", ("5",))]


def test_without_a_model_what_can_still_be_done_stays_as_it_was() -> None:
    last = replace(step("5", "3", "4"), any_input=True)
    left = (step("6", "5"), step("3", "2"), step("4", "1"), last, step("7", "3"), step("8"))
    assert kept(left, ["2"]) == (step("6", "5"), step("4", "1"), replace(last, depends_on=("4",)), step("8"))
    assert kept(left, []) == left
    assert kept(left, ["1", "2"]) == (step("8"),)
