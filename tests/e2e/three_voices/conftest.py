"""Two sites of one node each and a witness, every two of them joined by a line, built once for all tests of this
folder."""

from collections.abc import Iterator

import pytest

from actors.lab.lab import Lab
from actors.lab.topology import sites_apart
from tests.e2e.conftest import built


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """With NovaCron running on every node: leases end by time, since the majority outlives any one site."""
    with built(sites_apart("e2e-three", 3, witnesses=1)) as lab:
        yield lab
