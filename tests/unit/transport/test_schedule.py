"""Sharing between jobs: fair by bytes, whatever their number of channels; what was raised goes first; caps hold."""

import random

import pytest

from actors.transport.schedule import Scheduler


def share(scheduler: Scheduler, frames: dict[int, int], picks: int, held: tuple[str, ...] = ()) -> dict[int, int]:
    """Bytes that each channel sends in so many picks, when all always have frames of the given sizes."""
    sent = dict.fromkeys(frames, 0)
    for _ in range(picks):
        channel = scheduler.pick(lambda each: each in frames, bulk=True, held=held)
        if channel is None:
            break
        scheduler.spent(channel, frames[channel])
        sent[channel] += frames[channel]
    return sent


def test_jobs_share_by_bytes_however_many_channels_and_however_small_their_frames() -> None:
    scheduler = Scheduler()
    for channel in (1, 3, 5):
        scheduler.add(channel, 2, "many")
    scheduler.add(7, 2, "small")
    sent = share(scheduler, {1: 30000, 3: 30000, 5: 30000, 7: 1000}, 3000)
    assert sent[1] + sent[3] + sent[5] == pytest.approx(sent[7], rel=0.1)
    assert sent[1] == pytest.approx(sent[5], rel=0.1)


def test_having_been_idle_earns_no_credit() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 2, "busy")
    scheduler.add(3, 2, "idle")
    share(scheduler, {1: 1000}, 5000)
    sent = share(scheduler, {1: 1000, 3: 1000}, 100)
    assert sent[3] <= 52_000


def test_a_raised_job_goes_before_all_other_bulk_and_after_libvirt() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 2, "other")
    scheduler.add(3, 2, "raised")
    scheduler.add(5, 1, "raised")
    scheduler.raise_job("raised", raised=True)
    scheduler.add(7, 3, "raised")
    sent = share(scheduler, {1: 1000, 3: 1000, 7: 1000}, 160)
    assert sent[1] == 10_000  # the turn of the least urgent
    assert sent[3] == sent[7]
    assert share(scheduler, {1: 1000, 3: 1000, 5: 1000}, 10)[5] == 10_000
    scheduler.raise_job("raised", raised=False)
    sent = share(scheduler, {1: 1000, 3: 1000}, 100)
    assert sent[1] == pytest.approx(sent[3], abs=2000)


def test_a_held_job_waits_and_its_calls_do_not() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 2, "capped")
    scheduler.add(3, 1, "capped")
    scheduler.add(5, 2, "free")
    assert share(scheduler, {1: 1000, 5: 1000}, 10, held=("capped",)) == {1: 0, 5: 10_000}
    assert share(scheduler, {1: 1000, 3: 1000}, 10, held=("capped",)) == {1: 0, 3: 10_000}
    assert share(scheduler, {1: 1000}, 10, held=("capped",)) == {1: 0}


@pytest.mark.parametrize("seed", range(20))
def test_it_never_loses_a_channel(seed: int) -> None:
    chance, scheduler, live = random.Random(seed), Scheduler(), set()
    for channel in range(300):
        if chance.random() < 0.6:
            scheduler.add(channel, chance.randrange(8), chance.choice("abc"))
            live.add(channel)
        elif live:
            gone = chance.choice(sorted(live))
            live.discard(gone)
            scheduler.remove(gone)
        if chance.random() < 0.2:
            scheduler.raise_job(chance.choice("abc"), raised=chance.random() < 0.5)
        if live and chance.random() < 0.2:
            scheduler.assign(chance.choice(sorted(live)), chance.choice("abc"))
    for channel in sorted(live):
        assert scheduler.pick(lambda each, wanted=channel: each == wanted, bulk=True) == channel
        scheduler.spent(channel, 100)
