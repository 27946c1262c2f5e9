"""`memo_*`: a project's notes."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar

from anyio import to_thread
from msgspec import Meta
from msgspec.structs import replace

from consumers.store import Record
from consumers.tools.matching import folded, ranked
from consumers.tools.plain import plain
from consumers.tools.tool import Look, Site, ToolArguments
from schemas.errors import ToolRefused
from streams.stage import Effects

FOUND, LISTED, EXCERPT = 8, 20, 200
"""How many notes a search gives, how many a list, and how many characters of each."""
TAGS = 10

Text = Annotated[str, Meta(min_length=1, max_length=4_000)]
Tags = Annotated[str, Meta(max_length=200)]
Query = Annotated[str, Meta(min_length=1, max_length=300)]
NoteId = Annotated[str, Meta(max_length=40)]


class Note(Record, frozen=True):
    """A note; `at` is when it was written, or last changed."""

    collection: ClassVar[str] = "notes"
    most: ClassVar[int] = 5_000

    text: str
    tags: tuple[str, ...] = ()


class _Memo(ToolArguments, frozen=True):
    """What the tools for notes have in common: only experts that name them have them."""

    capability: ClassVar[str] = "notes"
    general: ClassVar[bool] = False
    look: ClassVar[Look] = Look("Notes", "listing")


class MemoWrite(_Memo, frozen=True, tag="memo_write"):
    """Write a note down, in the user's words; `tags` are separated by commas. With the `id` of a note, change that."""

    description: ClassVar[str] = "write a note down; with the id of a note, write it anew"
    effects: ClassVar[Effects] = "repeat"
    commands: ClassVar[tuple[str, ...]] = ("/note TEXT",)
    look: ClassVar[Look] = Look("Write note")

    text: Text
    tags: Tags = ""
    id: NoteId = ""

    async def run(self, site: Site) -> str:
        """Which note was written. Raises ToolRefused `note.empty`, `note.unknown`, `store.*`."""
        if not self.text.strip():
            raise ToolRefused("note.empty", "The note is empty.", "Give what it should say as text.")
        if given := bare(self.id):
            earlier = await _note(site, given)
            note = replace(earlier, at=site.now, text=self.text, tags=_tags(self.tags) or earlier.tags)
            if not await site.records.replace(note):
                raise _unknown(given)
            return f"Changed note {_line(note, site.now)}"
        note = Note(id=site.new_id, at=site.now, text=self.text, tags=_tags(self.tags))
        # A small model is apt to say in its next round what it said before; all rounds of a step have the same `now`.
        for other in await site.records.scan(Note, site.now, site.now + timedelta(milliseconds=1)):
            if other.text == note.text and other.id != note.id:
                return f"That is written down already: {_line(other, site.now)}"
        await site.records.add(note)  # it is there already where the same call is done again
        return f"Wrote note {_line(note, site.now)}"


class MemoSearch(_Memo, frozen=True, tag="memo_search"):
    """Find notes by words that may stand in them."""

    description: ClassVar[str] = "notes in which words stand, the best first"
    commands: ClassVar[tuple[str, ...]] = ("/find WORDS",)

    words: Query

    async def run(self, site: Site) -> str:
        """One note a line. Raises ToolRefused `store.*`."""
        notes = await _notes(site)
        texts = [f"{note.text}\n{' '.join(note.tags)}" for note in notes]
        best = await to_thread.run_sync(ranked, self.words, texts)
        if not best:
            return f"None of {len(notes):,} notes has any of these words: {plain(self.words)}" if notes else _NONE
        return _listed([notes[index] for index in best], FOUND, site.now, "less like it")


class MemoList(_Memo, frozen=True, tag="memo_list"):
    """List notes, the newest first; only those with a `tag`, or older than the one with the id `after`."""

    description: ClassVar[str] = "notes, the newest first; those with a tag, or after the id of the last one seen"
    commands: ClassVar[tuple[str, ...]] = ("/notes",)

    tag: Tags = ""
    after: NoteId = ""

    async def run(self, site: Site) -> str:
        """One note a line. Raises ToolRefused `note.unknown`, `store.*`."""
        notes, tags = await _notes(site), set(_tags(self.tag))
        if after := bare(self.after):
            ids = [note.id for note in notes]
            if after not in ids:
                raise _unknown(after)
            notes = notes[ids.index(after) + 1 :]
        chosen = [note for note in notes if tags <= set(note.tags)]
        if not chosen:
            return "(no more notes)" if after else f"No note has the tag {plain(self.tag)}." if tags else _NONE
        return _listed(chosen, LISTED, site.now, f"older than {chosen[:LISTED][-1].id}")


class MemoRead(_Memo, frozen=True, tag="memo_read"):
    """Read one note in full."""

    description: ClassVar[str] = "one note in full, by its id"
    look: ClassVar[Look] = Look("Read note")

    id: NoteId

    async def run(self, site: Site) -> str:
        """When it was written, its tags, and its text. Raises ToolRefused `note.unknown`, `store.*`."""
        note = await _note(site, bare(self.id))
        return f"{_head(note, site.now)}\n{plain(note.text, keep=chr(10) + chr(9))}"


class MemoDelete(_Memo, frozen=True, tag="memo_delete"):
    """Delete one note."""

    description: ClassVar[str] = "delete one note, by its id"
    effects: ClassVar[Effects] = "repeat"
    look: ClassVar[Look] = Look("Delete note")

    id: NoteId

    async def run(self, site: Site) -> str:
        """What was done; a note that is not there is no error: this may be the second time. Raises `store.*`."""
        given = bare(self.id)
        if await site.records.remove(Note, given):
            return f"Deleted note {given}."
        return f"There is no note {plain(given)!r} now: it was deleted before, or never was."


_NONE = "There are no notes yet."


def bare(given: str) -> str:
    """An id without what models put around one: `[abc]`, `#abc`, `note abc`."""
    return given.strip().split(" ")[-1].strip("[]()#<>\"'`.,:").lower()


async def _notes(site: Site) -> list[Note]:
    """All notes, the newest first."""
    return (await site.records.scan(Note))[::-1]


async def _note(site: Site, given: str) -> Note:
    note = await site.records.read(Note, given)
    if note is None:
        raise _unknown(given)
    return note


def _unknown(given: str) -> ToolRefused:
    return ToolRefused("note.unknown", f"There is no note {given!r}.", "memo_search and memo_list give the ids.")


def _tags(text: str) -> tuple[str, ...]:
    """Tags as they are written, separated by commas or with a # before each."""
    parts = (" ".join(folded(part).split()) for part in text.replace("#", ",").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))[:TAGS]


def _listed(notes: list[Note], most: int, now: datetime, more: str) -> str:
    lines = [_line(note, now) for note in notes[:most]]
    if len(notes) > most:
        lines.append(f"({len(notes) - most:,} more are {more})")
    return "\n".join(lines)


def _line(note: Note, now: datetime) -> str:
    text = " ".join(note.text.split())
    return f"{_head(note, now)}: {plain(text[:EXCERPT])}{'...' if len(text) > EXCERPT else ''}"


def _head(note: Note, now: datetime) -> str:
    tags = f" ({plain(', '.join(note.tags))})" if note.tags else ""
    return f"[{note.id}] {note.at.astimezone(now.tzinfo):%Y-%m-%d %H:%M}{tags}"
