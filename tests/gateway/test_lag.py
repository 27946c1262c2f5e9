"""`victoria lag`: how far stages are behind, for people, for programs and for alarms."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from gateway.lag import Part, StageLag, seconds
from gateway.lag_screen import PAST, picture, short, span, sparkline
from schemas.errors import InvalidInput
from tests.gateway.conftest import Call, Cli, server_of
from tests.gateway.tmux import Tmux, needs_tmux

QUIET = Part(
    stream="plan",
    partition="",
    verdict="ok",
    undelivered=0,
    undelivered_at_least=0,
    undelivered_at_most=0,
    pending=0,
    abandoned=0,
    delayed=0,
    dead=0,
    dead_at_least=0,
    oldest=None,
    consumers=1,
    rate_in=0.0,
    rate_out=0.0,
    eta=None,
)
numbers = st.integers(0, 10**12)
rate = st.none() | st.floats(0, 10**9)
parts = st.builds(
    Part,
    stream=st.just("plan"),
    partition=st.just("0"),
    verdict=st.sampled_from(["ok", "falling behind", "stalled", "stopped", "unknown"]),
    undelivered=st.none() | numbers,
    undelivered_at_least=numbers,
    undelivered_at_most=numbers,
    pending=numbers,
    abandoned=numbers,
    delayed=numbers,
    dead=st.none() | numbers,
    dead_at_least=numbers,
    oldest=rate,
    consumers=st.none() | numbers,
    rate_in=rate,
    rate_out=rate,
    eta=rate,
)


def drawn(found: Sequence[StageLag], width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as shown:
        console.print(picture(found, width, in_parts=True, watched=True, trouble="The server is away: x"))
    return shown.get().splitlines()


@given(
    part=parts, name=st.sampled_from(["plan", "infer.ollama.background", "x" * 80]), past=st.lists(numbers, max_size=20)
)
def test_all_that_can_be_fits_80_columns(part: Part, name: str, past: list[int]) -> None:
    lines = drawn([StageLag(name, part, (part, part), tuple(past))])
    assert max(map(len, lines)) <= 80
    assert len(lines) >= 6


@given(number=st.floats(0, 10**15), past=st.lists(numbers, max_size=20))
def test_numbers_are_short(number: float, past: list[int]) -> None:
    assert len(short(number)) <= 4
    assert len(span(number)) <= 5
    assert len(sparkline(past)) <= PAST


def test_numbers_can_be_read() -> None:
    assert [short(each) for each in (0, 7, 0.25, 999, 1_000, 12_345, 5_000_000)] == [
        *("0", "7", "0.2", "999", "1.0k", "12k", "5.0M"),
    ]
    assert [span(each) for each in (0, 0.25, 59, 60, 3_600, 90_000)] == ["0.0s", "0.2s", "59s", "1m", "1h", "1d"]
    assert sparkline([0, 1, 50, 100]) == "▁▂▅█"
    assert [seconds(each) for each in ("30s", "5m", "2h", "1.5")] == [30, 300, 7_200, 1.5]
    with pytest.raises(InvalidInput, match=r"lag\.time"):
        seconds("soon")


def test_unknown_is_shown_as_at_least_so_many() -> None:
    unknown = replace(QUIET, undelivered=None, undelivered_at_least=1_000, rate_out=None, verdict="unknown")
    row = next(line for line in drawn([StageLag("plan", unknown, ())]) if line.startswith("plan"))
    assert "≥1.0k" in row
    assert "? unknown" in row


def test_an_alarm_tells_what_is_behind_and_exits_4(cli: Cli, call: Call) -> None:
    call("publish", "Read docs/alpha.txt")
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.xadd("{victoria:0}:plan", {"type": "Old", "event": "{}"}, id="5-0")
    assert call("lag", "--check", "--max-age", "60000d", "--json").code == 0
    done = call("lag", "--check", "--max-age", "1h", "--json")
    assert done.code == 4
    assert [line.partition(":")[0] for line in done.json()["behind"]] == ["plan"]
    done = call("lag", "--check", "--max-age", "60000d", "--max-lag", "0")
    assert done.code == 4
    assert "understand: 1 unfinished entries, more than 0" in done.err
    (stage,) = call("lag", "--stage", "plan", "--every", "0.1", "--json").json()["stages"]
    assert (stage["all"]["verdict"], stage["all"]["undelivered"], stage["all"]["rate_in"]) == ("stopped", 1, 0.0)
    assert [part["partition"] for part in stage["partitions"]] == ["0"]
    assert "✗ stopped" in call("lag", "--every", "0.1").out
    assert call("lag", "--stage", "nobody", "--json").json()["error"]["code"] == "stage.unknown"
    assert call("lag", "--watch", "--check", "--json").json()["error"]["code"] == "lag.usage"


def test_without_a_terminal_watching_goes_on_line_by_line(cli: Cli) -> None:
    running = cli.start("lag", "--watch", "--json", "--every", "0.1")
    for _ in range(2):
        assert json.loads(running.until('"stages"'))["stages"]


@needs_tmux
def test_the_live_screen_shows_what_comes_and_what_is_done(cli: Cli, call: Call, tmp_path: Path) -> None:
    with server_of(Path(cli.environ["VICTORIA_STATE_DIR"])) as client:
        client.flushall()
    pane = Tmux(tmp_path, cli, "lag", "--watch", "--every", "0.2", NO_COLOR="1")
    try:
        pane.until("understand", "wait: undelivered")
        call("publish", "Read docs/alpha.txt")
        shown = pane.until("✗ stopped")
        assert [line.split()[0] for line in shown.splitlines() if "✗ stopped" in line] == ["understand"]
        assert "█" in shown
        call("run", "Read docs/beta.txt")
        assert "▲" not in pane.until("█▁"), "all is done"
        pane.resize(100)
        pane.press("C-c")
        assert pane.ended() == 130
    finally:
        pane.close()
