"""Whole Victorias with a scripted model, which export what they do."""

from collections.abc import Iterator

import pytest

from tests.observed.collector import Collector, collecting
from tests.rows.conftest import house as house


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Where spans go, of this process too."""
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found
