"""The chat's terminal: a prompt that is always there, above it what goes on, and above that all that was said."""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import anyio
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.chat.turn import Styled
from gateway.screen import harmless

HISTORY_BYTES = 512 * 1024
"""How much of the history is kept."""
REDRAW = 0.1
"""Seconds between looks at what goes on."""
RICH = {"": "", "dim": "dim", "bold": "bold", "good": "green", "bad": "red", "warn": "yellow"}
_STYLE = Style.from_dict(
    {"dim": "fg:ansibrightblack", "bold": "bold", "bad": "fg:ansired", "warn": "fg:ansiyellow", "prompt": "bold"}
)

Words = Callable[[str], Iterable[tuple[str, str]]]
"""What a line that has begun so may go on with: whole lines, and what they mean."""


class Rows(NamedTuple):
    """Names, and what they are, in two columns."""

    rows: Iterable[tuple[str, str]]


class Terminal:
    """Reads what is typed and shows what is said. `region` gives the lines above the prompt for a width and height,
    `label` the prompt, and `interrupted` is called for Ctrl-C."""

    def __init__(
        self,
        region: Callable[[int, int], list[Styled]],
        label: Callable[[], str],
        words: Words,
        interrupted: Callable[[], bool],
        history: Path,
    ) -> None:
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._region, self._label, self._interrupted = region, label, interrupted
        self._set_aside = ""
        self._history = _history(history)
        self._session: PromptSession[str] = PromptSession(
            self._prompt,
            multiline=True,
            prompt_continuation=". ",
            history=self._history,
            completer=_Completer(words),
            complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
            key_bindings=self._keys(),
            style=_STYLE,
            include_default_pygments_style=False,
            reserve_space_for_menu=6,
        )
        self._session.app.min_redraw_interval = 0.03

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Inside, what anybody else prints appears above the prompt, and the prompt follows what goes on."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._redraw)
            # Raw all the time: what is typed between two prompts is the next one's, and not echoed meanwhile.
            with self._session.app.input.raw_mode(), patch_stdout(raw=True):
                yield
            tasks.cancel_scope.cancel()

    async def read(self) -> str:
        """The next line or lines. Raises EOFError for Ctrl-D, or when Ctrl-C leaves."""
        return await self._session.prompt_async()

    def leave(self) -> None:
        """End `read` with EOFError."""
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit(exception=EOFError)

    async def show(self, *lines: "Styled | Rows") -> None:
        """Print what stays, wrapped to the terminal's width."""
        if lines:
            await run_in_terminal(lambda: self._print(lines))

    def remember(self, *, answers: bool) -> None:
        """Whether the next lines are answers, which the history does not keep. What is half typed is set aside for
        the first of them, and comes back after the last."""
        if answers == self._history.quiet:
            return
        self._history.quiet = answers
        buffer = self._session.default_buffer
        if answers:
            self._set_aside = buffer.text
            buffer.reset()
        elif self._set_aside and not buffer.text:
            buffer.insert_text(self._set_aside)
            self._set_aside = ""

    def _print(self, lines: "Iterable[Styled | Rows]") -> None:
        for each in lines:
            if isinstance(each, Rows):
                table = Table.grid(padding=(0, 2, 0, 0))
                table.add_column(no_wrap=True)
                table.add_column(overflow="fold")
                for name, what in each.rows:
                    table.add_row(Text(harmless(name), "bold"), Text(harmless(what)))
                self._console.print(table)
            else:
                self._console.print(Text(harmless(each.text), RICH[each.style]))

    async def _redraw(self) -> None:
        last: object = None
        while True:
            shown = self._lines(), self._label()
            if shown != last and self._session.app.is_running:
                self._session.app.invalidate()
            last = shown
            await anyio.sleep(REDRAW)

    def _lines(self) -> list[Styled]:
        size = self._session.app.output.get_size()
        return self._region(size.columns - 1, size.rows)

    def _prompt(self) -> StyleAndTextTuples:
        lines = [] if self._session.app.is_done else self._lines()
        above = [(f"class:{each.style}" if each.style else "", f"{each.text}\n") for each in lines]
        return [*above, ("class:prompt", self._label())]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.text.endswith("\\"):
                buffer.delete_before_cursor(1) if buffer.cursor_position == len(buffer.text) else None
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _(event: KeyPressEvent) -> None:
            if self._interrupted():
                return
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=EOFError, style="class:exiting")

        return keys


class _Completer(Completer):
    def __init__(self, words: Words) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: object) -> Iterable[Completion]:
        begun = document.text_before_cursor
        for whole, meaning in self._words(begun):
            yield Completion(whole, start_position=-len(begun), display_meta=harmless(meaning))


class _Kept(FileHistory):
    """What was typed, for the next chats too, in a file that only its user can read."""

    quiet = False

    def append_string(self, string: str) -> None:
        if not self.quiet:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        with suppress(OSError):  # a full disk is no reason to stop talking
            super().store_string(string)


class _Forgotten(InMemoryHistory):
    quiet = False

    def append_string(self, string: str) -> None:
        if not self.quiet:
            super().append_string(string)


def _history(path: Path) -> "_Kept | _Forgotten":
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if path.stat().st_size > 2 * HISTORY_BYTES:
            _, _, rest = path.read_bytes()[-HISTORY_BYTES:].partition(b"\n\n#")
            path.write_bytes(b"\n#" + rest)
        return _Kept(path)
    except OSError:
        return _Forgotten()
