"""What all end-to-end tests share: labs with NovaCron on every node that leave nothing behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.errors import NotFound
from actors.lab.lab import Lab
from actors.lab.topology import LabTopology
from tests.e2e.traces import traces_of

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is an end-to-end test; without root there is no lab to run it in."""
    for item in items:
        if _HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.e2e)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="the lab needs root"))


@contextmanager
def built(topology: LabTopology) -> Iterator[Lab]:
    """A lab with NovaCron on every node, removed whatever happens, also when it did not come up as a whole.

    NOVACRON_E2E_LAB=NAME makes the lab of that name, which is up already, serve: quicker while writing a test.
    """
    if os.environ.get("NOVACRON_E2E_LAB") == topology.name:
        yield Lab.load(topology.name)
        return
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
