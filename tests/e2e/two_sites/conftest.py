"""Two sites of one node each with NovaCron running, built once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from actors.lab.lab import Lab
from actors.lab.topology import default_topology
from tests.e2e.conftest import built


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """100 Mbit/s and 50 ms apart."""
    with built(default_topology("e2e")) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _restore_lines(lab: Lab) -> Iterator[None]:
    """Whatever a test did to the lines is undone before the next one."""
    yield
    lab.restore_links()
