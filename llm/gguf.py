"""The structure of a GGUF file, looked through before a library reads it: MLX's ends the process where it is broken.

The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import mmap
import struct
from pathlib import Path

from schemas.errors import CouldNotStart

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of metadata values by their type."""
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 65_535
_DEEPEST = 4
_MOST_ELEMENTS = 1 << 48


def check_structure(path: Path) -> None:
    """Raises CouldNotStart `model.broken` if the file's metadata or tensors do not lie within it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).whole()
    except (ValueError, struct.error, OverflowError) as problem:
        raise CouldNotStart(
            "model.broken", f"{path} is not a whole GGUF file: {problem}.", "Fetch it again, or name another one."
        ) from None


class _Walk:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4

    def whole(self) -> None:
        version = self._number("<I")
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}")
        tensors, entries = self._number("<Q"), self._number("<Q")
        for _ in range(entries):
            self._string()
            self._value(self._number("<I"), 0)
        for _ in range(tensors):
            self._tensor()

    def _tensor(self) -> None:
        if self._string() > _LONGEST_NAME:
            raise ValueError("a tensor's name is too long")
        dimensions = self._number("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        elements = math.prod(self._number("<Q") for _ in range(dimensions))
        self._number("<I")
        if elements > _MOST_ELEMENTS or self._number("<Q") > len(self._data):
            raise ValueError("a tensor lies outside of it")

    def _value(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY and depth < _DEEPEST:
            inner, count = self._number("<I"), self._number("<Q")
            if inner in _SIZES:
                self._skip(_SIZES[inner] * count)
            else:
                for _ in range(count):
                    self._value(inner, depth + 1)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"a value has the type {kind}")

    def _string(self) -> int:
        size = self._number("<Q")
        self._skip(size)
        return size

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("it ends in the middle")
