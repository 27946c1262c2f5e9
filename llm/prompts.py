"""Prompts as files: `llm/prompts/<name>.md` is a system part, a line `---`, and a template for the user part.

The system part never changes, so engines reuse its prefix. What is said by users, tools and models comes in through
the template's variables, each in a block of its own name:

    <goal>$goal</goal>
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import TypeVar

from schemas.inference import Priority, Question

T = TypeVar("T")

_FOLDER = Path(__file__).parent / "prompts"
_BLOCK = re.compile(r"<(\w+)>\$(\w+)</\1>\n?")


_REPLACED: dict[str, "Prompt"] = {}

GOAL_CHARACTERS = 4_000
"""Of a goal, what a prompt carries."""


def excerpt(text: str, characters: int = GOAL_CHARACTERS) -> str:
    """At most about `characters` of a text, its beginning and its end; what is left out is said, never silent."""
    if len(text) <= characters:
        return text
    tail = characters // 4
    return f"{text[: characters - tail]} [... {len(text) - characters:,} characters left out ...] {text[-tail:]}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One kind of question. `variables` are the names its template needs."""

    name: str
    system: str
    template: str
    variables: tuple[str, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> "Prompt":
        """Read a prompt file's text. Raises ValueError if a part is missing or a variable stands outside its block."""
        system, line, template = text.partition("\n---\n")
        variables = tuple(Template(template).get_identifiers())
        blocks = [match[1] for match in _BLOCK.finditer(template) if match[1] == match[2]]
        if not (line and system.strip() and variables):
            raise ValueError(f"prompt {name}: it needs a system part, a line ---, and a template with $variables")
        if sorted(blocks) != sorted(variables) or template.count("$") != len(blocks):
            raise ValueError(f"prompt {name}: each $variable stands once, alone in a block of its name")
        return cls(name, system.strip(), template.strip() + "\n", variables)

    def question(
        self,
        answer: type[T],
        /,
        *,
        max_tokens: int = 256,
        priority: Priority = "interactive",
        step: str = "",
        expert: str = "",
        **variables: str,
    ) -> Question[T]:
        """A question with these variables as data. The block of an empty variable is left out. `expert` are the
        instructions of who answers it: an operator's words, never a user's.

        A variable can't leave its block: `<` of anything that looks like one of the template's tags becomes `‹`.
        Its length is the caller's matter. Raises ValueError if a variable is missing or unknown.
        """
        if other := _REPLACED.get(self.name):
            self = other
        if variables.keys() != set(self.variables):
            raise ValueError(f"prompt {self.name} needs {', '.join(self.variables)}; got {', '.join(variables)}")
        template = _BLOCK.sub(lambda block: block[0] if variables[block[1]].strip() else "", self.template)
        tag = re.compile(rf"<(?=\s*/?\s*(?:{'|'.join(self.variables)})\b)", re.IGNORECASE)
        data = {name: tag.sub("‹", value.strip()) for name, value in variables.items()}
        user = Template(template).substitute(data).strip()
        system = f"{self.system}\n\n{expert.strip()}" if expert.strip() else self.system
        return Question(system, user, answer, max_tokens, priority, step)


@cache
def prompt(name: str) -> Prompt:
    """The prompt of `llm/prompts/<name>.md`. Raises ValueError if it is malformed, OSError if there is none."""
    return Prompt.parse(name, (_FOLDER / f"{name}.md").read_text(encoding="utf-8"))


@contextmanager
def replaced(name: str, text: str) -> Generator[None]:
    """Inside, questions of one prompt are asked with this file's text: to see what would come of it. Raises ValueError
    if it is malformed or takes other variables, OSError if there is no such prompt."""
    other, now = Prompt.parse(name, text), prompt(name)
    if set(other.variables) != set(now.variables):
        raise ValueError(f"prompt {name}: it needs the variables {', '.join(now.variables)}")
    _REPLACED[name] = other
    try:
        yield
    finally:
        del _REPLACED[name]


def names() -> tuple[str, ...]:
    """Every prompt there is."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.md")))
