"""A run's budget: what its limits leave is reserved before a question is put, and settled by what the answer cost.

A reservation whose cost never comes to be known, as that of an event that was given up, stays: it may have been used.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.errors import ModelFailed
from schemas.inference import ChatMessage
from schemas.plan import MOST, Limits
from streams.keys import Keys
from streams.scripts import Scripts

KEEP = 90 * 86_400.0
"""Seconds for which a budget is kept after the last reservation: as long as a run may wait for anything."""
LETTERS_A_TOKEN = 3
"""An estimate on the safe side: English has about 4 letters and spaces a token."""
_OTHERS = re.compile(r"[^A-Za-z ]+")


def estimated(messages: Sequence[ChatMessage], max_tokens: int) -> int:
    """Tokens that a question may cost at most: its prompt's, estimated, and the longest answer's.

    Of plain words a token has LETTERS_A_TOKEN letters and more; digits, signs and other scripts' bytes may be one each.
    """
    tokens = max_tokens
    for message in messages:
        letters = len(_OTHERS.sub("", message.content))
        tokens += -(-letters // LETTERS_A_TOKEN) + len(message.content.encode(errors="replace")) - letters
    return tokens


def require_time(limits: Limits | None) -> None:
    """Raise ModelFailed `budget.deadline` where a run should have ended."""
    if limits and limits.ends and datetime.now(UTC) >= limits.ends:
        raise ModelFailed(
            "budget.deadline",
            f"The run had to end by {limits.ends:%Y-%m-%d %H:%M:%S %Z}.",
            "Give it more time: --deadline SECONDS.",
        )


class Budget:
    """The budgets of all runs. Without limits on tokens or calls nothing is sent to the server."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts, self._keys = scripts, keys

    async def reserve(self, run_id: str, effect: str, limits: Limits | None, tokens: int, enough: int) -> int:
        """Reserve `tokens`, or what is left if that is `enough`, and a call; how many tokens. What was reserved for an
        effect before is its share still.

        Raises ModelFailed `budget.tokens` or `budget.calls`, and redis errors.
        """
        if not limits or not (limits.tokens or limits.calls):
            return tokens
        wanted = min(tokens, MOST)
        found = await self._scripts.reserve(self._keys.budget(run_id), effect, wanted, enough, limits, KEEP)
        if found.granted == -1:
            raise ModelFailed(
                "budget.tokens",
                f"The run may use {limits.tokens:,} tokens: {found.used:,} are used, {found.reserved:,} reserved, and "
                f"up to {wanted:,} more would be needed.",
                "Give it more: --tokens N, or the setting run_tokens.",
            )
        if found.granted < 0:
            raise ModelFailed(
                "budget.calls",
                f"The run may call models {limits.calls:,} times, and has done so or is about to.",
                "Give it more: --calls N, or the setting run_calls.",
            )
        return found.granted

    async def spend(self, run_id: str, effect: str, limits: Limits | None, tokens: int, calls: int) -> None:
        """Replace what is reserved for an effect by what it cost: once, and nothing where nothing is reserved. Raises
        redis errors."""
        if limits and (limits.tokens or limits.calls):
            await self._scripts.spend(self._keys.budget(run_id), effect, min(tokens, MOST), min(calls, MOST))
