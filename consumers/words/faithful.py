"""Whether a model's restatement of a goal still says what the goal says. A small model's often does not."""

import re

from consumers.words.phrases import RULES, Quotes, is_file_path, pattern

_LONGEST = 4_000
_MOST_WORDS, _MOST_PATHS = 20, 8
_STEM = 4
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++(?=\s)|[。！？]+|\n+")
_WORD = re.compile(r"[^\W\d_\u3400-\u9fff]{3,}|\d+")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_CYRILLIC, _LATIN = re.compile(r"[\u0400-\u04ff]"), re.compile(r"[A-Za-z]")
_NEGATION = pattern(RULES.meaning.negation)


def faithful(goal: str, restated: str) -> bool:
    """Whether `restated` can stand for `goal`.

    It is one or two sentences, at most max(300, 2 x goal) characters, in the goal's script; keeps its paths and quoted
    parts and whether it forbids something; and keeps at least half of the words that carry meaning, compared by their
    first letters (for Chinese: of the characters). Of long goals, whose restatement is a summary, 20 words and 8 paths
    are enough. Linear in both lengths, of which the first 4,000 characters count.
    """
    restated = restated.strip()
    if not restated or len(restated) > max(300, 2 * len(goal)):
        return False
    goal, restated = goal[:_LONGEST], restated[:_LONGEST]
    if sum(1 for part in _SENTENCE_END.split(restated) if part.strip()) > 2:
        return False
    said = restated.casefold()
    paths, words = _literal(goal)
    kept = sum(path.casefold() in said for path in paths)
    if kept < min(len(paths), _MOST_PATHS):
        return False
    if bool(_NEGATION.search(goal)) != bool(_NEGATION.search(restated)):
        return False
    script = _script(words)
    if script and script != _script(_literal(restated)[1]):
        return False
    meaning = _meaning(words)
    return 2 * len(meaning & _meaning(restated)) >= min(len(meaning), 2 * _MOST_WORDS)


def _literal(text: str) -> tuple[set[str], str]:
    """The paths and quoted parts of a text, and the text without them."""
    quotes = Quotes(text)
    literal = set(quotes.quoted)
    words: list[str] = []
    for word in re.split(r"[\s,;:!?，；：。！？、（）()]+", quotes.outside):
        # Chinese has no blanks: a path is the run of other letters within.
        for piece in re.split(r"([!-~]+)", word):
            path = piece.rstrip(".")
            if is_file_path(path) or ("/" in path.strip("/") and path.isascii()):
                literal.add(path)
            else:
                words.append(piece)
        words.append(" ")
    return literal, "".join(words)


def _meaning(text: str) -> set[str]:
    text = text.casefold()
    words = {word[:_STEM] for word in _WORD.findall(text) if word not in RULES.meaning.empty}
    return words | (set(_CHINESE.findall(text)) - set(RULES.meaning.empty_characters))


def _script(text: str) -> str:
    """The script most of a text is in; a Chinese character weighs as much as three letters. "" without letters."""
    weights = {
        "zh": 3 * len(_CHINESE.findall(text)),
        "ru": len(_CYRILLIC.findall(text)),
        "en": len(_LATIN.findall(text)),
    }
    best = max(weights, key=lambda script: weights[script])
    return best if weights[best] else ""
