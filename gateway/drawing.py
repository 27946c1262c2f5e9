"""Plans drawn: as a tree for the terminal, as a flowchart for pages. Pure: what is drawn may say anything."""

import re

from rich.text import Text
from rich.tree import Tree

from consumers.runs.view import PlannedStep, PlanView
from gateway.progress import MARKS
from gateway.screen import line, styled

ALL_MARKS = {"pending": "○", "running": "→", "waiting": "?", **MARKS}
STYLES = {"ok": "green", "partial": "yellow", "failed": "red", "blocked": "red", "waiting": "yellow", "running": "cyan"}
_COLOURS = {
    "ok": "#d4edda",
    "partial": "#fff3cd",
    "failed": "#f8d7da",
    "blocked": "#f8d7da",
    "waiting": "#fff3cd",
    "running": "#d1ecf1",
}
_SPECIAL = re.compile(r"[^\w .,:!?·+-]")
TITLE = 60
"""Characters of a step's title in a drawing."""


def tree(view: PlanView) -> Tree:
    """The plan as a tree. A step that waits for several hangs under the one that comes last."""
    drawn = Tree(_head(view))
    branches: dict[str, Tree] = {}
    for step in view.steps:
        last = max(step.depends_on, key=list(branches).index, default="")
        branches[step.id] = branches.get(last, drawn).add(_label(step))
    return drawn


def mermaid(view: PlanView) -> str:
    """The plan as a Mermaid flowchart. Dotted arrows come from steps of which one that went well is enough."""
    names = {step.id: f"s{number}" for number, step in enumerate(view.steps, 1)}
    lines = ["flowchart TD"]
    for step in view.steps:
        title = f"{step.id}. {step.title[:TITLE]}"
        label = "<br>".join(_escaped(part) for part in (title, _who(step)) if part)
        lines.append(f'    {names[step.id]}["{label}"]:::{step.status}')
    for step in view.steps:
        arrow = "-.->" if step.any_input else "-->"
        lines += [f"    {names[other]} {arrow} {names[step.id]}" for other in step.depends_on]
    lines += [f"    classDef {status} fill:{colour},color:#000" for status, colour in _COLOURS.items()]
    return "\n".join(lines)


def _head(view: PlanView) -> Text:
    facts = [view.strategy or "no plan yet", view.status]
    facts += [f"{view.quorum} votes decide"] if view.quorum else []
    facts += ["answers become one"] if view.aggregate else []
    facts += [f"changed {view.revision} times"] if view.revision else []
    return styled((line(view.goal), "bold"), ("\n" + " · ".join(facts), "dim"))


def _label(step: PlannedStep) -> Text:
    facts = [_who(step)] if _who(step) else []
    facts += [step.how] if step.how not in step.title else []
    facts += [f"{step.seconds:.2f} s"] if step.seconds else []
    if len(step.depends_on) > 1:
        facts.append(f"after {'any' if step.any_input else 'all'} of {', '.join(step.depends_on)}")
    why = f"\n{step.error.message}" if step.error else ""
    return styled(
        (f"{ALL_MARKS.get(step.status, '·')} ", STYLES.get(step.status, "")),
        (f"{step.id} ", "bold"),
        line(step.title[:TITLE]),
        (f"  {' · '.join(facts)}" if facts else "", "dim"),
        (why, STYLES.get(step.status, "dim")),
    )


def _who(step: PlannedStep) -> str:
    return f"{step.expert} at {step.agent}".removeprefix(" at ") if step.agent else step.expert


def _escaped(text: str) -> str:
    """Text that can't be read as anything but text: what has a meaning somewhere is written as its number."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", " ".join(text.split()))
