"""Caps of nodes, links and jobs: which holds when, and what they let through."""

from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError

from actors.config.schema import Cap, Transport
from actors.transport.caps import AS_CONFIGURED, Caps, holds

TUESDAY = datetime(2026, 11, 24, 12, 0)
SITES = {"paris-1": "paris", "rome-1": "rome"}


@pytest.mark.parametrize(
    ("cap", "moment", "expected"),
    [
        (Cap(peer="p", mbit=1), TUESDAY, True),
        (Cap(peer="p", mbit=1, days=["wed"]), TUESDAY, False),
        (Cap(peer="p", mbit=1, start="08:00", end="18:00"), TUESDAY, True),
        (Cap(peer="p", mbit=1, start="08:00", end="12:00"), TUESDAY, False),
        (Cap(peer="p", mbit=1, start="12:00", end="12:01"), TUESDAY, True),
        (Cap(peer="p", mbit=1, start="22:00", end="06:00", days=["tue"]), TUESDAY.replace(hour=23), True),
        (Cap(peer="p", mbit=1, start="22:00", end="06:00", days=["tue"]), TUESDAY + timedelta(hours=15), True),
        (Cap(peer="p", mbit=1, start="22:00", end="06:00", days=["tue"]), TUESDAY.replace(hour=3), False),
        (Cap(peer="p", mbit=1, start="22:00", end="06:00", days=["mon"]), TUESDAY.replace(hour=3), True),
    ],
)
def test_times_of_day(cap: Cap, moment: datetime, expected: bool) -> None:
    assert holds(cap, moment) is expected


@pytest.mark.parametrize("wrong", [{"start": "08:00"}, {"start": "8:00", "end": "9:00"}, {"mbit": 0}, {"days": []}])
def test_a_cap_that_can_not_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Cap.model_validate({"peer": "p", "mbit": 1, **wrong})


def test_the_least_of_the_configured_caps_holds_until_a_live_one_is_set() -> None:
    caps = Caps(Transport(caps=[Cap(peer="paris", mbit=8), Cap(peer="paris-1", mbit=4)]), SITES)
    caps.refresh(TUESDAY)
    assert (caps.link_bytes_per_s("paris-1"), caps.link_bytes_per_s("rome-1")) == (500_000, 0)
    caps.cap_link("paris-1", 80, TUESDAY)
    assert caps.link_bytes_per_s("paris-1") == 10_000_000
    caps.cap_link("paris-1", 0, TUESDAY)
    assert caps.wait_s("paris-1", 1.0) == 0
    caps.cap_link("paris-1", AS_CONFIGURED, TUESDAY)
    assert caps.link_bytes_per_s("paris-1") == 500_000


def carried(caps: Caps, peer: str, job: str, seconds: float) -> int:
    """Bytes that `job` sends to `peer` in so many seconds, as fast as it may."""
    now, sent = 100.0, 0
    while now < 100.0 + seconds:
        wait_s = max(caps.wait_s(peer, now), caps.held(now).get(job, 0.0))
        if wait_s:
            now += wait_s
            continue
        caps.spend(peer, job, 30_000)
        sent += 30_000
        now += 1e-4
    return sent


def test_a_link_and_a_job_get_what_their_caps_say() -> None:
    caps = Caps(Transport(caps=[Cap(peer="paris-1", mbit=8)]), SITES)
    caps.refresh(TUESDAY)
    assert carried(caps, "paris-1", "job", 10) == pytest.approx(10_000_000, rel=0.05)
    caps.cap_job("job", 500_000)
    assert carried(caps, "rome-1", "job", 10) == pytest.approx(5_000_000, rel=0.05)
    caps.cap_job("job", 0)
    assert caps.held(1.0) == {}
