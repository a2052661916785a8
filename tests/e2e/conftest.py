"""What all end-to-end tests share: one lab with NovaCron on every node, lines restored after each test, no leaks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.errors import NotFound
from actors.lab.lab import Lab
from actors.lab.topology import LabTopology, default_topology
from tests.e2e.traces import traces_of

SESSION_LAB = "e2e"
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is an end-to-end test; without root there is no lab to run it in."""
    for item in items:
        if _HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.e2e)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the lab needs root"))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two sites of one node each, 100 Mbit/s and 50 ms apart, with NovaCron running; built once for all tests.

    NOVACRON_E2E_LAB names one that is up already, which is used and left as it is: quicker while writing a test.
    """
    if standing := os.environ.get("NOVACRON_E2E_LAB"):
        yield Lab.load(standing)
        return
    with built(default_topology(SESSION_LAB)) as lab:
        yield lab


@pytest.fixture(autouse=True)
def _restore_lines(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test did to the session lab's lines is undone before the next one."""
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").restore_links()


@contextmanager
def built(topology: LabTopology) -> Iterator[Lab]:
    """A lab with NovaCron on every node, removed whatever happens, also when it did not come up as a whole."""
    remove_lab(topology.name)
    try:
        lab = Lab.up(topology, depth="novacron")
        yield lab
    finally:
        remove_lab(topology.name)
    assert traces_of(lab.plan) == [], "the lab left something behind"


def remove_lab(name: str) -> None:
    """Remove the lab called `name` if an earlier, killed run has left it."""
    try:
        Lab.load(name).down()
    except NotFound:
        return
