"""Caps that operators set: of a node, of a link (also by time of day), of a job. Pure: the caller brings the times."""

from datetime import datetime

from actors.config.schema import Cap, Transport
from actors.transport.bucket import TokenBucket

AS_CONFIGURED = -1.0
_MBIT = 125_000


def holds(cap: Cap, moment: datetime) -> bool:
    """True if `cap` is in force at local time `moment`. One that ends before it starts lasts over midnight.

    The days are those on which it starts.
    """
    if not cap.start:
        return _day(moment.weekday()) in cap.days
    now = f"{moment.hour:02}:{moment.minute:02}"
    today, yesterday = (_day(moment.weekday() - back) in cap.days for back in (0, 1))
    if cap.start <= cap.end:
        return today and cap.start <= now < cap.end
    return (today and now >= cap.start) or (yesterday and now < cap.end)


class Caps:
    """Every cap of one node, and what each has left.

    Args:
        sites: of each peer, by name.
    """

    def __init__(self, settings: Transport, sites: dict[str, str]) -> None:
        self._settings = settings
        self._sites = sites
        self._node = TokenBucket(settings.max_bytes_per_s)
        self._links = {peer: TokenBucket(0) for peer in sites}
        self._live: dict[str, float] = {}
        self._jobs: dict[str, TokenBucket] = {}

    def refresh(self, moment: datetime) -> None:
        """Take up what holds at local time `moment`."""
        for peer, bucket in self._links.items():
            bucket.change(self._rate(peer, moment))

    def cap_link(self, peer: str, mbit: float, moment: datetime) -> None:
        """From now on this much to `peer`; 0: no cap; `AS_CONFIGURED`: what the configuration says again."""
        if mbit == AS_CONFIGURED:
            self._live.pop(peer, None)
        else:
            self._live[peer] = mbit
        self.refresh(moment)

    def live_mbit(self, peer: str) -> float | None:
        """What an operator set for `peer`, Mbit/s; None: nothing."""
        return self._live.get(peer)

    def cap_job(self, job: str, bytes_per_s: int) -> None:
        """From now on this much for `job`; 0: no cap."""
        if bytes_per_s:
            self._jobs.setdefault(job, TokenBucket(bytes_per_s)).change(bytes_per_s)
        else:
            self._jobs.pop(job, None)

    def link_bytes_per_s(self, peer: str) -> int:
        """The cap of the link to `peer` that holds now; 0: none."""
        return self._links[peer].bytes_per_s

    def wait_s(self, peer: str, now_s: float) -> float:
        """Seconds until bulk may go to `peer`; 0 when now."""
        return max(self._node.wait_s(now_s), self._links[peer].wait_s(now_s))

    def held(self, now_s: float) -> dict[str, float]:
        """Jobs that must wait for a cap of their own, and how many seconds."""
        if not self._jobs:
            return {}
        return {job: wait_s for job, bucket in self._jobs.items() if (wait_s := bucket.wait_s(now_s))}

    def spend(self, peer: str, job: str, count_bytes: int) -> None:
        """So much was sent to `peer` for `job`."""
        self._node.spend(count_bytes)
        self._links[peer].spend(count_bytes)
        if job in self._jobs:
            self._jobs[job].spend(count_bytes)

    def _rate(self, peer: str, moment: datetime) -> int:
        if peer in self._live:
            return round(self._live[peer] * _MBIT)
        names = (peer, self._sites[peer])
        rates = [cap.mbit for cap in self._settings.caps if cap.peer in names and holds(cap, moment)]
        return round(min(rates, default=0.0) * _MBIT)


def _day(weekday: int) -> str:
    return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[weekday % 7]
