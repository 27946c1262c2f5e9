"""`victoria redeliver`: give a range of a stage's entries to it once more."""

from collections import Counter
from typing import Annotated

import typer

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.dead import user
from gateway.options import Json, configured, with_victoria
from gateway.screen import answer, emit, note
from streams.ranges import parse
from streams.redeliver import Redelivery

FATES = {
    "again": "to be given to it once more",
    "done": "done: what it said of them is there",
    "waiting": "waiting, in hand or put off: it gets them anyway",
    "no event": "no event that it takes",
    "forgotten": "of runs of which nothing is kept: their effects would be repeated",
    "redelivered": "given to it once more before",
}


@configured
def redeliver(
    loaded: Loaded,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="The stage.")],
    span: Annotated[str, typer.Argument(metavar="RANGE", help="start, :end, -N, ID, ID:ID, @TIME:TIME or @-1h:end.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Also what is done, forgotten or was redelivered.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give entries to their stage once more: a range of its stream, in every partition. Prints the plan; --yes does it.

    What is done already is left alone, by the ids of what the stage said, and so is what it will get anyway. What is
    recorded of a run is not done again. Killed half-way, it can simply be called again.

    Example: victoria redeliver plan @-1h:end --yes
    """
    wanted = parse(span)

    async def work(victoria: Victoria) -> tuple[Counter[str], int]:
        (name, *_) = [each for each in victoria.require_stages([stage]) if each == stage]
        of = victoria.topology.stage(name)
        redelivery = Redelivery(victoria.client, victoria.keys, victoria.topology, of, user(), force=force)
        fates, given = Counter[str](), 0
        async for batch in redelivery.planned(wanted):
            fates.update(each.fate for each in batch)
            if yes:
                given += await redelivery.again(batch)
        return fates, given

    fates, given = with_victoria(loaded, work)
    if as_json:
        emit({"stage": stage, "plan": dict(fates), "redelivered": given})
    else:
        for fate, words in FATES.items():
            if fates[fate]:
                note(f"{fates[fate]:>9,}  {words}")
        answer(f"{given:,} redelivered" if yes else f"{fates['again']:,} would be redelivered")
        if not yes:
            note("nothing is done yet; --yes does it", "dim")
