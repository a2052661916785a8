"""Requests and answers of the transport actor (AMST). Times in seconds, rates in bytes per second unless named."""

from typing import Literal

import msgspec

from actors.transport.modes import CapacitySource, Mode, Switch


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Listen on UNIX socket `listen_path`; each connection becomes a channel to `service` at node `peer`.

    `priority`: 0 control, 1 libvirt, 2 guest memory, 3 disks; lower goes first. `tag` (the job) closes it later.
    `job_bytes_per_s` caps the guest memory and disks of all that carries the tag; 0: no cap.
    """

    tag: str
    listen_path: str
    peer: str
    service: str
    priority: int = 2
    job_bytes_per_s: int = 0


class Expose(msgspec.Struct, frozen=True, kw_only=True):
    """Let node `peer`, and only it, open channels to `service`, joined to UNIX socket `connect_path` here."""

    tag: str
    service: str
    connect_path: str
    peer: str


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """All forwards, exposures and channels that carry this tag."""

    tag: str


class ServiceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The service of that name that carries the tag."""

    tag: str
    service: str


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What crossed this node's local sockets for one service, in bytes, and when the last did (Unix time, 0: none).

    `taken`: from the local socket into a channel; `given`: out of one.
    """

    taken_bytes: int = 0
    taken_at: float = 0.0
    given_bytes: int = 0
    given_at: float = 0.0


class Connect(msgspec.Struct, frozen=True, kw_only=True):
    """Have a live session to `peer` with `streams` TLS connections (0: leave the number as it is)."""

    peer: str
    streams: int = 0


class SteerLink(msgspec.Struct, frozen=True, kw_only=True):
    """Change what an operator may of the link to `peer`; None leaves as it is.

    `mode`: forced, or ``auto``, as measured again. `cap_mbit`: Mbit/s that this node sends at most, 0 for no cap, -1
    for what the configuration says.
    """

    peer: str
    mode: Literal["auto", "datacenter", "hybrid", "internet"] | None = None
    cap_mbit: float | None = None


class RaiseJob(msgspec.Struct, frozen=True, kw_only=True):
    """Let what this node sends for `tag` go before all other guests' memory and disks (`raised`), or no longer.

    For the switchover, while a guest stands still. Closing the tag ends it too.
    """

    tag: str
    raised: bool = True


class PeerCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call to `service` of `peer` (node name) over the control stream; `body` is msgpack, answered by a `Reply`."""

    peer: str
    service: str
    method: str
    body: bytes
    deadline_s: float


class PeerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The encoded `Reply` of the other side."""

    reply: bytes


class LinkSample(msgspec.Struct, frozen=True, kw_only=True):
    """One second of one link, as its sender saw it.

    `at`: Unix time. `sent_bytes` and `acked_bytes` are counts of that second, wire overhead included; `busy_share` is
    the part of the second in which data waited for the link (only then is acked a measure of capacity). `rtt_ms` is
    NaN-free: 0 when nothing came back. `loss` is the share of segments that were sent again. `congestion` is how the
    connections control it.
    """

    at: float
    rtt_ms: float
    jitter_ms: float
    sent_bytes: int
    acked_bytes: int
    busy_share: float
    retransmits: int
    loss: float = 0.0
    congestion: str = ""


class LinkPeriod(msgspec.Struct, frozen=True):
    """`span_s` seconds of one link (10 or 3600) from Unix time `at` on: means, sums of bytes, the capacity and mode."""

    peer: str
    at: float
    span_s: int
    rtt_ms: float
    jitter_ms: float
    loss: float
    sent_bytes: int
    acked_bytes: int
    busy_share: float
    capacity_bytes_per_s: float
    mode: str


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for the latest `most` periods of the link to `peer` after Unix time `after`; `span_s` 10 or 3600."""

    peer: str
    after: float = 0.0
    span_s: int = 10
    most: int = 1000


class LinkPeriods(msgspec.Struct, frozen=True, kw_only=True):
    """Periods of one link, oldest first."""

    periods: list[LinkPeriod]


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """One link: this node to `peer`. `state`: up, connecting or down.

    `in_flight_bytes`: sent and not yet acknowledged; after a cut at most these are sent again. `tls_groups`: the key
    agreements of its connections; only hybrid ones, with MLKEM in their name, withstand a quantum computer.
    `tls_resumed`: how many connections were made with a ticket of an earlier one. `mode_switches` counts since the
    transport started, `switches` are the latest. `capacity_bytes_per_s` is 0 while it is unknown,
    `cap_bytes_per_s` 0 where nothing caps the link.
    """

    node: str
    peer: str
    site: str
    peer_site: str
    state: str
    streams: int
    resent_bytes: int
    reconnects: int
    refused_peers: int
    in_flight_bytes: int = 0
    tls_groups: list[str] = []
    tls_resumed: int = 0
    mode: Mode = "hybrid"
    mode_forced: bool = False
    mode_switches: int = 0
    switches: list[Switch] = []
    capacity_bytes_per_s: float = 0.0
    capacity_source: CapacitySource = "unknown"
    congestion: str = ""
    cap_bytes_per_s: int = 0
    samples: list[LinkSample] = []


class LinkStates(msgspec.Struct, frozen=True, kw_only=True):
    """Every link of one node."""

    links: list[LinkState]


class LinksQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for link states with the samples after Unix time `after` (at most 600 are kept)."""

    after: float = 0.0
