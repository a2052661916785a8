"""Metrics of the exchange of facts with other sites."""

from prometheus_client import CollectorRegistry, Gauge

from actors.errors import NovaCronError
from api.backend import Backend


class FactMetrics:
    """Gauges of this site's replica and of each peer.

    Args:
        registry: gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"novacron_facts{name}", what, labels, registry=registry)

        self._held = gauge("", "Facts known here")
        self._refused = gauge("_refused", "Values of other sites that were not believed")
        self._reachable = gauge("_peer_reachable", "1 when the site answers", "site")
        self._equal = gauge("_peer_equal_timestamp_seconds", "When both last had the same, Unix time", "site")
        self._sent = gauge("_peer_sent_bytes", "Messages sent to the site, bytes", "site")
        self._received = gauge("_peer_received_bytes", "Messages from the site, bytes", "site")
        self._peer_refused = gauge("_peer_refused", "What could not be taken from the site", "site")

    async def refresh(self, backend: Backend) -> None:
        """Ask; while the facts actor is away the gauges stay as they are, and its component says so."""
        try:
            state = await backend.replica()
        except NovaCronError:
            return
        self._held.set(state.facts)
        self._refused.set(state.refused)
        for peer in state.peers:
            self._reachable.labels(peer.site).set(peer.reachable)
            self._equal.labels(peer.site).set(peer.equal_at)
            self._sent.labels(peer.site).set(peer.sent_bytes)
            self._received.labels(peer.site).set(peer.received_bytes)
            self._peer_refused.labels(peer.site).set(peer.refused)
