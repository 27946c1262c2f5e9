"""`finish`: the answer, which ends the loop."""

from typing import Annotated, ClassVar

from msgspec import Meta

from consumers.tools.tool import Site, ToolArguments


class Finish(ToolArguments, frozen=True, tag="finish"):
    """End with `answer`, at most 4,000 characters."""

    description: ClassVar[str] = "end with the answer to the task"

    answer: Annotated[str, Meta(max_length=4_000)]

    async def run(self, site: Site) -> str:
        """The answer itself."""
        return self.answer
