"""The report of a measurement: what is promised decides, and writing again replaces what was there."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import __main__, report
from tests.bench.report import Promise, Section, chart, ratios


def section(value: float = 2.0) -> Section:
    made = Section("hop", "Hops", ("who", "hops/s"), server="Valkey 0", bars=[("Victoria", 1e5), ("A & B", 300.0)])
    made.add("Victoria", str(value))
    made.promise(Promise.at_least("times another", value, 2))
    return made


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    return tmp_path / "RESULTS.md"


@pytest.mark.parametrize(("value", "code"), [(2.0, 0), (1.9, 4)])
def test_a_broken_promise_ends_with_4(monkeypatch: pytest.MonkeyPatch, value: float, code: int) -> None:
    def measured(_quick: bool) -> Section:
        return section(value)

    monkeypatch.setattr(__main__, "SECTIONS", {"hop": measured})
    monkeypatch.setattr(sys, "argv", ["bench", "hop"])
    assert __main__.main() == code


def test_quick_judges_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, results: Path) -> None:
    def measured(_quick: bool) -> Section:
        return section(0.1)

    monkeypatch.setattr(__main__, "SECTIONS", {"hop": measured})
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    assert __main__.main() == 0
    assert not results.exists()


def test_writing_a_section_again_replaces_it_and_leaves_the_others(results: Path) -> None:
    for name, value in (("hop", 1.0), ("run", 5.0), ("hop", 3.0)):
        made = section(value)
        made.name = name
        made.write()
    text = results.read_text()
    assert text.count("<!-- hop -->") == 1
    assert "| Victoria | 1.0 |" not in text
    assert "| Victoria | 3.0 |" in text
    assert "| Victoria | 5.0 |" in text


def test_a_chart_is_well_formed_and_has_a_bar_for_each() -> None:
    drawn = ElementTree.fromstring(chart("A & B", [("Victoria", 1e5), ("A & B", 300.0), ("slow", 1.0)], "hops/s"))
    assert len([part for part in drawn if part.tag.endswith("rect")]) == 4


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert ratios([10, 20, 90], [5, 20, 30]) == 2
