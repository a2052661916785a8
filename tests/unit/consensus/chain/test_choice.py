"""When to switch: shares of links with a band between them, dwell and rest."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.consensus.chain import Choice, LinkMode, Protocol, Thresholds

VOTERS = (1, 2, 3, 4)
PAIRS = tuple(itertools.combinations(VOTERS, 2))
QUICK = Thresholds(internet_share=0.5, datacenter_share=1.0, dwell_ticks=3, rest_ticks=0)


def links(*modes: LinkMode) -> dict[tuple[int, int], LinkMode]:
    return dict(zip(PAIRS, modes, strict=False))


NEAR = links(*["datacenter"] * 6)
FAR = links(*["internet"] * 6)


def test_it_asks_only_when_the_links_have_said_the_same_for_long() -> None:
    choice = Choice(QUICK)
    assert [choice.tick(0, Protocol.RAFT, VOTERS, FAR) for _ in range(4)] == [None, None, Protocol.BFT, Protocol.BFT]


def test_a_break_begins_the_count_anew() -> None:
    choice = Choice(QUICK)
    said = [choice.tick(0, Protocol.RAFT, VOTERS, seen) for seen in (FAR, FAR, NEAR, FAR, FAR)]
    assert said == [None] * 5


def test_it_rests_after_a_switch() -> None:
    choice = Choice(Thresholds(dwell_ticks=1, rest_ticks=5))
    assert choice.tick(0, Protocol.RAFT, VOTERS, FAR) is None
    said = [choice.tick(1, Protocol.BFT, VOTERS, NEAR) for _ in range(6)]
    assert said == [None] * 5 + [Protocol.RAFT]


def test_it_stays_with_what_is_wanted_already() -> None:
    choice = Choice(QUICK)
    assert {choice.tick(0, Protocol.BFT, VOTERS, FAR) for _ in range(10)} == {None}


@pytest.mark.parametrize("protocol", list(Protocol))
def test_between_the_shares_everything_stays(protocol: Protocol) -> None:
    choice = Choice(QUICK)
    mixed = links("internet", "internet", "hybrid", "datacenter", "datacenter", "datacenter")
    assert {choice.tick(0, protocol, VOTERS, mixed) for _ in range(10)} == {None}


def test_links_that_nobody_has_measured_hinder_both() -> None:
    for protocol in Protocol:
        choice = Choice(QUICK)
        assert {choice.tick(0, protocol, VOTERS, links("datacenter", "internet")) for _ in range(10)} == {None}


def test_few_voters_never_want_bft() -> None:
    choice = Choice(QUICK)
    assert {choice.tick(0, Protocol.RAFT, (1, 2, 3), FAR) for _ in range(10)} == {None}


@given(st.lists(st.sampled_from(["datacenter", "hybrid", "internet"]), min_size=6, max_size=6))
def test_no_links_want_both(modes: list[LinkMode]) -> None:
    wanted = set()
    for protocol in Protocol:
        choice = Choice(Thresholds(internet_share=0.4, datacenter_share=0.61, dwell_ticks=1, rest_ticks=0))
        wanted.add(choice.tick(0, protocol, VOTERS, links(*modes)))
    assert len(wanted - {None}) <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"internet_share": 0.0},
        {"datacenter_share": 1.5},
        {"internet_share": 0.5, "datacenter_share": 0.5},
        {"dwell_ticks": 0},
        {"rest_ticks": -1},
        {"bft_voters_min": 0},
    ],
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Thresholds(**wrong)  # type: ignore[arg-type]
