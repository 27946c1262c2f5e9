"""`victoria ask`: one question to a model, by the way that every stage's questions take."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.call import Called, call
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, with_victoria
from gateway.progress import Progress
from gateway.screen import ERR, answer, emit, harmless, note
from schemas.errors import InvalidInput
from schemas.events import AnswerProgressed
from schemas.inference import Question

SYSTEM = "You answer questions clearly and briefly."
TEXT_BYTES = 1 << 20
"""What a question may have at most."""


class Asked(msgspec.Struct, frozen=True):
    """What `--json` prints: the answer, text or data of the schema that was given, and what it cost."""

    answer: Any
    model: str
    node: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    seconds: float
    tries: int


@configured
def ask(
    loaded: Loaded,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the model is asked.")],
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON schema that the answer must follow.", show_default=False),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="How long it may be.")] = 512,
    system: Annotated[str, typer.Option(metavar="TEXT", help="What the model is told to be.")] = SYSTEM,
    as_json: Json = False,
) -> None:
    """Ask a model one question, by the way that every stage's questions take.

    Exit code 1 without an answer, 3 if there can't be such a model, 5 if its nodes can't be reached.

    Example: victoria ask "What is a stream?" --model local
    """
    question = _question(text, system, max_tokens, schema)
    aloud = sys.stdout.isatty() and not as_json

    async def work(victoria: Victoria) -> Called:
        victoria.engines.check(await victoria.engines.wanted())
        with Progress() as progress:
            victoria.engines.progress = progress.download
            progress.waiting("starting a model")
            voice = _Voice(progress)
            hear = voice.say if aloud else progress.heard if ERR.is_terminal else None
            async with interruptible(lambda: Interrupted("interrupted", "Interrupted.")):
                called = await call(victoria, question, hear, progress.waiting)
            if aloud:
                voice.end(_text(called.answer))
        return called

    called = with_victoria(loaded, work)
    usage = called.usage
    if as_json:
        costs = (usage.tokens_in, usage.tokens_out, usage.cached, round(called.seconds, 3), called.tries)
        emit(Asked(called.answer, usage.model, usage.node, *costs))
        return
    if not aloud:
        answer(_text(called.answer))
    cached = f" ({usage.cached} cached)" if usage.cached else ""
    facts = [
        usage.model,
        usage.node if ":" in usage.node else "in process",
        f"{usage.tokens_in} tokens in{cached}, {usage.tokens_out} out",
    ]
    note(" · ".join([*facts, f"{called.seconds:.2f} s", f"tries {called.tries}"]), "dim")


def _question(text: str, system: str, max_tokens: int, schema: Path | None) -> Question[Any]:
    """Raises InvalidInput."""
    if not text.strip():
        raise InvalidInput("ask.empty", "The question is empty.", 'Say what you want: victoria ask "What is a stream?"')
    try:
        size = len(text.encode()) + len(system.encode())
    except UnicodeEncodeError:
        raise InvalidInput("ask.encoding", "The question is not valid Unicode text.", "Send it as UTF-8.") from None
    if size > TEXT_BYTES:
        raise InvalidInput("ask.too_large", f"The question has more than {TEXT_BYTES:,} bytes.", "Shorten it.")
    if schema is None:
        return Question(system, text, str, max_tokens)
    from gateway.shape import Shaped, read_schema  # late: every command's start would wait for its library

    return Shaped(system, text, object, max_tokens, shape=read_schema(schema))


def _text(said: Any) -> str:
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()


class _Voice:
    """Prints an answer on the terminal as it comes, in the spinner's place."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._said = progress, ""

    def say(self, piece: AnswerProgressed) -> None:
        """Print a piece; of an answer that begins anew, on a new line."""
        self._progress.rest()
        if piece.offset == 0 and self._said:
            self._print("\n")
            self._said = ""
        text = piece.text if self._said else piece.text.lstrip()
        self._said += text
        self._print(text)

    def end(self, text: str) -> None:
        """Print what of the whole answer has not been printed."""
        self._progress.rest()
        said = self._said.rstrip()
        self._print(text[len(said) :] if text.startswith(said) else f"\n{text}")
        self._print("\n")

    def _print(self, text: str) -> None:
        sys.stdout.write(harmless(text))
        sys.stdout.flush()
