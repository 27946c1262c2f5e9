"""What the document of the pages says is so: Schemathesis, which tries all it can think of, finds nothing."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.conftest import Cli
from tests.gateway.door import DoorProcess, lasting

CONFIG = Path(__file__).with_name("schemathesis.toml")
FINDING = re.compile(r"^(?:Test cases:\n\s+(\d+) generated)", re.MULTILINE)


@pytest.fixture(scope="module")
def door(shared: Cli) -> Iterator[DoorProcess]:
    """A door with all stages behind it."""
    with lasting(shared) as door:
        yield door


def tried(door: DoorProcess, folder: Path, *arguments: str, within: float = 1_200.0) -> int:
    """Have it try the door; how many cases it was, none of which found anything."""
    program = Path(sys.executable).with_name("st")
    options = ["--request-timeout", "30", "--suppress-health-check", "all", "--continue-on-failure", "--seed", "1"]
    command = [program, "--config-file", CONFIG, "run", f"{door.url}/openapi.json", *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert door.get("/livez") == {"status": "ok"}
    (count,) = FINDING.findall(done.stdout)
    return int(count)


def test_a_hundred_cases_find_nothing(door: DoorProcess, tmp_path: Path) -> None:
    assert tried(door, tmp_path, "--phases", "fuzzing", "-n", "15", within=120) >= 100


@pytest.mark.heavy
def test_two_thousand_cases_find_nothing(door: DoorProcess, tmp_path: Path) -> None:
    assert tried(door, tmp_path, "--phases", "examples,coverage,fuzzing,stateful", "-n", "150") >= 2_000


@pytest.mark.heavy
def test_one_request_after_another_by_their_links_finds_nothing(door: DoorProcess, tmp_path: Path) -> None:
    assert (
        tried(door, tmp_path, "--phases", "stateful", "-n", "100", "--include-path-regex", "^/(run|orchestrate)") >= 100
    )
