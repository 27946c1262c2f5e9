"""Plans are checked before anything is dispatched: what a model proposed is repaired where that is safe, and said."""

from msgspec.structs import replace

from schemas.plan import Plan, Step

MAX_STEPS = 20


def checked(plan: Plan) -> Plan:
    """The plan with unique ids, known dependencies and no cycle; `notes` name every repair.

    Steps beyond MAX_STEPS and steps with an id that was used before are left out; dependencies on unknown steps and
    on a step itself are removed; a cycle is broken at the step that closes it, in plan order. A dependency that is
    named twice is named once: that changes nothing, so no note says it.
    """
    notes = list(plan.notes)
    steps: dict[str, Step] = {}
    for step in plan.steps:
        if step.id in steps:
            notes.append(f"Step {step.id!r} appears twice; the second was left out.")
        elif len(steps) == MAX_STEPS:
            notes.append(f"Step {step.id!r} was left out: a plan has at most {MAX_STEPS} steps.")
        else:
            steps[step.id] = step
    needs: dict[str, tuple[str, ...]] = {}
    for step in steps.values():
        kept: list[str] = []
        for other in dict.fromkeys(step.depends_on):
            if other == step.id:
                notes.append(f"Step {step.id!r} depended on itself.")
            elif other not in steps:
                notes.append(f"Step {step.id!r} depended on {other!r}, which does not exist.")
            elif step.id in _all_needs(other, needs):
                notes.append(f"Step {step.id!r} depended on {other!r}, which depends on it: the circle was cut there.")
            else:
                kept.append(other)
        needs[step.id] = tuple(kept)
    return replace(
        plan,
        steps=tuple(replace(step, depends_on=needs[step.id]) for step in steps.values()),
        notes=tuple(notes),
    )


def renumbered(plan: Plan) -> Plan:
    """A checked plan with its steps called "1", "2", ... in order. Where notes use other ids, one explains them."""
    numbers = {step.id: str(number) for number, step in enumerate(plan.steps, 1)}
    changed = [f"{old!r} is step {new}" for old, new in numbers.items() if old != new]
    key = (f"In these notes {', '.join(changed)}.",) if plan.notes and changed else ()
    return replace(
        plan,
        steps=tuple(
            replace(step, id=numbers[step.id], depends_on=tuple(numbers[other] for other in step.depends_on))
            for step in plan.steps
        ),
        notes=(*plan.notes, *key),
    )


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
