"""What can be made of a goal without a model: sure tool calls, what is left of it, and what kind of goal it is.

Rules are data (rules.toml); this file only applies them. A goal is matched whole, or part by part where words of
sequence ("then", "затем", "然后") split it into calls and a last part that is left for a model. A wrong call is worse
than a missed one: whatever does not fit entirely is left alone; some fits only where the project has what it names.
Every text is bounded before it is matched.
"""

import re
from collections.abc import Iterator
from functools import cache

import msgspec

from consumers.words.arguments import said
from consumers.words.faithful import faithful
from consumers.words.findings import Recognised
from consumers.words.phrases import NOTHING, RULES, CallRules, Quotes, There, cleaned, fits, pattern
from schemas.plan import Category, TaskKind, ToolCall

__all__ = ["NOTHING", "Recognised", "There", "faithful", "recognise"]

LONGEST = 1_000
"""A goal with more characters is never a tool call; of it, this much at the start decides kind and category."""
_LONGEST_PART = 400
_MOST_CALLS = 8
_MOST_SPLITS = 16
_MOST_TRIMS = 8
_TAIL = 40
_KEPT_START, _KEPT_END = 1_500, 500

_SURE, _SURE_SEVERAL, _SURE_WITH_REST, _QUESTION, _SORTED, _UNSURE = 0.95, 0.9, 0.8, 0.7, 0.5, 0.3

_SCRIPTS = {"en": re.compile("[A-Za-z]"), "ru": re.compile("[А-яЁё]"), "zh": re.compile("[\u3400-\u9fff]")}
_PATH = pattern("{path}")
_SEQUENCE = pattern(RULES.parts.sequence)
_BEFORE = re.compile(rf"(?:[\s,;:!?。！？，；：…]|{RULES.parts.before})++", re.IGNORECASE)
_AFTER = pattern(rf"{RULES.parts.after}\Z")
_CLOSING = re.compile(r"(?:(?<=[^\s./])\.+|[\s,;:!?。！？，；：…]+|(?<=\s)\.{3,})\Z")
_KINDS: tuple[tuple[TaskKind, re.Pattern[str]], ...] = tuple(
    (kind, pattern(text)) for kind, text in RULES.kinds.items()
)
_MORE_FOLDERS = pattern(RULES.rest.folder)
_OPENS, _REFERS = pattern(RULES.rest.opens), pattern(RULES.rest.refers)
_QUESTION_START, _ACTION = pattern(RULES.categories.question), pattern(RULES.categories.action)
_QUESTION_END = pattern(RULES.categories.question_end)
_INVESTIGATE, _SEVERAL = pattern(RULES.categories.investigate), pattern(RULES.categories.several)


_Patterns = tuple[CallRules, tuple[re.Pattern[str], ...]]
"""What a call looks like in one language, compiled."""


class _Call(msgspec.Struct, frozen=True):
    tool: str
    language: str
    arguments: dict[str, str]

    @property
    def path(self) -> str:
        """The one argument of calls that go together; "" of others, which are never beside another."""
        return self.arguments.get("path", "")


def _of_path(tool: str, language: str, path: str) -> _Call:
    return _Call(tool, language, {"path": path})


def recognise(goal: str, there: There = NOTHING) -> Recognised:
    """What rules make of any text, in time linear in its length. Never raises.

    `there` tells what the project's folder has: "read the readme" is sure where there is one.
    """
    goal = goal.strip()
    calls, rest = _calls(goal, there) if len(goal) <= LONGEST else ([], "")
    if not calls:
        text = " ".join(goal[:LONGEST].split())
        category, confidence = _category(text)
        return Recognised(_shortened(goal), category, _kind(text), confidence)
    more, rest = _more_folders(rest, calls[-1])
    calls += more
    several = len(calls) > 1 or bool(rest)
    confidence = _SURE_WITH_REST if rest else _SURE_SEVERAL if several else _SURE
    return Recognised(
        restated=_sentence(calls, rest) if calls[0].path else _shortened(goal),
        category="multi_step" if several else "simple",
        kind=_kind(rest) if rest else "fast",
        confidence=confidence,
        calls=tuple(ToolCall(call.tool, call.arguments) for call in calls),
        rest=rest,
        rest_alone=_stands_alone(rest, calls),
        first_step=" ".join((calls[0].tool, *map(str, calls[0].arguments.values()))),
    )


def _calls(goal: str, there: There) -> tuple[list[_Call], str]:
    """The calls a goal begins with, and what is left of it."""
    quotes = Quotes(goal)
    whole = _call(quotes, quotes.masked, there, alone=True)
    if whole:
        return [whole], ""
    calls: list[_Call] = []
    left = _begun(quotes.masked)
    while left and len(calls) < _MOST_CALLS:
        found = _next_call(quotes, left, there, calls[-1] if calls else None)
        if not found:
            break
        calls.append(found[0])
        left = _begun(found[1])
    return calls, quotes.restored(left).strip() if _trimmed(left) else ""


def _next_call(quotes: Quotes, text: str, there: There, previous: _Call | None) -> tuple[_Call, str] | None:
    """The shortest first part of a text that is a call, and what comes behind it."""
    for number, split in enumerate(_SEQUENCE.finditer(text)):
        if number == _MOST_SPLITS:
            return None
        call = _call(quotes, text[: split.start()], there, previous)
        if call:
            return call, text[split.end() :]
    call = _call(quotes, text, there, previous) if previous else None  # as a whole it was tried before
    return (call, "") if call else None


def _call(
    quotes: Quotes, text: str, there: There, previous: _Call | None = None, *, alone: bool = False
) -> _Call | None:
    """The call that this part as a whole asks for. After a call, a path is enough: "read a.md and b.md"."""
    if len(text) > 2 * _LONGEST_PART:
        return None
    begun, text = _begun(text), _trimmed(text)
    if not 1 < len(text) <= _LONGEST_PART and not quotes.inside(text):
        return None
    wholes = {"alone": text, "dated": quotes.dated(text)} if alone else {"alone": "", "dated": ""}
    for rules, patterns in _in_its_languages(text):
        if not (seen := wholes.get(rules.needs, text)):
            continue
        for candidate in patterns:
            found = candidate.fullmatch(seen)
            given = found and _arguments(quotes, found, rules, there, begun[len(text) :])
            if given is not None:
                return _Call(rules.tool, rules.language, given)
    if previous and _PATH.fullmatch(text):
        path = quotes.inside(text) or text
        if known := there.file(path) if previous.tool == "read_file" else there.folder(path):
            return _of_path(previous.tool, previous.language, known)
        if fits(path, "file_path" if previous.tool == "read_file" else "folder_path", quoted=False, apart=True):
            return _of_path(previous.tool, previous.language, cleaned(path))
    return None


def _in_its_languages(text: str) -> Iterator[_Patterns]:
    """The calls of the languages in whose scripts something is said."""
    for language, script in _SCRIPTS.items():
        if script.search(text):
            yield from _calls_of(language)


@cache
def _calls_of(language: str) -> tuple[_Patterns, ...]:
    """Compiled when first needed: that takes a while, and mostly one language is spoken."""
    own = (rules for rules in RULES.call if rules.language == language)
    return tuple((rules, tuple(pattern(text) for text in rules.patterns)) for rules in own)


def _arguments(
    quotes: Quotes, found: re.Match[str], rules: CallRules, there: There, tail: str
) -> dict[str, str] | None:
    """What a pattern found, None if it is not what the pattern needs. `tail` was cut off behind it."""
    if rules.needs in ("alone", "dated"):
        return said(quotes, found, rules.arguments, tail)
    path = _path(quotes, found, rules, there)
    return {"path": path} if path else None


def _path(quotes: Quotes, found: re.Match[str], rules: CallRules, there: There) -> str:
    """The path a pattern found, "" if it is not what the pattern needs."""
    if rules.needs == "nothing":
        return rules.arguments["path"]
    inside = quotes.inside(found["path"])
    path = found["path"] if inside is None else inside
    known = there.file(path) if rules.tool == "read_file" else there.folder(path)
    if rules.needs == "folder_there" and path.casefold() in RULES.names.not_folders:
        return ""
    if known or rules.needs in ("file_there", "folder_there"):
        return known
    around = found.string[: found.start("path")][-1:], found.string[found.end("path") :][:1]
    apart = all(character in ("", " ") for character in around)
    return cleaned(path) if path and fits(path, rules.needs, quoted=inside is not None, apart=apart) else ""


def _more_folders(rest: str, last: _Call) -> tuple[list[_Call], str]:
    """The calls for folders that a rest goes on naming, as in "... in schemas, consumers and llm", and what comes then.

    All or nothing: behind the last of them there is nothing, or what can't be a name.
    """
    calls: list[_Call] = []
    left = rest if last.tool == "list_directory" else ""
    while left and len(calls) < _MOST_CALLS:
        split = _SEQUENCE.search(left)
        part = _trimmed(left[: split.start()] if split else left)
        named = None if _ACTION.match(part) else _MORE_FOLDERS.fullmatch(part)
        if not named:
            return (calls, left) if _OPENS.match(left) or _ACTION.match(left) else ([], rest)
        calls.append(_of_path("list_directory", last.language, named[1]))
        left = left[split.end() :] if split else ""
    return calls, left if calls else rest


def _stands_alone(rest: str, calls: list[_Call]) -> bool:
    """Whether a rest surely asks for nothing that the calls give: taken for dependent, it only waits for them.

    It may stand alone beside listed folders only, for what follows a file that was read is mostly about that file.
    """
    if any(call.tool != "list_directory" for call in calls) or not _OPENS.match(rest) or _REFERS.search(rest):
        return False
    said = rest.casefold()
    names = {name for call in calls for name in re.findall(r"\w{3,}", call.path.casefold())}
    parts = _SEQUENCE.split(rest)[:_MOST_SPLITS]
    return not any(name in said for name in names) and not any(_ACTION.match(_trimmed(part)) for part in parts)


def _trimmed(text: str) -> str:
    """Without greetings, thanks and the last full stop; a path's own dots stay."""
    text = _begun(text)
    for _ in range(_MOST_TRIMS):
        # Only a short tail is searched: a search for an end begins at every character.
        kept, tail = text[:-_TAIL], text[-_TAIL:]
        shorter = kept + _AFTER.sub("", _CLOSING.sub("", tail))
        if shorter == text:
            break
        text = shorter
    return text


def _begun(text: str) -> str:
    """Without what stands before a goal: blanks, signs, greetings."""
    start = _BEFORE.match(text)
    return text[start.end() :] if start else text


def _sentence(calls: list[_Call], rest: str) -> str:
    words = RULES.sentences[calls[0].language]
    said: list[str] = []
    for call in calls:
        # A path of dots would melt into the full stop.
        path = f'"{call.path}"' if " " in call.path or not call.path.strip(".") else call.path
        text = words.here if call.path == "." else getattr(words, call.tool).replace("{path}", path)
        said.append(text[:1].lower() + text[1:] if said else text)
    if rest:
        said.append(rest)
    text = words.join.join(said)
    return text if text.endswith((".", "!", "?", "。", "！", "？")) and rest else text + words.end


def _shortened(goal: str) -> str:
    """A goal as it is on one line; of a very long one, its start and its end."""
    if len(goal) > _KEPT_START + _KEPT_END:
        goal = f"{goal[:_KEPT_START]} … {goal[-_KEPT_END:]}"
    return " ".join(goal.split())


def _category(text: str) -> tuple[Category, float]:
    """For a goal without calls, and how sure that is."""
    parts = [_trimmed(part) for part in _SEQUENCE.split(text)[:_MOST_SPLITS]]
    actions = sum(1 for part in parts if _ACTION.match(part))
    asks = _QUESTION_START.match(_trimmed(text)) or _QUESTION_END.search(_trimmed(text))
    if actions > 1 or (actions and _SEVERAL.search(text)):
        return "multi_step", _SORTED
    if asks and not actions:
        return "simple", _QUESTION
    if _INVESTIGATE.search(text):
        return "investigate", _SORTED
    return "simple", _UNSURE


def _kind(text: str) -> TaskKind:
    hits: list[tuple[int, TaskKind]] = [(len(set(words.findall(text[:LONGEST]))), kind) for kind, words in _KINDS]
    most, kind = max(hits, key=lambda hit: hit[0])
    return kind if most else "general"
