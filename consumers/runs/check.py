"""Plans are checked before anything is dispatched: what a model proposed is repaired where that is safe, and said."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from consumers.strategies.strategy import Colleague
from schemas.plan import Plan, Step

MAX_STEPS = 20


def checked(plan: Plan, colleagues: Sequence[Colleague] = (), done: Collection[str] = ()) -> Plan:
    """The plan with unique ids, known dependencies, experts and capabilities, and no cycle; `notes` name every repair.

    Steps beyond MAX_STEPS and steps with an id that was used before are left out; dependencies on unknown steps and
    on a step itself are removed, on steps that are `done` they stay; a cycle is broken at the step that closes it, in
    plan order. A dependency that is named twice is named once: that changes nothing, so no note says it. Where
    `colleagues` are given, an expert nobody knows is replaced by who can best what the step needs, if it says that; and
    so a step that only says that gets its expert, without a note.
    """
    notes = list(plan.notes)
    steps: dict[str, Step] = {}
    for step in plan.steps:
        if step.id in steps or step.id in done:
            notes.append(f"Step {step.id!r} appears again; only the first is kept.")
        elif len(steps) == MAX_STEPS:
            notes.append(f"Step {step.id!r} was left out: a plan has at most {MAX_STEPS} steps.")
        else:
            steps[step.id] = _staffed(step, colleagues, notes) if colleagues else step
    needs: dict[str, tuple[str, ...]] = {}
    for step in steps.values():
        kept: list[str] = []
        for other in dict.fromkeys(step.depends_on):
            if other == step.id:
                notes.append(f"Step {step.id!r} depended on itself.")
            elif other not in steps and other not in done:
                notes.append(f"Step {step.id!r} depended on {other!r}, which does not exist.")
            elif step.id in _all_needs(other, needs):
                notes.append(f"Step {step.id!r} depended on {other!r}, which depends on it: the circle was cut there.")
            else:
                kept.append(other)
        needs[step.id] = tuple(kept)
    return replace(
        plan,
        steps=tuple(replace(step, depends_on=needs[step.id]) for step in steps.values()),
        notes=(*plan.notes, *dict.fromkeys(notes[len(plan.notes) :])),
    )


def renumbered(plan: Plan, after: int = 0) -> Plan:
    """A checked plan with its steps called by numbers from `after` on, "1", "2", ..., in order. What depends on steps
    of an earlier plan does so still. Where notes use other ids, one explains them."""
    numbers = {step.id: str(number) for number, step in enumerate(plan.steps, after + 1)}
    changed = [f"{old!r} is step {new}" for old, new in numbers.items() if old != new]
    key = (f"In these notes {', '.join(changed)}.",) if plan.notes and changed else ()
    return replace(
        plan,
        steps=tuple(
            replace(step, id=numbers[step.id], depends_on=tuple(numbers.get(other, other) for other in step.depends_on))
            for step in plan.steps
        ),
        notes=(*plan.notes, *key),
    )


def kept(left: Sequence[Step], failed: Collection[str]) -> tuple[Step, ...]:
    """What is left of a plan after these steps failed: all that can still do without them. `left` is in any order."""
    lost = set(failed)
    while hopeless := [step.id for step in left if step.id not in lost and _hopeless(step, lost)]:
        lost.update(hopeless)
    return tuple(
        replace(step, depends_on=tuple(other for other in step.depends_on if other not in lost))
        for step in left
        if step.id not in lost
    )


def _hopeless(step: Step, lost: Collection[str]) -> bool:
    needs = [other in lost for other in step.depends_on]
    return bool(needs) and (all(needs) if step.any_input else any(needs))


def _staffed(step: Step, colleagues: Sequence[Colleague], notes: list[str]) -> Step:
    """A step whose expert and capability there are."""
    able = [each for each in colleagues if step.capability in each.capabilities]
    if step.capability and not able:
        notes.append(f"Step {step.id!r} needs {step.capability!r}, which nobody can.")
        step = replace(step, capability="")
    if step.expert in {each.name for each in colleagues} or not (step.expert or able):
        return step
    best = max(able, key=lambda each: (each.capabilities[step.capability] * (1 - each.load), each.name), default=None)
    name = best.name if best else ""
    if step.expert:
        notes.append(f"Step {step.id!r} was for {step.expert!r}, whom nobody knows: it is {name or 'nobody'}'s.")
    return replace(step, expert=name)


def _all_needs(step_id: str, needs: dict[str, tuple[str, ...]]) -> set[str]:
    """All that a step needs, directly or not, itself included."""
    found: set[str] = set()
    open_ids = [step_id]
    while open_ids:
        current = open_ids.pop()
        if current not in found:
            found.add(current)
            open_ids += needs.get(current, ())
    return found
