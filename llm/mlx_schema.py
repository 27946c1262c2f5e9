"""Holding what MLX generates to a JSON schema: llguidance says before each token which ones may follow."""

from typing import Any, cast

from llm.grammar import grammatical
from llm.mlx_library import Library

_COMPACT = {"whitespace_flexible": False}
"""Small models otherwise indent until their tokens are used up."""


_DATA = ("const", "default", "enum", "examples")


def closed(schema: Any) -> Any:
    """The schema with no properties but those it names, wherever it does not say otherwise.

    A JSON schema allows any others by default, and small models go on inventing some until their tokens are used up.
    """
    if isinstance(schema, list):
        return [closed(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    node = cast("dict[str, Any]", schema)
    parts = {key: part if key in _DATA else closed(part) for key, part in node.items()}
    if node.get("type") == "object" and "properties" in node:
        parts.setdefault("additionalProperties", False)
    return parts


def vocabulary(library: Library, tokenizer: Any) -> Any:
    """An LLTokenizer of an mlx-lm tokenizer: takes about a second, and serves all requests."""
    ends = sorted(tokenizer.eos_token_ids)
    return library.llguidance.LLTokenizer(tokenizer.backend_tokenizer.to_str(), eos_token=ends)


class Constraint:
    """A logits processor for one answer. Raises ValueError for a schema that llguidance refuses."""

    def __init__(self, library: Library, words: Any, schema: dict[str, Any]) -> None:
        matcher = library.llguidance.LLMatcher
        grammar = matcher.grammar_from_json_schema(closed(grammatical(schema)), overrides=_COMPACT)
        self._matcher = matcher(words, grammar, log_level=0)
        self._library, self._ends = library, list(words.eos_tokens)
        self._begun = False
        if self._matcher.is_error():
            raise ValueError(f"JSON schema: {self._matcher.get_error()}")

    @property
    def problem(self) -> str:
        """Why the grammar gave up, empty as long as it has not."""
        return str(self._matcher.get_error()) if self._matcher.is_error() else ""

    @property
    def complete(self) -> bool:
        """Whether the JSON is whole, and nothing can follow."""
        return bool(self._matcher.is_stopped()) and not self.problem

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """`logits` (1, vocabulary) with what may not follow at minus infinity; `tokens` are all so far."""
        if self._begun and not self._matcher.is_stopped():
            self._matcher.consume_token(int(tokens[-1].item()))  # the first call comes with the prompt's last token
        self._begun = True
        numpy, mx = self._library.numpy, self._library.mx
        allowed = numpy.zeros(logits.shape[-1], dtype=bool)
        if self._matcher.is_stopped():
            allowed[self._ends] = True
        else:
            mask = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
            bits = numpy.unpackbits(mask, bitorder="little")[: allowed.size]
            allowed[: bits.size] = bits  # a model may have more outputs than tokens
        return mx.where(mx.array(allowed)[None], logits, -float("inf"))
