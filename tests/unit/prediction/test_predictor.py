"""The predictor: which samples count, and what it answers."""

import msgspec
import pytest

from actors.calls.messages import Caller, Empty, Reply
from actors.config.schema import Config
from actors.errors import LinkUnknown, error_from
from actors.prediction.actor import BandwidthPredictor
from actors.prediction.engine import Link
from actors.prediction.messages import Forecast, ForecastQuery, Observe
from actors.transport.messages import LinkSample

CONFIG = Config.model_validate(
    {
        "node": {"name": "a1"},
        "topology": {
            "sites": [
                {"name": "left", "nodes": [{"name": "a1", "address": "10.0.0.1"}]},
                {"name": "right", "nodes": [{"name": "b1", "address": "10.0.1.1"}]},
            ]
        },
    }
)
CALLER = Caller(node="a1", site="left", same_site=True)


def sample(at, acked=10_000_000, busy=1.0, rtt_ms=50.0, retransmits=0):
    return LinkSample(
        at=at, rtt_ms=rtt_ms, jitter_ms=1, sent_bytes=acked, acked_bytes=acked, busy_share=busy, retransmits=retransmits
    )


def link():
    return Link(CONFIG.prediction, default_streams=4)


def test_without_samples_it_says_so():
    forecast = link().forecast(0, 30)
    assert (forecast.method, forecast.samples, forecast.mean, forecast.low, forecast.high) == ("none", 0, 0, 0, 0)
    assert forecast.streams == 4


def test_idle_seconds_are_no_measure_of_capacity():
    one = link()
    one.observe([sample(n, acked=1000, busy=0.1) for n in range(1, 50)])
    assert one.forecast(50, 30).method == "none"
    one.observe([sample(50)])
    forecast = one.forecast(50, 30)
    assert (forecast.method, forecast.mean, forecast.samples) == ("ewma", 10_000_000, 1)


def test_an_idle_second_that_carried_more_than_is_expected_counts():
    one = link()
    one.observe([sample(n, acked=0) for n in range(1, 30)])  # as in a cut that is not noticed yet
    assert one.forecast(30, 30).mean == 0
    one.observe([sample(n, acked=5_000_000, busy=0.1) for n in range(31, 92)])
    assert one.forecast(92, 30).mean > 1_000_000


def test_partly_idle_seconds_count_over_their_busy_part():
    one = link()
    one.observe([sample(1, acked=9_000_000, busy=0.9)])
    assert one.forecast(1, 30).mean == pytest.approx(10_000_000)


def test_a_repeated_or_late_sample_counts_once():
    one = link()
    one.observe([sample(1), sample(2)])
    one.observe([sample(1, acked=1), sample(2, acked=1), sample(0, acked=1)])
    forecast = one.forecast(2, 30)
    assert (forecast.samples, forecast.mean) == (2, 10_000_000)


def test_calibration_counts_truths():
    one = link()
    one.observe([sample(n) for n in range(1, 60)])
    assert one.forecast(59, 5).calibration == -1
    one.observe([sample(n) for n in range(60, 70)])
    assert one.forecast(69, 5).calibration == 1.0
    one.observe([sample(n, acked=1000) for n in range(70, 80)])
    assert one.forecast(79, 5).calibration == 0.5


def test_loss_asks_for_more_streams():
    clean, lossy = link(), link()
    clean.observe([sample(n) for n in range(1, 30)])
    lossy.observe([sample(n, retransmits=60) for n in range(1, 30)])
    assert clean.forecast(30, 5).streams == 4
    assert lossy.forecast(30, 5).streams > 8


async def call(actor, method, request, response):
    reply = msgspec.msgpack.decode(await actor.serve(CALLER, method, msgspec.msgpack.encode(request)), type=Reply)
    if reply.error:
        raise error_from(reply.error, reply.fields)
    return msgspec.msgpack.decode(reply.body, type=response)


async def test_links_are_kept_apart_by_node_and_peer():
    actor = BandwidthPredictor(CONFIG)
    await call(actor, "observe", Observe(node="a1", peer="b1", samples=[sample(4e9)]), Empty)
    there = await call(actor, "forecast", ForecastQuery(node="a1", peer="b1"), Forecast)
    back = await call(actor, "forecast", ForecastQuery(node="b1", peer="a1"), Forecast)
    assert (there.samples, back.samples) == (1, 0)


async def test_a_link_outside_the_topology_is_refused():
    with pytest.raises(LinkUnknown):
        await call(BandwidthPredictor(CONFIG), "forecast", ForecastQuery(node="a1", peer="zz"), Forecast)
