"""The predictor: which samples count, and what it answers."""

import time

import msgspec
import numpy as np
import pytest

from actors.calls.messages import Caller, Empty, Reply
from actors.config.schema import Config
from actors.errors import BadRequest, LinkUnknown, error_from
from actors.prediction.actor import BandwidthPredictor
from actors.prediction.engine import Counted, Link
from actors.prediction.fan import HORIZONS_S, Fan
from actors.prediction.messages import Forecast, ForecastQuery, Observe, RecordedQuery, RecordedSamples
from actors.prediction.record import Record
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


def config(state_dir):
    return CONFIG.model_copy(update={"node": CONFIG.node.model_copy(update={"state_dir": state_dir})})


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


def fan(rate, upto_s, version="v1", spread=2.0):
    powers = (-1.28, -1.0, -0.5, 0.0, 0.5, 1.0, 1.28)
    quantiles = tuple(rate * spread**power for power in powers)
    return Fan("lstm", version, upto_s, (rate,) * len(HORIZONS_S), (quantiles,) * len(HORIZONS_S))


def walked(one, rates, model=None, begin=1):
    """Feeds a second at a time, as the actor does; `model` makes the fan after each."""
    settled = []
    for at, rate in enumerate(rates, begin):
        one.observe([sample(at, acked=int(rate))])
        if model is not None:
            one.fan = model(at)
        settled += one.settle()
        one.note(at)
    return settled


def always(rate, **more):
    return lambda at: fan(rate, at, **more)


def test_truths_are_counted_at_the_horizon_that_was_told():
    one = link()
    walked(one, [1e7] * 16)
    near, far = one.forecast(16, 5), one.forecast(16, 30)
    assert (near.calibration, near.truths, near.wape) == (1.0, 2, 0.0)
    assert (far.calibration, far.truths, far.wape) == (-1, 0, -1)
    walked(one, [1e3] * 10, begin=17)
    assert one.forecast(26, 5).calibration == pytest.approx(2 / 3)


def test_a_window_that_was_hardly_measured_is_no_truth():
    one = link()
    walked(one, [1e7] * 2)
    one.observe([sample(60)])
    assert one.settle() == []
    assert one.forecast(60, 5).truths == 0


def test_the_model_answers_and_says_so():
    one = link()
    walked(one, [1e7] * 3, always(2e7))
    told = one.forecast(3, 10)
    assert (told.method, told.version, told.reason, told.mean) == ("lstm", "v1", "", 2e7)
    assert told.low < told.mean < told.high
    assert told.quantiles == sorted(told.quantiles)


@pytest.mark.parametrize(
    ("now_s", "horizon_s", "without", "reason"),
    [(3, 10, "switched off", "switched off"), (3, 121, "", "120 s ahead"), (64, 10, "", "since 61 s")],
)
def test_a_simple_method_answers_and_says_why(now_s, horizon_s, without, reason):
    one = link()
    walked(one, [1e7] * 3, always(2e7))
    told = one.forecast(now_s, horizon_s, without)
    assert (told.method, told.mean, told.version) == ("ewma", 1e7, "")
    assert reason in told.reason


def test_a_model_that_is_late_is_not_told():
    one = link()
    walked(one, [1e7] * 3, always(2e7))
    walked(one, [1e7] * 6, begin=4)
    assert one.forecast(9, 10).reason == "the model is late"


def test_a_model_that_loses_is_passed_over_until_it_no_longer_does():
    one = link()
    walked(one, [1e7] * 260, always(3e7))
    assert "worse than a simple method" in one.forecast(260, 5).reason
    assert one.forecast(260, 5).method == "ewma"
    noise = np.random.default_rng(1).uniform(0.5e7, 1.5e7, 3700)
    walked(one, noise, always(1e7), begin=261)
    assert one.forecast(3960, 30).method == "lstm"


def test_a_new_version_is_not_judged_by_the_one_before():
    one = link()
    walked(one, [1e7] * 260, always(3e7))
    one.fan = fan(3e7, 260, version="v2")
    assert one.forecast(260, 5).version == "v2"


def test_a_shadow_is_scored_and_never_heard():
    one = link()
    for at in range(1, 40):
        one.shadow = fan(5e6, at, "v2")
        walked(one, [1e7], begin=at)
    told = one.forecast(39, 5)
    assert (told.method, told.mean) == ("ewma", 1e7)
    found = {row.role: row for row in one.accuracies("a1", "b1") if row.horizon_s == 5}
    assert set(found) == {"spoke", "ewma", "last-value", "shadow"}
    assert (found["shadow"].version, found["shadow"].wape) == ("v2", pytest.approx(0.5))
    assert found["spoke"].wape == pytest.approx(0)


@pytest.mark.parametrize("spread", [1.2, 2.5])
def test_a_band_that_promises_the_wrong_thing_learns(spread):
    one, noise = link(), np.random.default_rng(1).uniform(0.5e7, 1.5e7, 5000)
    walked(one, noise, always(1e7, spread=spread))
    assert 0.7 <= one.scores.worth(5, "model").coverage <= 0.9


def test_what_was_recorded_is_taken_up_again(tmp_path):
    record, one = Record(tmp_path / "p.sqlite"), link()
    settled = walked(one, [1e7] * 50, always(2e7))
    record.add([(("a1", "b1"), each) for each in one.series], [(("a1", "b1"), each) for each in settled], 60.0)
    record.close()
    found = Record(tmp_path / "p.sqlite").recent(0.0)["a1", "b1"]
    again = link()
    again.restore(*found)
    assert again.forecast(50, 5).mean == one.forecast(50, 5, "no model").mean
    assert again.accuracies("a", "b") == one.accuracies("a", "b")
    assert again.observe([sample(50), sample(51)]) == [again.series[-1]]


def test_the_record_is_bounded_and_read_by_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr("actors.prediction.record.ROWS_MAX", 30)
    monkeypatch.setattr("actors.prediction.record._PRUNE_EVERY", 1)
    record = Record(tmp_path / "p.sqlite")
    for at in range(1, 101):
        one = Counted(float(at), 1.0, 2.0, 3.0, 0.0, 0)
        record.add([(("a1", "b1"), one), (("a1", "b2"), one)], [], 200.0)
    everything = record.samples(RecordedQuery(most=1000)).samples
    assert len(everything) == 30
    page = record.samples(RecordedQuery(peer="b2", most=10))
    assert (len(page.samples), page.more) == (10, True)
    rest = record.samples(RecordedQuery(peer="b2", after=page.samples[-1].number, most=10))
    assert ([one.at for one in rest.samples], rest.more) == ([96, 97, 98, 99, 100], False)
    assert record.samples(RecordedQuery(since=99.0)).samples[0].at == 100


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


async def test_links_are_kept_apart_by_node_and_peer(tmp_path):
    actor = BandwidthPredictor(config(tmp_path))
    await call(actor, "observe", Observe(node="a1", peer="b1", samples=[sample(4e9)]), Empty)
    there = await call(actor, "forecast", ForecastQuery(node="a1", peer="b1"), Forecast)
    back = await call(actor, "forecast", ForecastQuery(node="b1", peer="a1"), Forecast)
    assert (there.samples, back.samples) == (1, 0)
    assert there.reason == "no model is in use"
    await actor.close()


async def test_a_restarted_one_goes_on_where_it_was(tmp_path):
    now = time.time()
    first = BandwidthPredictor(config(tmp_path))
    samples = [sample(now - 40 + n) for n in range(40)]
    await call(first, "observe", Observe(node="a1", peer="b1", samples=samples), Empty)
    await first.close()
    second = BandwidthPredictor(config(tmp_path))
    # Repeats of what is known: nothing new comes of them.
    await call(second, "observe", Observe(node="a1", peer="b1", samples=samples), Empty)
    told = await call(second, "forecast", ForecastQuery(node="a1", peer="b1"), Forecast)
    assert told.samples == 40
    found = await call(second, "recorded", RecordedQuery(), RecordedSamples)
    assert (len(found.samples), found.more) == (40, False)
    await second.close()


async def test_a_damaged_record_is_moved_aside(tmp_path):
    (tmp_path / "prediction.sqlite").write_bytes(b"no database" * 1000)
    actor = BandwidthPredictor(config(tmp_path))
    await call(actor, "observe", Observe(node="a1", peer="b1", samples=[sample(4e9)]), Empty)
    assert len((await call(actor, "recorded", RecordedQuery(), RecordedSamples)).samples) == 1
    assert (tmp_path / "prediction.damaged").exists()
    await actor.close()


async def test_a_link_outside_the_topology_is_refused(tmp_path):
    actor = BandwidthPredictor(config(tmp_path))
    with pytest.raises(LinkUnknown):
        await call(actor, "forecast", ForecastQuery(node="a1", peer="zz"), Forecast)
    with pytest.raises(BadRequest):
        await call(actor, "recorded", RecordedQuery(most=0), RecordedSamples)
    await actor.close()
