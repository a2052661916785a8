"""Which protocol the members should agree by, from the modes of the links between them.

Raft needs members that trust each other, near each other; BFT is for the internet between sites. A switch costs a
pause, so it is asked for only when the links have said the same for long, and not soon after the last one.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from actors.consensus.chain.parts import Protocol
from actors.consensus.ready import Member

LinkMode = Literal["datacenter", "hybrid", "internet"]
"""As links are measured (`actors/transport/modes.py`)."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When to switch. Between the two shares everything stays as it is."""

    internet_share: float = 0.25
    """BFT is wanted when at least this share of the links is in mode `internet`."""
    datacenter_share: float = 1.0
    """Raft is wanted when at least this share of the links is in mode `datacenter`."""
    dwell_ticks: int = 600
    """For so long without a break it must be wanted."""
    rest_ticks: int = 3000
    """So long after a part began no switch is asked for."""
    bft_voters_min: int = 4
    """With fewer voters BFT tolerates no liar and is never wanted."""

    def __post_init__(self) -> None:
        """Relations between the values.

        Raises:
            ValueError: one doesn't hold.
        """
        if not (0 < self.internet_share <= 1 and 0 < self.datacenter_share <= 1):
            raise ValueError("internet_share and datacenter_share must be above 0 and at most 1")
        if self.internet_share + self.datacenter_share <= 1:
            raise ValueError("internet_share + datacenter_share must be more than 1: else both can be wanted at once")
        if self.dwell_ticks < 1 or self.rest_ticks < 0 or self.bft_voters_min < 1:
            raise ValueError("dwell_ticks and bft_voters_min must be at least 1, rest_ticks at least 0")


class Choice:
    """One member's opinion. In Raft the leader's counts; in BFT f + 1 members must come to the same."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._wanted_for = 0
        self._part = -1
        self._part_for = 0

    def tick(
        self,
        part: int,
        protocol: Protocol,
        voters: tuple[Member, ...],
        links: Mapping[tuple[Member, Member], LinkMode],
    ) -> Protocol | None:
        """One tick in `part`, which `protocol` agrees on.

        `links` holds the mode of the link between two members, the lower number first. A link that isn't known counts
        for nothing: it hinders either share.

        Returns: the protocol to switch to now; None: stay. It says the same in each tick until the part has ended.
        """
        thresholds = self._thresholds
        self._part_for = self._part_for + 1 if part == self._part else 0
        if part != self._part:
            self._part, self._wanted_for = part, 0
        wanted = self._wanted(voters, links)
        self._wanted_for = self._wanted_for + 1 if wanted is not None and wanted is not protocol else 0
        if self._wanted_for < thresholds.dwell_ticks or self._part_for < thresholds.rest_ticks:
            return None
        return wanted

    def _wanted(self, voters: tuple[Member, ...], links: Mapping[tuple[Member, Member], LinkMode]) -> Protocol | None:
        thresholds = self._thresholds
        pairs = [(low, high) for low in voters for high in voters if low < high]
        modes = [links.get(pair) for pair in pairs]
        if modes.count("datacenter") >= thresholds.datacenter_share * len(pairs):
            return Protocol.RAFT
        internet = modes.count("internet") >= thresholds.internet_share * len(pairs)
        return Protocol.BFT if internet and len(voters) >= thresholds.bft_voters_min else None
