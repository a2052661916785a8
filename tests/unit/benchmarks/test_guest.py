"""What the guest's console means for a row."""

from hypothesis import given
from hypothesis import strategies as st

from actors.lab.guests.ticks import Tick, Verdict
from benchmarks.moving.guest import DATING_TICKS, Ready, guest_pause_ms, judge, parse_ready

READY = Ready(cached_mib=320, checks=1000)
TICK_NS, SECOND_NS = 50_000_000, 1_000_000_000


def ticks(first: int, count: int, paused_ns: int) -> list[Tick]:
    """Ticks of a guest whose clock stood still for `paused_ns` before them, and is that much behind the host's."""
    found = []
    for seq in range(first, first + count):
        host_ns = seq * TICK_NS + paused_ns
        edge_s = host_ns // SECOND_NS
        found.append(
            Tick(
                seq=seq, monotonic_ns=seq * TICK_NS, realtime_ns=seq * TICK_NS, host_edge_s=edge_s,
                host_edge_ns=edge_s * SECOND_NS - paused_ns, writes=seq, verified=seq, ok=True,
            )
        )  # fmt: skip
    return found


def whole(**changes: object) -> Verdict:
    """A verdict of a guest that is well."""
    well = {"ok": True, "ticks": 500, "missing": 0, "verified": 5000, "gap_ms_max": 60.0, "stopped_ms": 1.0}
    return Verdict(**{**well, "problems": [], **changes})  # type: ignore[arg-type]


@given(pause_ms=st.integers(1, 20_000))
def test_the_pause_is_what_the_guests_clock_lost(pause_ms: int) -> None:
    before, after = ticks(100, 400, 0), ticks(500, 400, pause_ms * 1_000_000)
    found = guest_pause_ms(before, after)
    assert found is not None
    assert round(found, 3) == pause_ms


def test_pauses_long_before_the_move_do_not_count() -> None:
    before = ticks(100, 100, 0) + ticks(200, DATING_TICKS, 7 * SECOND_NS)
    after = ticks(200 + DATING_TICKS, 400, 7 * SECOND_NS + 300_000_000)
    assert guest_pause_ms(before, after) == 300.0


def test_without_ticks_on_both_sides_there_is_no_pause() -> None:
    assert guest_pause_ms([], ticks(1, 100, 0)) is None
    assert guest_pause_ms(ticks(1, 100, 0), []) is None
    assert guest_pause_ms(ticks(21, 2, 0), ticks(23, 2, 0)) is None


def test_ready() -> None:
    said = ["boot kind=memory load=64,2000,64", "ready cached_mib=320 checks=181023", "t 0 1 2 3 4 5 6 OK"]
    assert parse_ready(said) == Ready(cached_mib=320, checks=181023)
    assert parse_ready(said[:1]) is None
    assert parse_ready(["ready cached_mib=320 checks=-1"]) is None


def test_a_guest_that_checked_everything_since_is_well() -> None:
    judged = judge(whole(), READY, 4000, 12.5)
    assert (judged.ok, judged.checks, judged.cached_mib, judged.pause_ms, judged.problems) == (
        True,
        1000,
        320,
        12.5,
        [],
    )


def test_a_guest_that_did_not_check_everything_is_not_believed() -> None:
    judged = judge(whole(), READY, 4001, None)
    assert not judged.ok
    assert judged.problems == ["only 999 of the 1000 checks that cover its memory were made since"]


def test_what_the_guest_complains_of_is_kept() -> None:
    judged = judge(whole(ok=False, problems=["corrupt page 7"]), READY, 0, None)
    assert not judged.ok
    assert judged.problems == ["corrupt page 7"]
