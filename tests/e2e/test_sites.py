"""Three sites, a guest that moves around, and one fault after the other: killed members, agents, keepers, managers,
cut lines and a cut site. After each the guest runs once, and the whole history keeps the invariants.

All faults at all phases: `novacron bench faults`.
"""

from collections.abc import Iterator

import pytest

from actors.lab.topology import sites_apart
from benchmarks.surviving.observer import Observer
from benchmarks.surviving.plan import Cell, short
from benchmarks.surviving.run import Sites
from tests.e2e.conftest import built

LAB = "e2e-sites"


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    """Three sites of one node each, every two of them joined by a line, with a guest, seen from outside."""
    with (
        built(sites_apart(LAB, 3)) as lab,
        Observer({node.name: node.libvirt_uri for node in lab.plan.nodes}) as observer,
    ):
        made = Sites(lab, observer, "raft")
        made.begin()
        yield made


@pytest.mark.parametrize("cell", short(), ids=lambda cell: f"{cell.fault} at {cell.phase}".replace(" ", "-"))
def test_one_owner_whatever_fails(sites: Sites, cell: Cell) -> None:
    row = sites.try_(cell)
    assert row["broken"] == "", row
    if cell.fault.part == "site" and cell.fault.role == "source":
        assert row["early_ms"] is not None, "its guest ran there until it was cut off"
