"""What Prometheus' own linter finds wrong with an exposition, and which series queries name."""

import re
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

NOT_BASE = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "ms", "us", "ns"),
    *("kilobytes", "megabytes", "gigabytes", "kib", "mib", "kb", "mb", "bits", "percent", "percentage"),
}
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
RESERVED = ("_count", "_sum", "_bucket")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def families(text: str) -> dict[str, Metric]:
    """The families of an exposition by name."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def faults(text: str) -> Iterator[str]:
    """What is wrong: of help and type, of names, units and labels."""
    helped, typed = (set(re.findall(rf"^# {what} (\S+)", text, re.MULTILINE)) for what in ("HELP", "TYPE"))
    seen: set[str] = set()
    for family in text_string_to_metric_families(text):
        name = family.name
        written = f"{name}_total" if family.type == "counter" else name
        words = set(written.split("_"))
        if written in seen:
            yield f"{written} comes twice"
        seen.add(written)
        if written not in helped or not family.documentation.strip():
            yield f"{written} has no help"
        if written not in typed or family.type in ("unknown", "untyped"):
            yield f"{written} has no type"
        if not _SNAKE.fullmatch(name):
            yield f"{written} is not in snake case"
        if family.type != "counter" and name.endswith("_total"):
            yield f"{written} is no counter"
        if name.endswith(RESERVED):
            yield f"{written} ends as a histogram's series do"
        if name.endswith("_info") and family.type != "gauge":
            yield f"{written} is no gauge"
        if words & TYPES:
            yield f"{written} names its type"
        if words & NOT_BASE:
            yield f"{written} is not in base units"
        for sample in family.samples:
            labels = set(sample.labels)
            if not all(map(_SNAKE.fullmatch, labels)) or any(label.startswith("__") for label in labels):
                yield f"{written} has the labels {labels}"
            if ("le" in labels) != sample.name.endswith("_bucket") or "quantile" in labels:
                yield f"{sample.name} has a label of histograms"


def series(text: str) -> dict[str, set[str]]:
    """The labels of each series of an exposition, by its name; without any sample, the names alone."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        kinds = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        for kind in kinds:
            found.setdefault(family.name + kind, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\b(victoria_\w+)\s*(?:\{([^}]*)\})?")
_GROUP = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"[a-zA-Z_]\w*")


def named(expression: str) -> tuple[dict[str, set[str]], set[str]]:
    """The series a query names, each with the labels it selects by, and the labels it groups by."""
    bare = _STRING.sub('""', expression)
    selected: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(bare):
        selected.setdefault(name, set()).update(_NAME.findall(matchers))
    grouped = {label for labels in _GROUP.findall(bare) for label in _NAME.findall(labels)}
    return selected, grouped


def unknown(expression: str, there: dict[str, set[str]]) -> list[str]:
    """What a query names that is not there."""
    selected, grouped = named(expression)
    lacks = [name for name in selected if name not in there]
    lacks += [f"{name}{{{label}}}" for name, labels in selected.items() for label in labels - there.get(name, set())]
    all_labels = {label for name in selected for label in there.get(name, set())}
    return lacks + [f"({label})" for label in grouped - all_labels]
