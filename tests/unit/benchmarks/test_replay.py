"""The replay: links, whole moves, rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import BadRequest
from benchmarks.replaying.guests import FIXED_MS, GUESTS, MIB, Guest
from benchmarks.replaying.link import Link
from benchmarks.replaying.move import Ended, Move, Promise
from benchmarks.replaying.rows import MISSED, kept, missed, rows
from benchmarks.replaying.run import Pair, memory_for, pairs, play
from benchmarks.replaying.systems import Oracle, Pba, ewma, systems
from benchmarks.replaying.traces import Recorded, chosen, parted, read_recorded
from models.bandwidth.calibration import Levels
from models.bandwidth.predict import Forecaster

STILL = Guest("still", zero=0.0, known=0.0, saves=0.0, region_mib=64, pages_per_s=0, again_bytes=100)


def link_of(mbit, seconds=400):
    return Link(np.arange(float(seconds)), np.broadcast_to(np.asarray(mbit, dtype=float), (seconds,)) * 125_000)


capacities = st.lists(st.sampled_from([0.0, 0.5, 3.0, 40.0, 800.0]), min_size=2, max_size=30)


@given(capacities, st.floats(0, 20), st.floats(0.001, 5e7))
def test_a_link_takes_as_long_for_bytes_as_it_carries_them(mbit, from_s, count):
    link = Link(np.arange(float(len(mbit))), np.array(mbit) * 125_000)
    from_s = min(from_s, link.ends_s)
    lasts_s = link.takes_s(from_s, count)
    if math.isinf(lasts_s):
        assert link.carried(from_s, link.ends_s) < count * (1 + 1e-9)
    else:
        assert link.carried(from_s, from_s + lasts_s) == pytest.approx(count, rel=1e-6, abs=1e-3)
        assert lasts_s >= 0


def test_what_is_known_of_a_link():
    link = Link(np.array([10.0, 11.0, 12.0]), np.array([8.0, 0.0, 4.0]))
    assert (link.begins_s, link.ends_s) == (10, 13)
    assert (link.rate(11.5), link.mean(10, 12), link.lowest(10, 12)) == (0, 4, 0)
    assert link.takes_s(10.5, 4) == pytest.approx(0.5)
    assert link.takes_s(10.5, 5) == pytest.approx(1.75)
    assert link.takes_s(12.5, 3) == math.inf


def test_a_constant_link_gives_the_time_that_arithmetic_gives():
    link = link_of(50)
    ended = Move(STILL, 256 * MIB, link, Oracle(link), 300, 10.0).run()
    assert ended.total_s == pytest.approx(256 * MIB / (50 * 125_000) + FIXED_MS / 1000, rel=0.02)
    assert ended.sent_bytes == pytest.approx(256 * MIB, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(capacities, st.sampled_from(GUESTS), st.sampled_from([64, 256]), st.sampled_from([100, 300, 2000]))
def test_what_was_sent_is_what_the_link_carried(mbit, guest, memory_mib, pause_ms):
    link = Link(np.arange(float(len(mbit) * 5)), np.repeat(mbit, 5) * 125_000)
    ended = Move(guest, memory_mib * MIB, link, ewma(link), pause_ms, 0.0).run()
    until_s = ended.stopped_s if math.isfinite(ended.stopped_s) else link.ends_s
    assert ended.carried_bytes <= link.carried(0.0, until_s) * (1 + 1e-6) + 1
    assert ended.carried_bytes <= ended.sent_bytes * (1 + 1e-9)
    if math.isfinite(ended.total_s):
        assert link.carried(0.0, ended.total_s) * (1 + 1e-6) + 1 >= ended.sent_bytes
        # Every page crossed at least once.
        least = guest.known * 8 / 4096 + (1 - guest.zero - guest.known) * (0.27 if guest.saves else 1.0)
        assert ended.sent_bytes >= 0.99 * least * memory_mib * MIB


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(GUESTS), st.sampled_from([30.0, 60.0, 100.0, 300.0]), st.sampled_from([300, 800]))
def test_the_oracle_misses_no_budget_on_a_link_that_holds(guest, mbit, pause_ms):
    link = link_of(mbit)
    ended = Move(guest, 512 * MIB, link, Oracle(link), pause_ms, 10.0).run()
    if math.isfinite(ended.total_s):
        assert not missed(ended, pause_ms)


def test_a_move_is_the_same_every_time():
    rates = np.random.default_rng(1).gamma(4, 10, 400)
    one = Recorded("set", "g", "t", link_of(rates))
    assert play(one, GUESTS[0], 512 * MIB, ewma, 300) == play(one, GUESTS[0], 512 * MIB, ewma, 300)


def pba(link):
    return Pba(Forecaster([], Levels.plain(), "simple"))


@pytest.mark.parametrize("make", [ewma, pba])
def test_the_future_tells_a_forecaster_nothing(make):
    rates = np.random.default_rng(2).gamma(4, 10, 400)
    changed = rates.copy()
    changed[60:] *= 0.1
    first, second = (
        play(Recorded("set", "g", "t", link_of(r)), GUESTS[0], 4096 * MIB, make, 300) for r in (rates, changed)
    )
    until_s = 60 - 20
    assert [p for p in first.promises if p.at_s < until_s] == [p for p in second.promises if p.at_s < until_s]


def test_a_guest_fits_its_recording():
    slow, fast = (Recorded("set", "g", "t", link_of(mbit, 60)) for mbit in (5, 2000))
    assert memory_for(GUESTS[0], slow) < memory_for(GUESTS[0], fast)
    assert memory_for(GUESTS[0], slow) >= 64 * MIB


def ended_of(total_s, pause_ms=200.0, band=(50.0, 150.0)):
    told = [Promise(float(at), 100.0 - at, band[0] - at, band[1] - at) for at in range(100)]
    return Ended(
        total_s=total_s,
        stopped_s=total_s,
        pause_ms=pause_ms,
        sent_bytes=1e6,
        carried_bytes=1e6,
        rounds=3,
        promises=told,
    )


def test_an_eta_is_held_to_what_it_told():
    assert kept(ended_of(100.0), 0.25) is True
    assert kept(ended_of(100.0, band=(101.0, 150.0)), 0.25) is False
    assert kept(ended_of(math.inf), 0.25) is None
    assert kept(ended_of(1.0), 0.5) is None


def test_a_move_that_never_ends_has_missed():
    assert missed(ended_of(math.inf, math.inf), 300)
    assert not missed(ended_of(10.0, 300 * MISSED), 300)
    assert missed(ended_of(10.0, 301 * MISSED), 300)


def test_rows_compare_pair_by_pair():
    recorded = Recorded("set", "g", "t", link_of(50))
    slow, fast, never = ended_of(20.0, 900.0), ended_of(10.0), ended_of(math.inf, math.inf)
    fair = Pair(recorded, GUESTS[0], 1.0, {"ewma": slow, "pba": fast, "oracle": fast})
    hopeless = Pair(recorded, GUESTS[1], 1.0, {"ewma": never, "pba": never, "oracle": never})
    by_system = {row["system"]: row for row in rows([fair, hopeless], 300) if row["set"] == row["guest"] == "all"}
    assert by_system["pba"]["pairs"] == by_system["pba"]["hopeless"] == 1
    assert by_system["pba"]["vs_ewma_percent"] == pytest.approx(-50)
    assert (by_system["ewma"]["missed"], by_system["pba"]["missed_vs_ewma"]) == (1.0, -1.0)
    assert by_system["ewma"]["vs_oracle_percent"] == pytest.approx(100)


def test_every_pair_meets_every_system():
    recorded = [Recorded("set", "g", "t", link_of(60, 120))]
    played = list(pairs(recorded, systems(Forecaster([], Levels.plain())), 300))
    assert [pair.guest for pair in played] == list(GUESTS)
    assert all(set(pair.ended) == {"ewma", "ewma-mean", "last-value", "pba", "oracle"} for pair in played)


def test_the_predictor_answers_as_in_a_cluster():
    """The model's word as long as it is no worse on this link; before any sample nothing."""
    link = link_of(50)
    system = pba(link)
    assert system.ahead(0.0, 5.0) is None
    for second in range(1, 41):
        system.observe(float(second), link.mean(second - 1.0, float(second)))
    told = system.ahead(40.0, 5.0)
    assert told.method == "blend"
    assert told.mean == pytest.approx(50 * 125_000, rel=0.01)
    assert told.truths > 0, "what was told met its truth"
    assert told.low <= told.mean <= told.high


def write(path, names, mbit=20, seconds=40):
    lines = ["trace_id,t,bw_mbps", *(f"{name},{t},{mbit}" for name in names for t in range(seconds))]
    path.write_text("\n".join(lines))


def test_recordings_are_parted_by_group(tmp_path):
    write(tmp_path / "one.csv", [f"a{n}" for n in range(12)])
    write(tmp_path / "slow.csv", ["s"], mbit=1)
    write(tmp_path / "short.csv", ["h"], seconds=20)
    (tmp_path / "other.csv").write_text("trace_id,y\na,1\n")
    index = tmp_path / "index.txt"
    index.write_text("trace_id,group\n" + "\n".join(f"a{n},g{n // 3}" for n in range(12)))
    tune, report = parted(read_recorded(tmp_path, index))
    assert len(tune) == len(report) == 6
    assert not {one.group for one in tune} & {one.group for one in report}
    assert [one.group for one in chosen(report, 2)] != [report[0].group] * 2, "groups take turns"


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="no recording"):
        read_recorded(tmp_path, None)
    (tmp_path / "bad.csv").write_text("trace_id,t,bw_mbps\na,0,fast\n")
    with pytest.raises(BadRequest, match=r"bad\.csv"):
        read_recorded(tmp_path, None)
