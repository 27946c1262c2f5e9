"""`victoria show`: what a run did, when and why, as far as it is recorded, in a terminal, as data, and as a page."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
import pytest
from rich.cells import cell_len

from consumers.runs.retold import retold
from consumers.runs.timeline import MOST, Row, Timeline
from deploy.projects import Projects
from deploy.settings import Settings
from deploy.wiring import still_topology
from gateway.scale import GAP, Scale, moment, span
from gateway.timeline_page import page
from gateway.waterfall import waterfall
from schemas.errors import ErrorInfo
from streams.connection import connect
from streams.tape import Tape
from tests.browser import tab
from tests.gateway.conftest import Call, Cli
from tests.gateway.eventful import GOAL, recorded
from tests.workshop import wipe

TOPOLOGY = still_topology(Settings(), Projects("", {}))


class Runs(NamedTuple):
    """One run, while it waited for a person and after its end; and its file."""

    waiting: Tape
    ended: Tape
    file: Path


@pytest.fixture(scope="module")
def runs(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder, prefix = tmp_path_factory.mktemp("run"), f"test-{uuid4().hex[:12]}"
    waiting, ended = asyncio.run(recorded(redis_url, prefix, folder))  # not anyio's: fixtures of others may hold it
    ended.save(folder / "run.jsonl")
    yield Runs(waiting, ended, folder / "run.jsonl")

    async def clear() -> None:
        client = connect(redis_url)
        await wipe(client, prefix)
        await client.aclose()

    asyncio.run(clear())


def named(found: Timeline, kind: str, name: str) -> Row:
    return next(row for row in found.rows if (row.kind, row.name) == (kind, name))


def inside(found: Timeline, row: Row) -> list[Row]:
    return [each for each in found.rows if each.parent == row.id]


def test_a_timeline_has_every_stage_step_question_work_and_call_with_what_made_it(runs: Runs) -> None:
    found = retold(runs.ended, TOPOLOGY)
    assert (found.goal, found.status, found.missing, found.until) == (GOAL, "completed", (), found.end)
    stages = [row.name for row in found.rows if row.kind == "stage" and not row.parent]
    assert stages[:3] == ["understand", "plan", "aggregate"]
    assert sorted(row.name for row in found.all("step")) == ["1", "2", "3", "4", "5"]
    assert {(row.name, row.title) for row in found.all("tool")} >= {("list_directory", "docs"), ("flaky", "")}
    again = named(found, "model", "understand.2")
    assert (again.model, bool(again.node), again.attempts) == ("scripted", True, 1)
    assert again.tokens_in
    assert found.tokens_in == sum(row.tokens_in or 0 for row in found.rows if row.kind in ("model", "delegation"))
    work = named(found, "delegation", "veronica")
    assert (work.model, work.tokens_in, work.tokens_out) == ("far-model", 30, 12)
    asked = named(found, "question", "question")
    assert (asked.status, asked.title) == ("answered", "Which plan counts, 新 or old? → The new one.")
    by_id = {row.id: row for row in found.rows}
    for step in found.all("step"):
        assert step.cause
        assert by_id[step.cause.row].name == "aggregate"
    first = named(found, "stage", "understand")
    assert first.cause
    assert (first.start, first.cause.type, first.cause.row) == (0, "GoalSubmitted", "")
    for row in found.rows:
        assert row.end is None or row.start is None or row.start <= row.end, row
        assert not row.open, row
        assert row.took is None or sum(b - a for a, b in row.waits) <= row.took, row


def test_what_was_tried_again_and_what_failed_is_told_with_its_reasons(runs: Runs) -> None:
    found = retold(runs.ended, TOPOLOGY)
    step = named(found, "step", "2")
    (handling,) = (row for row in inside(found, step) if row.name == "step-execute")
    assert (step.attempts, handling.attempts, handling.status) == (3, 3, "ok")
    assert [each.error.code for each in handling.tries] == ["flaky.away", "flaky.away"]
    assert len(handling.waits) == 2, "put off after each"
    assert not handling.minor
    failed = named(found, "step", "4")
    assert (failed.status, failed.failed) == ("failed", True)
    assert failed.error
    assert failed.error.code == "step.no_answer"
    refused = next(row for row in found.rows if row.name == "read_file")
    assert refused.error
    assert (refused.status, refused.error.code) == ("failed", "path.missing")


def test_a_run_that_goes_on_is_shown_as_far_as_it_has_come(runs: Runs) -> None:
    now = int(runs.waiting.entries[-1].id.partition("-")[0]) + 60_000
    found = retold(runs.waiting, TOPOLOGY, now)
    asked = named(found, "question", "question")
    assert (found.end, found.status not in ("completed", "failed")) == (None, True)
    assert (asked.open, asked.end, asked.status) == (True, None, "open")
    assert found.until >= 60_000
    drawn = [line.plain for line in waterfall(found, 80)]
    assert any(line.endswith("▶") and "question" in line for line in drawn)
    assert any("so far" in line for line in drawn)
    assert '<span class="took">open</span>' in page(found)


def test_what_is_not_recorded_is_unknown_and_said(runs: Runs) -> None:
    lost = Tape.read(iter(runs.ended.lines()), "")
    lost.missing = ("what came on the stream intake before 1-1",)
    lost.entries = [e for e in lost.entries if e.type not in ("GoalSubmitted", "InferenceRequested", "StepFinished")]
    for entry in range(len(lost.entries)):
        lost.entries[entry] = msgspec.structs.replace(lost.entries[entry], attempt=0, history=())
    lost.states.clear()
    lost.effects["x/y"] = b"{"
    found = retold(lost, TOPOLOGY)
    assert found.missing == (*lost.missing, "the record x/y, which can't be read")
    assert found.status == "completed"
    asked = named(found, "model", "fuse")
    assert (asked.attempts, asked.waits) == (None, ())
    assert {row.attempts for row in found.rows} == {None}
    text = "\n".join(line.plain for line in waterfall(found, 80))
    assert "? missing what came on the stream intake before 1-1" in text
    assert "Missing: the record x/y" in page(found)
    empty = retold(Tape("nobody"), TOPOLOGY)
    assert (empty.rows, empty.began, empty.status) == ((), None, "queued")
    assert list(waterfall(empty, 80))
    assert "nobody" in page(empty)


def test_a_file_may_count_anything_and_is_shown(runs: Runs) -> None:
    """Numbers that no machine word and no float holds."""
    vast, tape = 10**400, Tape.read(iter(runs.ended.lines()), "")
    tape.entries = [msgspec.structs.replace(entry, attempt=vast) for entry in tape.entries]
    for effect, data in tape.effects.items():
        record = msgspec.json.decode(data)
        record["usage"] = {"calls": 1, "tokens_in": vast, "tokens_out": vast, "cached": vast}
        tape.effects[effect] = msgspec.json.encode(record)
    found = retold(tape, TOPOLOGY)
    assert named(found, "model", "fuse").tokens_in == MOST
    assert max(cell_len(line.plain) for line in waterfall(found, 80)) <= 80
    assert "×1000000000000" in page(found)
    assert msgspec.json.encode(found)


@pytest.mark.parametrize("width", [60, 80, 133])
def test_the_drawing_fits_the_terminal_and_its_bars_are_in_line(runs: Runs, width: int) -> None:
    found = retold(runs.ended, TOPOLOGY)
    lines = [line.plain for line in waterfall(found, width, whole=True)]
    assert max(map(cell_len, lines)) < width
    assert sum(row.kind == "model" for row in found.rows) == sum("scripted" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def long_run(steps: int) -> Timeline:
    rows = [Row(id=f"{n}", kind="step", name=f"{n}", start=n, end=n + 1, status="ok") for n in range(steps)]
    rows[500] = msgspec.structs.replace(rows[500], status="failed", error=ErrorInfo("a.b", "No\x1b[31m.\u202e"))
    return Timeline("r", "g\x07", "completed", "m", None, steps, steps, 0, 0, None, (), (), tuple(rows))


def test_a_long_run_is_cut_with_a_word_about_it_and_nothing_moves_the_cursor() -> None:
    short = [line.plain for line in waterfall(long_run(1_000), 80)]
    assert sum("━" in line for line in short) == 120 + 1, "and the legend"
    assert "… 880 more rows, 1 of them failed: --all shows them" in short
    whole = [line.plain for line in waterfall(long_run(1_000), 80, whole=True)]
    assert sum("━" in line for line in whole) == 1_000 + 1
    for text in ("\n".join(whole), page(long_run(1_000))):
        assert not any(bad in text for bad in ("\x1b", "\x07", "\u202e"))


def test_long_waits_are_cut_short_and_work_keeps_its_proportions() -> None:
    def row(name: str, kind: str, start: int, end: int) -> Row:
        return Row(id=name, kind=kind, name=name, start=start, end=end)  # pyright: ignore[reportArgumentType]

    rows = (row("a", "model", 0, 1_000), row("q", "question", 1_000, 3_601_000), row("b", "tool", 3_601_000, 3_604_000))
    run = Timeline("r", "", "completed", "", None, 3_604_000, 3_604_000, 0, 0, None, (), (), rows)
    scale = Scale(run)
    (cut,) = scale.cuts
    assert (cut.start, cut.end, cut.right - cut.left) == (1_000, 3_601_000, pytest.approx(GAP))
    assert scale.at(3_604_000) - scale.at(3_601_000) == pytest.approx(3 * scale.at(1_000))
    assert (scale.at(-5), scale.at(10**15)) == (0, 1)
    assert len(scale.marks(10)) <= 12
    assert [moment(0), moment(1500, 500), moment(3_661_000, 1000)] == ["0", "1.5 s", "1:01:01"]
    assert [span(None), span(12), span(61_000), span(90_000_000)] == ["?", "12 ms", "1 m 01 s", "1 d 1 h"]


def test_a_run_and_a_file_are_shown_drawn_as_a_page_and_as_data(
    call: Call, cli: Cli, runs: Runs, tmp_path: Path
) -> None:
    run = call("run", "List the files in the folder docs", "--json").json()["run_id"]
    shown = call("show", run)
    assert (shown.code, "understand" in shown.out, "✓ completed" in shown.out) == (0, True, True)
    found = msgspec.convert(call("show", run, "--json").json(), Timeline)
    assert (found.run, found.status) == (run, "completed")
    assert ("tool", "list_directory") in [(row.kind, row.name) for row in found.rows]
    away = {"VICTORIA_REDIS_URL": "redis://127.0.0.1:1"}
    done = call("show", str(runs.file), "--html", str(tmp_path / "run.html"), "--json", **away)
    assert (done.code, done.json()["run"]) == (0, runs.ended.run)
    assert "alert(1)" in (tmp_path / "run.html").read_text()
    assert call("show", "nobody", "--json").json()["error"]["code"] == "run.unknown"
    refused = call("show", run, "--html", str(tmp_path / "none" / "run.html"), "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (2, "page.unwritable")
    (tmp_path / "bad").write_text("[]")
    assert call("show", str(tmp_path / "bad"), "--json").json()["error"]["code"] == "tape.malformed"
    for command in ("show", "replay"):
        assert call(command, "a" * 5_000, "--json").json()["error"]["code"] == "run.unknown"
    assert str(cli.project) not in shown.out


def test_whatever_was_said_in_a_run_is_text_on_its_page(runs: Runs) -> None:
    said = page(retold(runs.ended, TOPOLOGY))
    assert "<script" not in said
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said
    assert "default-src 'none'" in said
    assert " style=" not in said
    assert "://" not in said


LAID_OUT = """[...document.querySelectorAll('.row')].map(row => {
    const bar = row.querySelector('.bar rect, .bar circle'), box = bar && bar.getBoundingClientRect();
    const line = row.getBoundingClientRect(), all = row.querySelector('.bar').getBoundingClientRect();
    return {top: line.top, high: line.height, left: box && (box.left - all.left) / all.width,
            wide: box && box.width / all.width, inside: !box || box.right <= innerWidth,
            took: row.querySelector('.took').textContent, name: row.querySelector('.name span').firstChild.textContent};
})"""


@pytest.mark.heavy
def test_the_page_is_laid_out_in_a_browser_with_nothing_from_elsewhere(runs: Runs, tmp_path: Path) -> None:
    found = retold(runs.ended, TOPOLOGY)
    (tmp_path / "run.html").write_text(page(found))
    scale = Scale(found)
    with tab(tmp_path / "browser") as seen:
        for width, dark in ((1280, False), (1280, True), (700, False), (400, False), (400, True)):
            seen.look(width, dark=dark)
            seen.open((tmp_path / "run.html").as_uri())
            drawn = seen.ask(LAID_OUT)
            assert [each["name"] for each in drawn] == [row.name for row in found.rows]
            visible = [(each, row) for each, row in zip(drawn, found.rows, strict=True) if each["high"]]
            assert [row.id for _, row in visible] == [row.id for row in found.rows if not row.minor]
            tops = [each["top"] for each, _ in visible]
            assert tops == sorted(set(tops)), "one below the other"
            for each, row in visible:
                assert each["inside"]
                if row.start is not None and row.end is not None:
                    assert each["left"] == pytest.approx(scale.at(row.start), abs=0.015), row
                    assert each["wide"] == pytest.approx(scale.at(row.end) - scale.at(row.start), abs=0.02), row
                    assert each["took"] == span(row.took)
            assert seen.ask("document.documentElement.scrollWidth") <= width
            light = seen.ask("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
            assert light is not dark
            (only,) = seen.told("Network.requestWillBeSent")
            assert only["request"]["url"].endswith("/run.html")
            assert seen.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []
            seen.picture(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
        assert seen.ask("document.scripts.length") == 0
        seen.ask("document.querySelector('#show-minor').click()")
        assert len([each for each in seen.ask(LAID_OUT) if each["high"]]) == len(found.rows)
        seen.ask("document.querySelector('#show-model').click()")
        assert not any(
            each["high"] for each, row in zip(seen.ask(LAID_OUT), found.rows, strict=True) if row.kind == "model"
        )
        seen.ask("document.querySelector('.row summary').click()")
        assert seen.ask("document.querySelector('.row dl').checkVisibility()")
        seen.look(800, media="print")
        assert seen.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert seen.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []
