"""Two sites and two witnesses whose members agree in BFT, a guest that moves to and fro, and the faults that need a
quorum's word: a lease that f + 1 members end, and a move whose point of no return one member fewer agrees on.

All faults at all phases: `novacron bench faults --mode bft`.
"""

from collections.abc import Iterator

import pytest

from actors.lab.topology import sites_apart
from benchmarks.surviving.observer import Observer
from benchmarks.surviving.plan import Cell, Fault
from benchmarks.surviving.run import Sites
from tests.e2e.conftest import built

LAB = "e2e-bft"
CELLS = [Cell(Fault("site", "source"), "copying"), Cell(Fault("member", "target"), "switchover")]


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    """Four sites of one node each, two without guests, every two of them joined by a line, seen from outside."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOVACRON_CONSENSUS__MODE", "bft")
        with (
            built(sites_apart(LAB, 4, witnesses=2)) as lab,
            Observer({node.name: node.libvirt_uri for node in lab.plan.hosts}) as observer,
        ):
            made = Sites(lab, observer, "bft")
            made.begin()
            yield made


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.fault} at {cell.phase}".replace(" ", "-"))
def test_one_owner_whatever_fails(sites: Sites, cell: Cell) -> None:
    row = sites.try_(cell)
    assert row["broken"] == "", row
