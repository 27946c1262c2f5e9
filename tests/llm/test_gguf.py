"""A broken GGUF file is an error of ours, before any library meets it."""

import os
import struct
from pathlib import Path

import pytest

from llm.gguf import check_structure
from schemas.errors import CouldNotStart


def test_a_real_model_is_whole(model_file: Path) -> None:
    check_structure(model_file)


HEAD = b"GGUF" + struct.pack("<I", 3)
BROKEN = {
    "nothing": b"",
    "only its name": b"GGUF",
    "noise": b"GGUF" + os.urandom(100_000),
    "another version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "more tensors than it can hold": HEAD + struct.pack("<QQ", 1 << 60, 0),
    "more metadata than it can hold": HEAD + struct.pack("<QQ", 0, 1 << 60),
    "a text beyond its end": HEAD + struct.pack("<QQQ", 0, 1, 1 << 62) + b"x",
    "an array of arrays of arrays ...": HEAD + struct.pack("<QQQ", 0, 1, 0) + struct.pack("<IIQ", 9, 9, 1) * 50,
    "a tensor of a hundred dimensions": HEAD + struct.pack("<QQQI", 1, 0, 0, 100) + bytes(1000),
    "a tensor beyond its end": HEAD + struct.pack("<QQQIQIQ", 1, 0, 0, 1, 8, 0, 1 << 50),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_said_plainly(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    with pytest.raises(CouldNotStart) as failure:
        check_structure(path)
    assert failure.value.code == "model.broken"


def test_a_model_that_was_cut_short_is_broken(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with model_file.open("rb") as whole:
        path.write_bytes(whole.read(300_000))
    with pytest.raises(CouldNotStart):
        check_structure(path)
