"""What is kept of one peer over its sessions, and how the link to it stands."""

import asyncio

from actors.config.schema import Transport
from actors.errors import PeerRefused
from actors.transport.calls import PeerCalls
from actors.transport.link_meter import LinkMeter
from actors.transport.messages import LinkState
from actors.transport.peer_session import PeerSession
from actors.transport.steering import Steering


class Peer:
    """What is kept of one peer over its sessions."""

    def __init__(self, settings: Transport, peer: str, site: str) -> None:
        self.name = peer
        self.site = site
        self.meter = LinkMeter()
        self.steering = Steering(settings, peer, site)
        self.sessions: list[PeerSession] = []
        self.calls: dict[bytes, PeerCalls] = {}
        self.beginning: asyncio.Task[None] | None = None
        self.why_down = "never connected"
        self.refusal: PeerRefused | None = None
        self.past_resent_bytes = 0
        self.past_reconnects = 0

    @property
    def begins(self) -> bool:
        """Whether an attempt to reach it is under way. One that is cancelled before it has run a line never ends by
        itself: only the task knows."""
        return self.beginning is not None and not self.beginning.done()

    def session(self) -> PeerSession | None:
        """The session to use: one that is up if there is any; the peer's own serves as well (it may be behind NAT)."""
        return next((s for s in self.sessions if s.is_up), self.sessions[0] if self.sessions else None)

    def state(self, node: str, site: str, after: float, *, refused: int, cap: int) -> LinkState:
        """The link from `node` of `site`, with its samples after Unix time `after`."""
        session = self.session()
        state = "up" if session and session.is_up else "connecting" if session or self.begins else "down"
        connections = [c for s in self.sessions for c in s.connections.values()]
        return LinkState(
            node=node,
            peer=self.name,
            site=site,
            peer_site=self.site,
            state=state,
            streams=len(connections),
            resent_bytes=self.past_resent_bytes + sum(s.resent_bytes for s in self.sessions),
            reconnects=self.past_reconnects + sum(s.reconnects for s in self.sessions),
            refused_peers=refused,
            in_flight_bytes=sum(s.in_flight_bytes for s in self.sessions),
            tls_groups=sorted({c.group or "unknown" for c in connections}),
            tls_resumed=sum(c.resumed for c in connections),
            mode=self.steering.detector.mode,
            mode_forced=self.steering.detector.forced is not None,
            mode_switches=self.steering.switches_total,
            switches=list(self.steering.switches),
            capacity_bytes_per_s=self.steering.detector.capacity_bytes_per_s,
            capacity_source=self.steering.detector.capacity_source,
            congestion=session.congestion if session else "",
            cap_bytes_per_s=cap,
            samples=self.meter.samples(after),
        )
