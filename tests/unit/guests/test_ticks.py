"""The console's lines: torn, foreign and wrong ones, pauses, verdicts."""

from functools import reduce
from operator import xor

from hypothesis import given
from hypothesis import strategies as st

from actors.lab.guests.ticks import gaps, parse_ticks, stopped_ms, verdict

TICK_MS = 50
START_S = 1_800_000_000


def line(text: str) -> bytes:
    whole = f"nova {text}".encode()
    return whole + f" *{reduce(xor, whole, 0):02x}\r\n".encode()


def tick(seq: int, monotonic_ms: int, stopped: int = 0, *, word: str = "OK") -> bytes:
    """A tick of a guest that was stopped for `stopped` ms before it; the host's clock began with the guest's."""
    host_ms = monotonic_ms + stopped
    edge_s = host_ms // 1000
    edge_ns = (edge_s * 1000 - stopped) * 1_000_000
    real_ns = START_S * 10**9 + monotonic_ms * 10**6
    known = f"{START_S + edge_s} {edge_ns}" if edge_ns > 0 else "0 0"
    return line(f"t {seq} {monotonic_ms * 10**6} {real_ns} {known} {seq * 100} {seq * 80} {word}")


def run(first: int, count: int, stopped: int = 0) -> bytes:
    return b"".join(tick(seq, 5000 + seq * TICK_MS, stopped) for seq in range(first, first + count))


def test_quiet_guest_is_ok() -> None:
    console = line("boot kind=memory") + line("ready cached_mib=3") + run(0, 200)
    found = verdict(console)
    assert found.ok
    assert (found.ticks, found.missing, found.problems) == (200, 0, [])
    assert found.stopped_ms == 0.0
    assert found.gap_ms_max == TICK_MS
    assert found.verified == 199 * 80


def test_pause_shows_on_the_hosts_clock_only() -> None:
    console = run(0, 200) + run(200, 200, stopped=320)
    assert verdict(console).stopped_ms == 320.0
    assert gaps(parse_ticks(console), 60) == []


def test_a_late_edge_does_not_lengthen_the_pause() -> None:
    ticks = parse_ticks(run(0, 400))
    late = [
        t if t.host_edge_s % 3 else type(t)(**{**_fields(t), "host_edge_ns": t.host_edge_ns + 9_000_000}) for t in ticks
    ]
    assert stopped_ms(late) == 0.0


def _fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def test_no_edges_no_pause() -> None:
    assert stopped_ms([]) == -1.0
    assert stopped_ms(parse_ticks(tick(0, 500))) == -1.0


def test_corrupt_is_never_ok() -> None:
    console = run(0, 5) + line("corrupt page 77") + tick(5, 5300, word="CORRUPT")
    found = verdict(console)
    assert not found.ok
    assert found.problems == ["corrupt page 77", "tick 5 says CORRUPT"]


def test_missing_ticks_are_told() -> None:
    found = verdict(run(0, 5) + run(8, 5))
    assert not found.ok
    assert found.missing == 3


def test_guest_that_ran_twice_is_told() -> None:
    assert any("ran twice" in problem for problem in verdict(run(0, 10) + run(7, 5)).problems)


def test_restart_is_told() -> None:
    assert not verdict(run(0, 10) + run(0, 10)).ok


def test_silent_guest_is_not_ok() -> None:
    assert verdict(b"").problems == ["no ticks"]


@given(st.integers(0, 60 * 100), st.binary(max_size=40).filter(lambda noise: b"nova" not in noise))
def test_console_cut_between_two_hosts_loses_nothing(cut: int, noise: bytes) -> None:
    whole = run(0, 60)
    first, second = whole[:cut], whole[cut:]
    assert verdict(first + second) == verdict(whole)
    assert [t.seq for t in parse_ticks(noise + b"\n" + whole)] == list(range(60))


@given(st.data())
def test_flipped_bit_never_makes_another_tick(data: st.DataObject) -> None:
    whole = bytearray(run(0, 3))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    true = parse_ticks(run(0, 3))
    assert all(tick in true for tick in parse_ticks(bytes(whole)))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_fault(console: bytes) -> None:
    verdict(console)
    parse_ticks(b"nova t 1 2 3 *00\n" + console)
