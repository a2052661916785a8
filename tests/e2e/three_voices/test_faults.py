"""Two sites and a witness, a guest that moves to and fro, and one fault after the other: killed members, agents,
keepers, managers, cut lines and a cut site. After each the guest runs once, and the whole history keeps the invariants.

All faults at all phases: `novacron bench faults`.
"""

from collections.abc import Iterator

import pytest

from actors.lab.lab import Lab
from benchmarks.surviving.observer import Observer
from benchmarks.surviving.plan import Cell, short
from benchmarks.surviving.run import GUEST, Sites
from tests.e2e.world import World


@pytest.fixture(scope="module")
def sites(lab: Lab) -> Iterator[Sites]:
    """The lab with a guest, seen from outside."""
    with Observer({node.name: node.libvirt_uri for node in lab.plan.hosts}) as observer:
        made = Sites(lab, observer, "raft")
        made.begin()
        yield made
    World(lab).remove(GUEST)


@pytest.mark.parametrize("cell", short(), ids=lambda cell: f"{cell.fault} at {cell.phase}".replace(" ", "-"))
def test_one_owner_whatever_fails(sites: Sites, cell: Cell) -> None:
    row = sites.try_(cell)
    assert row["broken"] == "", row
    if cell.fault.part == "site" and cell.fault.role == "source":
        assert row["early_ms"] is not None, "its guest ran there until it was cut off"
