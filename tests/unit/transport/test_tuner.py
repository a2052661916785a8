"""The number of connections against links whose goodput is a function of it."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from actors.transport.tuner import SETTLE_S, StreamTuner

Link = Callable[[int], tuple[float, float]]
"""connections → (bytes per second, share of segments sent again)"""


def run(tuner: StreamTuner, link: Link, seconds: int, noise: float = 0.01, seed: int = 1) -> list[int]:
    """Seconds of a link that is always full; the number of connections in each."""
    chance, used = random.Random(seed), []
    for _ in range(seconds):
        goodput, resent = link(tuner.streams)
        used.append(tuner.tick(goodput * chance.uniform(1 - noise, 1 + noise), resent, busy=True))
    return used


def limited_by_each(most: float, one: float) -> Link:
    """Every connection carries the same little, until the link is full."""
    return lambda streams: (min(most, one * streams), 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_more_connections_while_goodput_grows(seed: int) -> None:
    used = run(StreamTuner(4, 2, 256), limited_by_each(60e6, 1e6), 120, seed=seed)
    assert max(used) <= 256
    steady = used[-40:]
    assert sum(min(60, each) for each in steady) / len(steady) > 52


@pytest.mark.parametrize("seed", range(20))
def test_a_full_link_keeps_its_number_and_tries_more_and_more_rarely(seed: int) -> None:
    used = run(StreamTuner(4, 2, 256), lambda _: (12e6, 0.0), 600, seed=seed)
    changes = sum(a != b for a, b in pairwise(used))
    assert changes < 24
    assert used.count(4) > 500


def test_fewer_when_many_only_add_loss() -> None:
    used = run(StreamTuner(64, 2, 256), lambda n: (10e6 * (1 - 0.0002 * n), 0.0005 * n), 300)
    assert used[-1] <= 16


def test_loss_alone_is_no_reason_when_each_connection_counts() -> None:
    used = run(StreamTuner(16, 2, 16), lambda n: (n * 1e6, 0.005), 300)
    assert used.count(16) > 200


def test_idle_seconds_change_nothing() -> None:
    tuner = StreamTuner(4, 2, 256)
    assert {tuner.tick(1e3, 0.5, busy=False) for _ in range(500)} == {4}


def test_a_hint_starts_anew_and_bounds_hold() -> None:
    tuner = StreamTuner(4, 2, 64)
    tuner.hint(1000)
    assert tuner.streams == 64
    tuner.bound(1, 8)
    assert tuner.streams == 8
    assert max(run(tuner, limited_by_each(1e9, 1e6), 100)) == 8


def test_a_link_that_falls_to_a_tenth_is_learned_again() -> None:
    tuner = StreamTuner(4, 2, 256)
    run(tuner, lambda _: (60e6, 0.0), 600)
    used = run(tuner, limited_by_each(6e6, 0.5e6), 60 + 10 * SETTLE_S)
    assert used[-1] >= 8
