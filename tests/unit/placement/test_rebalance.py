"""Rebalancing: no rule broken on the way, the budget kept, every move worth it, no thrash, and drains."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.hard_rules import HardRule
from models.placement.rebalance import allowance, measure, plan
from models.placement.rebalance_cost import Costs, Line, Receipt, fit
from models.placement.rebalance_drain import drain
from models.placement.rebalance_inventory import Host, Inventory, Resident
from models.placement.rebalance_rounds import Rounds, look
from models.placement.rebalance_trial import live, rounds_on, snapshot
from models.placement.rebalance_worth import Terms, Worth
from models.placement.rules import Rule
from models.placement.tables import APART
from models.placement.windows import Window
from tests.unit.placement.kit import some_guests, some_nodes
from tests.unit.placement.rebalance_kit import Site, inventories

COSTS = Costs()
EAGER = Terms(churn=0.5, margin_usd=0.0, mark=0.6)


def value(inventory, terms):
    """USD an hour of all that a cluster loses, counted anew from the inventory alone."""
    lost = 0.0
    circles: dict[tuple[float, str], list[str]] = {}
    site = {host.name: host.site for host in inventory.hosts}
    for host in inventory.hosts:
        lost += sum(max(cpu, 0.0) % block / 2 for cpu, _ in host.free for block in (8, 16)) * terms.stranded_usd_h
        size, gib = host.vcpus * len(host.free), host.mib * len(host.free) / 1024
        over = size * (1 - terms.mark) - sum(cpu for cpu, _ in host.free)
        over_gib = gib * (1 - terms.mark) - sum(mib for _, mib in host.free) / 1024
        lost += max(over, 0.0) * terms.hot_vcpu_usd_h + max(over_gib, 0.0) * terms.hot_gib_usd_h
        lost += host.usd_h * (size - sum(cpu for cpu, _ in host.free))
    for guest in inventory.guests:
        if guest.tenant:
            circles.setdefault((terms.split_usd_h, guest.tenant), []).append(site[guest.node])
        for group in guest.near:
            circles.setdefault((terms.near_usd_h, group), []).append(site[guest.node])
    for (usd, _), sites in circles.items():
        lost += usd * sum(a != b for i, a in enumerate(sites) for b in sites[:i])
    return lost


@settings(max_examples=150, deadline=None)
@given(inventories())
def test_every_move_keeps_the_rules_and_is_worth_what_it_says(inventory):
    found = plan(inventory, COSTS, EAGER)
    site = Site(inventory.hosts, inventory.guests)
    assert len(found.moves) <= allowance(len(inventory.guests), EAGER)
    assert len({move.guest for move in found.moves}) == len(found.moves)
    for move in found.moves:
        before = value(site.inventory(), EAGER)
        assert site.go(move) == []
        gained = (before - value(site.inventory(), EAGER)) * EAGER.horizon_h
        assert gained == pytest.approx(move.gain.usd, abs=1e-6)
        assert gained - move.cost.usd > EAGER.margin_usd - 1e-6
        assert move.reason != "it has to go"
    assert found.after == measure(Worth(site.inventory(), COSTS, EAGER))


@settings(max_examples=60, deadline=None)
@given(inventories())
def test_the_first_move_is_the_best_there_is(inventory):
    found, worth = plan(inventory, COSTS, EAGER, most=1), Worth(inventory, COSTS, EAGER)
    best = max(
        (worth.net(g).max() for g, guest in enumerate(inventory.guests) if not guest.fixed), default=-float("inf")
    )
    if found.moves:
        assert found.moves[0].gain.usd - found.moves[0].cost.usd == pytest.approx(best, abs=1e-6)
    else:
        assert best <= EAGER.margin_usd


@settings(max_examples=40, deadline=None)
@given(inventories(guests=10), st.lists(inventories(guests=3), max_size=8), st.integers(1, 3))
def test_nobody_is_moved_before_it_paid_for_so_many_looks_nor_back_within_the_dwell(start, arrivals, rounds):
    terms = Terms(churn=0.3, margin_usd=0.0, rounds=rounds, dwell_s=250.0)
    site, remembered, left = Site(start.hosts, start.guests), Rounds(), {}
    planned: list[set[tuple[str, str]]] = []
    for step, crowd in enumerate(arrivals):
        now = 100.0 * step
        for guest in crowd.guests:
            new = replace(guest, name=f"{guest.name}-{step}", cell=0, spread=False, labels=frozenset())
            if new.node in site.hosts and not site.broken(new, new.node, 0):
                site.put(new)
        remembered, found, due = look(site.inventory(), COSTS, terms, remembered, now)
        planned.append({(move.guest, move.target) for move in found.moves})
        assert len(due.moves) <= allowance(len(site.guests), terms)
        for move in due.moves:
            assert len(planned) >= rounds
            assert all((move.guest, move.target) in pairs for pairs in planned[-rounds:])
            assert now - left.get(move.guest, (-1e9,))[0] >= terms.dwell_s
            assert site.go(move) == []
            left[move.guest] = (now, move.source)
            remembered = remembered.after(move.guest, now)


@settings(max_examples=120, deadline=None)
@given(inventories(), st.booleans(), st.data())
def test_a_drain_moves_all_that_can_go_and_names_the_rule_of_what_stays(inventory, force, data):
    node = data.draw(st.sampled_from(inventory.hosts)).name
    found = drain(inventory, COSTS, EAGER, frozenset({node}), force=force)
    site = Site(inventory.hosts, inventory.guests)
    for move in found.moves:
        assert (move.source, move.target != node) == (node, True)
        assert force or not move.parts
        assert site.go(move) == []
    there = {guest.name for guest in site.guests.values() if guest.node == node}
    assert {stay.guest for stay in found.stays} == there
    for stay in found.stays:
        guest = site.guests[stay.guest]
        assert (stay.rule is None) == bool(guest.fixed)
        open_ = [h for h in site.hosts.values() if h.takes and h.name != node]
        cells = (0, 1, 2)
        nowhere = all(
            site.broken(guest, host.name, cell)
            for host in open_
            for cell in cells
            if (cell == 2) == (guest.spread and len(host.free) == 2) and (cell < len(host.free) or cell == 2)
        )
        assert guest.fixed or nowhere
    for move in found.moves:
        mates = {g.node for g in site.guests.values() if g.together & site.guests[move.guest].together}
        assert not move.parts or len(mates) == 1, "a group that was parted on the way is together again"


def host(name, site="s0", cpu=16.0, mib=16384.0, **more):
    return Host(name, site, 16.0, 16384.0, ((cpu, mib),), **more)


def test_a_group_is_parted_by_force_only():
    pair = [Resident(name, "a", 2, 1024, together=frozenset({"db"})) for name in ("x", "y")]
    inventory = Inventory([host("a", cpu=12), host("b"), host("c", cpu=2)], pair)
    refused = drain(inventory, COSTS, Terms(), frozenset({"a"}))
    assert refused.moves == ()
    assert {stay.rule for stay in refused.stays} == {HardRule.AFFINITY}
    forced = drain(inventory, COSTS, Terms(), frozenset({"a"}), force=True)
    assert [(move.guest, move.target, move.parts) for move in forced.moves] == [("x", "b", ("y",)), ("y", "b", ("x",))]


def test_talking_guests_come_together_and_it_is_said_why():
    guests = [
        Resident("web", "a", 1, 512, near=frozenset({"shop"})),
        Resident("db", "b", 1, 512, near=frozenset({"shop"})),
    ]
    inventory = Inventory(
        [host("a", cpu=15), host("b", "s1", cpu=15)], [replace(guests[0], sites=frozenset({"s0"})), guests[1]]
    )
    (move,) = plan(inventory, COSTS, Terms()).moves
    assert (move.guest, move.target) == ("db", "a")
    assert "joins 1 more that it talks with a lot (shop) in s0" in move.reason
    assert "keep talking between sites" in move.without


def test_a_dear_line_keeps_guests_where_they_are():
    guests = [Resident(name, node, 1, 65536, tenant="t") for name, node in (("x", "a"), ("y", "b"))]
    inventory = Inventory([host("a", cpu=15, mib=1e6), host("b", "s1", cpu=15, mib=1e6)], guests)
    dear = Costs(line=Line(rate=1e6, usd_per_gb=1.0))
    assert plan(inventory, COSTS, Terms(split_usd_h=0.1)).moves
    assert not plan(inventory, dear, Terms(split_usd_h=0.1)).moves


def test_the_cost_follows_the_receipts():
    slow = [Receipt(1024, 200e6, 60.0, 0.9), Receipt(2048, 400e6, 110.0, 0.9)] * 20
    assert fit(slow).pause_s == pytest.approx(0.9)
    assert fit(slow).wire_share > 2 * fit(()).wire_share
    published = Costs().of(1024, "s0", "s1")
    assert published.seconds == pytest.approx(12.8, rel=0.25)
    assert Costs().of(4096, "s0", "s1").seconds > published.seconds


def test_the_simulator_goes_on_after_a_rebalancing():
    guests = some_guests(400, seed=3, group=np.arange(400) % 40, bond=np.where(np.arange(400) % 3 == 0, APART, 0))
    window = Window(some_nodes(6), guests, (20_000.0, 80_000.0))
    run = snapshot(window, Rule.WORST_FIT)
    (first, second) = rounds_on(run, COSTS, replace(Terms(), churn=0.2), 2)
    assert first.moves
    assert first.after == second.before
    assert first.after.fragmentation8 < first.before.fragmentation8
    whole, moves = live(window, Rule.WORST_FIT, COSTS, replace(Terms(), rounds=2), 5_000.0)
    assert moves[0] == 0
    assert sum(moves) > 0
    assert whole.guests > 0


def test_a_wrong_inventory_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Inventory([host("a"), host("a")], [])
    with pytest.raises(ValueError, match="no such cell"):
        Inventory([host("a")], [Resident("x", "a", 1, 1, cell=1)])
    with pytest.raises(ValueError, match="no node zz"):
        drain(Inventory([host("a")], []), COSTS, Terms(), frozenset({"zz"}))
