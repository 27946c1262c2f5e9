"""The table: one row for each requirement of the orchestration, and at least one test on a whole Victoria for each.

A test is named for its row: `test_B1_...` says what a user can rely on.
"""

import re
from pathlib import Path

import pytest

ROWS = {
    "A1": "a goal comes in over HTTP, is answered at once or when its run has ended, and its status can be asked",
    "A2": "the same through the departments of experts",
    "A3": "status tells which levels are on, and what there is",
    "A4": "a goal is of an allowed project, or of the main one",
    "B1": "a quick model call makes a clear sentence, a category and a first step of a goal",
    "B2": "before it a router without a model; what it is sure of goes straight to the expert's step, the rest to plan",
    "B3": "the next turn of a session goes to the expert that had the last one",
    "B4": "a query is cleaned, given a role, and what the role needs to know",
    "B5": "the kind of a task chooses its strategy",
    "B6": "where a model fails rules decide, and the run goes on",
    "C1": "plans are made of the restated goal, never of the raw text, and are short",
    "C2": "a decomposer, its prompt a file: steps for experts with what each needs, to be one answer or not",
    "C3": "nine strategies, each a shape of plan and one file",
    "C4": "no plan from a model, no such expert, nobody able: one step, an empty plan that says why, a direct answer",
    "C5": "a plan is checked and repaired before anything is dispatched, says so, and can be looked at",
    "C6": "after an answer or a failure what is left is planned again, three times at most, and what is done stays",
    "D1": "think, act, observe with tools until it is finished, ten rounds at most, never one call for ever",
    "D2": "steps side by side as their dependencies allow, three of a run at once",
    "D3": "every step has its final status, and one that was not done says why",
    "D4": "plan, beginnings and ends of steps, handoffs and words as they come can be followed",
    "D5": "a step asks, the run waits without a worker, the answer lets it go on",
    "D6": "tools keep to their limits, and what changes things outside is approved",
    "D7": "what may do better is tried again, the rest is given up with the reason",
    "D8": "tools are a registry with schema, description, commands and hints; profiles choose",
    "E1": "what a goal needs is found by analysis",
    "E2": "agents have profiles; the best for what is needed, less its load, is chosen",
    "E3": "an agent is asked by POST /run and named in the answer",
    "E4": "whatever goes wrong there, the run goes on by itself",
    "E5": "an expert hands on what it can't do to one that declares it, and circles are cut",
    "F1": "steps are released, and every run ends exactly once",
    "F2": "several answers become one where the plan asks for it, or stand one after the other",
    "F3": "the answer comes with its method and with what it took",
    "F4": "tokens and deadline of a run hold, and at the limit it ends with what there is",
    "F5": "cancelling a run stops its steps, its questions and its model calls",
    "G1": "after an exchange it is decided what is worth keeping, and under which tag; the next turn knows it as data",
    "G2": "memory is kept by tags, for each project and session, and can be looked at and cleared",
    "G3": "over its limit a model compresses it, or it is trimmed by tags; it is never above",
    "G4": "what was found out is given again to the same goal, as long as nothing it rests on has changed",
    "H1": "hypotheses are validated in the background, and end confirmed, refuted or open",
    "I1": "a cycle under a lock gives tasks to the best experts; no two workers take the same one",
    "I2": "tasks go through the same pipeline, and what comes of them is in their rows",
    "I3": "cycles and workers of their own, by a timer or by hand",
    "N1": "turns of a session wait for each other, know what was said, are kept, and can be cleared",
    "O1": "an expert is one YAML file; notes and calendar work; ten specialists and two agents are there",
}
_TEST = re.compile(r"^(?:async )?def test_([A-Z]\d)_\w+\(", re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test(row: str) -> None:
    assert row in covered(), ROWS[row]


def test_no_test_is_of_a_row_that_is_not_in_the_table() -> None:
    assert covered() <= ROWS.keys()


def covered() -> set[str]:
    """The rows that tests beside this file are named for."""
    here = Path(__file__).parent
    return {
        row
        for file in (*here.glob("test_?.py"), *here.glob("test_??.py"))
        for row in _TEST.findall(file.read_text(encoding="utf-8"))
    }
