"""Stages' policies as they are tried out: `--set plan.timeout=5`."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from math import isfinite

import msgspec

from schemas.errors import InvalidInput
from streams.stage import Policy
from streams.topology import Topology

FIELDS = tuple(field.name for field in fields(Policy))


def with_policies(topology: Topology, said: Sequence[str]) -> Topology:
    """The topology with what is said, STAGE.FIELD=VALUE, in its stages' policies. Raises InvalidInput `stage.unknown`,
    `policy.unknown` or `policy.invalid`."""
    stages = {stage.name: stage for stage in topology.stages}
    for item in said:
        key, _, value = item.partition("=")
        name, _, field = key.strip().rpartition(".")
        if name not in stages:
            raise InvalidInput("stage.unknown", f"There is no stage {name[:80]!r}.", f"Stages: {', '.join(stages)}.")
        if field not in FIELDS:
            raise InvalidInput(
                "policy.unknown", f"A stage's policy has no {field[:80]!r}.", f"It has {', '.join(FIELDS)}."
            )
        old = asdict(stages[name].policy)
        try:
            policy = msgspec.convert({**old, field: value.strip()}, Policy, strict=False)
        except msgspec.ValidationError as problem:
            raise _invalid(item, str(problem)) from problem
        number = getattr(policy, field)
        if not isinstance(number, bool) and not (isfinite(number) and number > 0):
            raise _invalid(item, "it is no number above 0")
        stages[name] = replace(stages[name], policy=policy)
    return replace(topology, stages=tuple(stages.values()))


def _invalid(item: str, why: str) -> InvalidInput:
    return InvalidInput("policy.invalid", f"{item[:80]!r} can't be: {why}.", "As in --set plan.timeout=5.")
