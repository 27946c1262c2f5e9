"""`missing_capability`: what an expert says when it meets what it can't do."""

from typing import Annotated, ClassVar

from msgspec import Meta

from consumers.tools.tool import Look, Missing, Site, ToolArguments


class MissingCapability(ToolArguments, frozen=True, tag="missing_capability"):
    """Report that the task needs a `capability` that this expert does not have; whoever has it takes over."""

    description: ClassVar[str] = "hand the task to whoever has the capability that it needs and you don't have"
    capability: ClassVar[str] = "coordination"
    look: ClassVar[Look] = Look("Hand over", "text")
    general: ClassVar[bool] = False

    needed: Annotated[str, Meta(min_length=1, max_length=80)]

    async def run(self, site: Site) -> str:
        """Never gives anything: raises Missing, for whoever runs the step to hand it over."""
        raise Missing(self.needed, self.thought)
