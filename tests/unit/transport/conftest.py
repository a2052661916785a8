"""Fixtures: a lab of hubs, and structlog kept quiet and in place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.transport.nodes import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Three nodes' certificates, ports and configurations."""
    return Lab(tmp_path)


@pytest.fixture
def said() -> Iterator[list[structlog.typing.EventDict]]:
    """The log lines of the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines  # type: ignore[misc]
