"""B. understand: a raw goal becomes a clear one, and where rules are sure no model is asked."""

from schemas.events import GoalUnderstood
from tests.rows.conftest import Build

UNDERSTOOD = {
    "restated": "Why does the page X show errors?",
    "category": "investigate",
    "first_step": "list_directory docs",
}


async def test_B1_one_quick_call_makes_a_clear_sentence_a_category_and_a_first_step_of_a_goal(house: Build) -> None:
    async with house({"understand": UNDERSTOOD}) as home:
        run = await home.submit("page X errors why")
        understood = await home.said(run, GoalUnderstood)
        assert (understood.restated, understood.category, understood.first_step) == tuple(UNDERSTOOD.values())
        await home.end(run)
        assert home.asked.count("understand") == 1
