"""`ask_user`: a question to the person whose goal it is."""

from typing import Annotated, ClassVar

from msgspec import Meta

from consumers.tools.tool import Asked, Look, Site, ToolArguments

Choice = Annotated[str, Meta(min_length=1, max_length=100)]


class AskUser(ToolArguments, frozen=True, tag="ask_user"):
    """Ask the user one thing that only they can know; `choices` are possible answers, if there are few."""

    description: ClassVar[str] = "a question to the user, if the task can't be done without their answer"
    capability: ClassVar[str] = "coordination"
    look: ClassVar[Look] = Look("Ask", "question")

    question: Annotated[str, Meta(min_length=1, max_length=500)]
    choices: Annotated[tuple[Choice, ...], Meta(max_length=6)] = ()

    async def run(self, site: Site) -> str:
        """Never gives anything: raises Asked, for whoever runs the step to have it wait."""
        raise Asked(self.question, self.choices)
