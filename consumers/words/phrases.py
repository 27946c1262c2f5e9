"""What the words of goals look like, by the data in rules.toml: patterns, quotes, and which words are paths."""

import re
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from consumers.tools.dates import stretches
from schemas.plan import TaskKind

Needs = Literal[
    "file_path",
    "file_slash",
    "file_name",
    "file_there",
    "folder_path",
    "folder",
    "folder_name",
    "folder_there",
    "nothing",
    "alone",
    "dated",
]

# Quoted parts, and dates where they matter, are put aside, each for one character of these private ranges, so that no
# pattern looks into them.
_FIRST_MASK, _LAST_MASK, _FIRST_DATE = "\ue000", "\uefff", "\uf000"
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_QUOTED = re.compile(
    r"""(?<![A-Za-z0-9])'([^'\n]{1,200})'(?![A-Za-z0-9])|"([^"\n]{1,200})"|`([^`\n]{1,200})`"""
    r"""|«([^«»\n]{1,200})»|[“„]([^“”„\n]{1,200})[”“]|‘([^‘’\n]{1,200})’|「([^「」\n]{1,200})」|『([^『』\n]{1,200})』"""
)
_BARE = r"""[^\s\ue000-\uf8ff"'`«»“”„‘’「」『』《》<>|*?,;:!，；：。！？、（）]"""
PATH = rf"(?P<path>[{_FIRST_MASK}-{_LAST_MASK}]|{_BARE}{{1,200}}?)"

_EXTENSION = re.compile(r"[^./]\.(?=[0-9]*[A-Za-z])(?:[a-z0-9]{2,10}|[A-Z0-9]{2,10}|[chrdmvsCHRDMVS])\Z")
_DOTFILE = re.compile(r"\.[A-Za-z][\w.-]*")
_ROOTED = re.compile(r"(?:/|\.{1,2}/|~[\w-]*/).*[^/]\Z")
_ONE_SLASH = re.compile(r"[\w.@+-]*[^\W\d][\w.@+-]*(?:/[\w.@+-]+)+", re.ASCII)
_WORD = re.compile(r"(?!-)[\w@+-][\w.@+-]*(?<!\wly)", re.ASCII | re.IGNORECASE)
_GLUED = re.compile(r"\.[A-Za-z0-9]{1,10}[\u3400-\u9fff]")
_TRAILING = re.compile(r"(?<=[^\s./])[.,;:!?]+\Z")


class CallRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Patterns of one language for one tool, whose groups are its arguments. `arguments` are those that are the same
    for all of them; in these {name} stands for what a group found."""

    tool: str
    language: Literal["en", "ru", "zh"]
    needs: Needs
    patterns: tuple[str, ...]
    arguments: dict[str, str] = {}


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When what a group found is surely all of an argument."""

    request: str
    name: str
    courtesy: str
    refused: dict[str, str]


class Sentences(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How calls are said in one language."""

    list_directory: str
    read_file: str
    here: str
    join: str
    end: str


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands between the parts of a goal, and before and after them without meaning."""

    sequence: str
    before: str
    after: str


class Rest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How what is left beside calls begins where it stands alone, and which words tie it to what the calls give."""

    opens: str
    refers: str
    folder: str


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which words are paths, and which only look so."""

    known: frozenset[str]
    not_paths: frozenset[str]
    domains: frozenset[str]
    archives: frozenset[str]
    not_files: frozenset[str]
    not_folders: frozenset[str]
    spoken: dict[str, str]


class Categories(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By which words a goal without calls is sorted."""

    question: str
    question_end: str
    action: str
    investigate: str
    several: str


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which words carry a goal's meaning."""

    empty: frozenset[str]
    empty_characters: str
    negation: str


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of rules.toml."""

    words: dict[str, str]
    call: tuple[CallRules, ...]
    sentences: dict[str, Sentences]
    parts: Parts
    said: Said
    rest: Rest
    names: Names
    kinds: dict[TaskKind, str]
    categories: Categories
    meaning: Meaning


RULES = msgspec.toml.decode(Path(__file__).with_name("rules.toml").read_bytes(), type=Rules)


@cache
def pattern(text: str) -> re.Pattern[str]:
    """A pattern of rules.toml, its {words} filled in, without regard to case. Raises KeyError on an unknown word."""
    previous = ""
    while text != previous:
        previous, text = text, re.sub(r"\{([a-z_]+)\}", lambda m: _word(m[1]), text)
    return re.compile(text, re.IGNORECASE)


def _word(name: str) -> str:
    return PATH if name == "path" else RULES.words[name]


class There(msgspec.Struct, frozen=True):
    """The names at the top of a project's folder, as far as they are known: with them more can be sure."""

    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def folder(self, said: str) -> str:
        """The folder that is meant, "" if none is there, or several."""
        said = said.strip("/")
        return _only({said} & self.folders or {name for name in self.folders if _same(name, said)})

    def file(self, said: str) -> str:
        """The file that is meant, whose extension need not be said; "" if none is there, or several."""
        said = RULES.names.spoken.get(said.casefold(), said)
        return _only(
            {said} & self.files
            or {name for name in self.files if _same(name, said)}
            or {name for name in self.files if _same(Path(name).stem, said)}
        )


NOTHING = There()
"""Where nothing is known of the project."""


def _same(name: str, said: str) -> bool:
    return name.casefold() == said.casefold()


def _only(names: set[str] | frozenset[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""


class Quotes:
    """A text with its quoted parts put aside. `masked` is what patterns see."""

    def __init__(self, text: str) -> None:
        self._parts: dict[str, tuple[str, str]] = {}
        masked = _QUOTED.sub(self._aside, _PRIVATE.sub("\ufffd", text))
        self.masked = re.sub(r"\s+", lambda m: "\n" if "\n" in m[0] else " ", masked).strip()

    def _aside(self, found: re.Match[str]) -> str:
        return self._mask(_FIRST_MASK, found[0], found[found.lastindex or 0])

    def _mask(self, first: str, part: str, inside: str) -> str:
        mask = chr(ord(first) + len(self._parts))
        self._parts[mask] = part, inside
        return mask

    def dated(self, masked: str) -> str:
        """The text with its dates and times put aside as well."""
        pieces: list[str] = []
        at = 0
        for start, end in stretches(masked):
            date = self.restored(masked[start:end])
            pieces += masked[at:start], self._mask(_FIRST_DATE, date, date)
            at = end
        return "".join((*pieces, masked[at:]))

    @property
    def quoted(self) -> list[str]:
        """What stood in quotes, without them."""
        return [inside for _, inside in self._parts.values()]

    @property
    def outside(self) -> str:
        """The text without its quoted parts."""
        return _PRIVATE.sub(" ", self.masked)

    def restored(self, masked: str) -> str:
        """The text again, quotes and all."""
        return _PRIVATE.sub(lambda m: self._parts[m[0]][0], masked)

    def inside(self, masked: str) -> str | None:
        """What stands between the quotes, if this is a quoted part."""
        if not _PRIVATE.fullmatch(masked):
            return None
        return _TRAILING.sub("", self._parts[masked][1].strip())


def fits(path: str, needs: Needs, *, quoted: bool, apart: bool) -> bool:
    """Whether a word can be what a pattern needs. `apart`: blanks around it; matters to scripts without blanks."""
    match needs:
        case "file_path":
            return is_file_path(path)
        case "file_slash":
            return is_file_path(path) or (quoted and not re.search(r"\s", path)) or _has_slash(path)
        case "file_name":
            return is_file_path(path) or quoted or _is_word(path, RULES.names.not_files) or _has_slash(path)
        case "folder_path":
            return _is_folder_path(path)
        case "folder":
            return _is_folder_path(path) or _may_be_folder(path, quoted=quoted)
        case "folder_name":
            if _is_folder_path(path) or _may_be_folder(path, quoted=quoted):
                return True
            return apart and path.isalnum() and path.casefold() not in RULES.names.not_folders
        case "file_there" | "folder_there" | "nothing" | "alone" | "dated":
            return False


def is_file_path(path: str) -> bool:
    """Whether this can only be a file's path: an extension, a dotfile, a known name, or a path from a root."""
    last = path.rpartition("/")[2]
    if not last.strip(".") or _elsewhere(path) or _GLUED.search(path):
        return False
    return bool(last in RULES.names.known or _EXTENSION.search(last) or _DOTFILE.fullmatch(last) or _ROOTED.match(path))


def cleaned(path: str) -> str:
    """A path as tools are given it: no `./` before, no `/` behind."""
    path = re.sub(r"\A(?:\./++)+(?!~)", "", path)
    return path.rstrip("/") or ("/" if path else ".")


def _elsewhere(path: str) -> bool:
    """Words with a dot or slash that are no paths: hosts, numbers, and/or."""
    host = path.casefold().partition("/")[0]
    return (
        path.casefold() in RULES.names.not_paths
        or host.startswith("www.")
        or (not host.startswith(".") and "." in host and host.rpartition(".")[2] in RULES.names.domains)
        or "//" in path
    )


def _has_slash(path: str) -> bool:
    return bool(_ONE_SLASH.fullmatch(path)) and not _elsewhere(path)


def _is_word(path: str, excluded: frozenset[str]) -> bool:
    """One word of Latin letters, digits and the signs that names have: no adverb, not excluded."""
    return bool(_WORD.fullmatch(path)) and path.casefold() not in excluded


def _is_folder_path(path: str) -> bool:
    if path in (".", "..", "~", "/"):
        return True
    if not path.strip("./") or _elsewhere(path) or _GLUED.search(path):
        return bool(re.fullmatch(r"(?:\.\.?/)+(?:\.\.)?", path))
    if path.endswith("/"):
        return True
    return not _EXTENSION.search(path) and bool(_ROOTED.match(path) or _has_slash(path))


def _may_be_folder(path: str, *, quoted: bool) -> bool:
    extension = path.rpartition(".")[2].casefold() if "." in path else ""
    if extension in RULES.names.archives or _elsewhere(path):
        return False
    named = quoted or "/" in path.strip("/") or bool(_DOTFILE.fullmatch(path))
    return (named and not _GLUED.search(path)) or _is_word(path, RULES.names.not_folders)
