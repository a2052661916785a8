"""What links measured: kept over restarts, rolled up by the hour, bounded; and what operators set."""

from pathlib import Path

import pytest

from actors.errors import BadRequest, Failed, NodeUnknown
from actors.transport.frames import HEADER_BYTES
from actors.transport.history import HOUR_S, KEPT_S, SPAN_S, LinkHistory, Setting, summarise
from actors.transport.messages import HistoryQuery, LinkPeriod, LinkSample, SteerLink
from actors.transport.recorder import Recorder
from actors.transport.steering import RULES
from tests.unit.transport.nodes import Lab, running, session_of

NOW = 1_800_000_000.0


def sample(at: float, rtt_ms: float = 20.0, acked_bytes: int = 100) -> LinkSample:
    return LinkSample(
        at=at, rtt_ms=rtt_ms, jitter_ms=1, sent_bytes=200, acked_bytes=acked_bytes, busy_share=0.5, retransmits=1,
        loss=0.01,
    )  # fmt: skip


def period(at: float, rtt_ms: float = 20.0) -> LinkPeriod:
    return LinkPeriod("p", at, SPAN_S, rtt_ms, 1.0, 0.01, 2000, 1000, 0.5, 1e6, "hybrid")


def test_a_period_is_the_mean_of_its_seconds_without_those_that_heard_nothing() -> None:
    made = summarise("p", [sample(5.0, 10.0), sample(6.0, 30.0), sample(7.0, 0.0)], 1e6, "internet")
    assert (made.at, made.rtt_ms, made.sent_bytes, made.acked_bytes, made.loss) == (5.0, 20.0, 600, 300, 0.01)


def test_rows_survive_a_restart_and_come_oldest_first(tmp_path: Path) -> None:
    first = LinkHistory(tmp_path / "sub" / "links.sqlite")
    first.add([period(NOW - 20), period(NOW - 10)], NOW)
    first.remember(Setting("p", "internet", 20.0))
    first.remember(Setting("p", "internet", None))
    first.close()
    again = LinkHistory(tmp_path / "sub" / "links.sqlite")
    assert again.rows("p", 0.0, SPAN_S, 10) == [period(NOW - 20), period(NOW - 10)]
    assert again.rows("p", 0.0, SPAN_S, 1) == [period(NOW - 10)]
    assert again.rows("p", NOW - 15, SPAN_S, 10) == [period(NOW - 10)]
    assert again.rows("other", 0.0, SPAN_S, 10) == []
    assert again.settings() == [Setting("p", "internet", None)]


def test_hours_outlive_their_seconds_and_all_of_it_is_bounded(tmp_path: Path) -> None:
    history = LinkHistory(tmp_path / "links.sqlite")
    start = NOW - NOW % HOUR_S
    step_s = 600
    for at in range(int(start), int(start) + 3 * KEPT_S[SPAN_S], step_s):
        history.add([period(float(at), 10.0 if at % HOUR_S else 40.0)], float(at))
    seconds, hours = (history.rows("p", 0.0, span_s, 10_000) for span_s in (SPAN_S, HOUR_S))
    assert len(seconds) <= KEPT_S[SPAN_S] / step_s + HOUR_S / step_s
    assert len(hours) == 71
    assert hours[0].rtt_ms == pytest.approx((40 + 5 * 10) / 6)
    assert hours[0].acked_bytes == 6000
    history.add([period(start + 2 * KEPT_S[HOUR_S])], start + 2 * KEPT_S[HOUR_S])
    assert len(history.rows("p", 0.0, HOUR_S, 10_000)) == 0


async def test_a_recorder_without_a_disk_says_so_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    recorder = Recorder(tmp_path / "file")
    assert recorder.open() == []
    for second in range(SPAN_S):
        recorder.sample("p", sample(float(second)), 0.0, "hybrid")
    await recorder.flush()
    with pytest.raises(Failed):
        await recorder.rows("p", 0.0, SPAN_S, 10)
    with pytest.raises(Failed, match="restart"):
        await recorder.remember(Setting("p", None, 1.0))


async def test_what_was_set_holds_after_a_restart_until_it_is_taken_back(lab: Lab) -> None:
    async with running(hub := lab.hub("a")):
        state = await hub.steer(SteerLink(peer="b", mode="internet", cap_mbit=8))
        assert (state.mode, state.mode_forced, state.cap_bytes_per_s) == ("internet", True, 1_000_000)
        assert [each.reason for each in state.switches] == ["forced"]
    async with running(hub := lab.hub("a")):
        (state,) = hub.links(0)
        assert (state.mode, state.mode_forced, state.cap_bytes_per_s) == ("internet", True, 1_000_000)
        await hub.steer(SteerLink(peer="b", mode="auto", cap_mbit=-1))
    async with running(hub := lab.hub("a")):
        (state,) = hub.links(0)
        assert (state.mode, state.mode_forced, state.cap_bytes_per_s) == ("hybrid", False, 0)


async def test_a_forced_mode_takes_effect_on_connections_that_run(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        await a.connect("b", 0)
        small = session_of(a, "b").chunk_bytes
        assert (await a.steer(SteerLink(peer="b", mode="datacenter"))).congestion == "cubic"
        assert session_of(a, "b").chunk_bytes == RULES["datacenter"].frame_bytes - HEADER_BYTES > small


async def test_a_wrong_order_is_refused(lab: Lab) -> None:
    async with running(hub := lab.hub("a")):
        with pytest.raises(NodeUnknown):
            await hub.steer(SteerLink(peer="z", cap_mbit=1))
        with pytest.raises(BadRequest):
            await hub.steer(SteerLink(peer="b", cap_mbit=-5))
        with pytest.raises(BadRequest):
            await hub.steer(SteerLink(peer="b", cap_mbit=float("nan")))
        with pytest.raises(BadRequest):
            await hub.history(HistoryQuery(peer="b", span_s=60))
        assert await hub.history(HistoryQuery(peer="b")) == []
