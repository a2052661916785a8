"""Rollout flags: who has a component, and that raising the percentage takes it from nobody."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from actors.control.commands import SetFlag
from actors.control.model import Component, Flag
from actors.flags.engine import BUCKETS, bucket, enabled
from tests.unit.control.kit import three_sites

components = st.sampled_from(get_args(Component))
percents = st.integers(0, 100)


@given(components, st.text(), percents, percents)
def test_more_percent_takes_it_from_nobody(component, subject, one, other):
    low, high = sorted((one, other))
    having = [enabled({component: Flag(component=component, percent=p)}, component, "a", subject) for p in (low, high)]
    assert having[1] or not having[0]
    assert enabled({component: Flag(component=component, percent=100)}, component, "a", subject)
    assert not enabled({component: Flag(component=component, percent=0)}, component, "a", subject)


@given(components, st.text(), percents)
def test_the_kill_switch_is_above_all_and_a_named_node_above_the_percentage(component, subject, percent):
    flag = Flag(
        component=component, percent=percent, nodes_on=frozenset({"on", "both"}), nodes_off=frozenset({"off", "both"})
    )
    assert enabled({component: flag}, component, "on", subject)
    assert not enabled({component: flag}, component, "off", subject)
    assert not enabled({component: flag}, component, "both", subject)
    killed = Flag(component=component, percent=100, nodes_on=frozenset({"on"}), killed=True)
    assert not enabled({component: killed}, component, "on", subject)


def test_a_component_without_a_flag_is_on():
    assert enabled({}, "hde", "a", "web")


def test_the_buckets_never_change():
    # A subject that changed its bucket with a release would lose and gain components half-way through a rollout.
    assert [bucket(component, "web") for component in get_args(Component)] == PINNED


PINNED = [9139, 442, 4659, 2310, 6534, 6120]


def test_a_percentage_is_that_share_of_the_subjects_and_each_component_has_its_own():
    subjects = [f"guest-{number}" for number in range(4000)]
    flags = {name: Flag(component=name, percent=25) for name in ("hde", "pba")}
    hde = {s for s in subjects if enabled(flags, "hde", "a", s)}
    pba = {s for s in subjects if enabled(flags, "pba", "a", s)}
    assert abs(len(hde) - 1000) < 150
    assert abs(len(hde & pba) - 250) < 100
    assert all(0 <= bucket("hde", s) < BUCKETS for s in subjects)


def test_a_change_is_audited_with_its_reason():
    cluster = three_sites()
    cluster.done(SetFlag(component="hde", percent=10, killed=True, reason="ratios fell"), by="operator:ann")
    entry = cluster.audit[-1]
    assert (entry.command, entry.subject, entry.by) == ("setflag", "hde", "operator:ann")
    assert b"ratios fell" in entry.body
    assert not enabled(cluster.state.flags, "hde", "a", "web")
