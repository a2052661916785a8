"""Metrics: the API's own requests, the node's start, and the site's nodes, links and moves."""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.boot.status import BootStatus
from actors.encoding.messages import StoreState
from actors.errors import NovaCronError
from actors.migration.messages import LinkView, Sites, StoreQuery
from api.backend import Backend
from api.fact_metrics import FactMetrics
from api.forecast_metrics import ForecastMetrics

# Scrapes need no token, so what they cost the actors is bounded: one round of calls in so many seconds.
REFRESH_S = 5.0
SCRAPE_S = 3.0


class Metrics:
    """One registry and what fills it.

    Args:
        backend: asked at most once in `REFRESH_S`.
        boot_status: the node's start.
    """

    def __init__(self, backend: Backend, boot_status: Callable[[], BootStatus]) -> None:
        self.registry = CollectorRegistry()
        self._backend = backend
        self._boot_status = boot_status
        self._lock = asyncio.Lock()
        self._refreshed_at = float("-inf")
        own, labels = self.registry, ["method", "route", "status"]
        self.requests = Counter("novacron_api_requests_total", "Requests answered", labels, registry=own)
        self.latency = Histogram("novacron_api_request_seconds", "Time to the answer's head", ["route"], registry=own)
        self._ready = Gauge("novacron_ready", "1 when the node is ready", registry=own)
        self._component = Gauge("novacron_component_up", "1 when the component is up", ["component"], registry=own)
        self._scrape = Gauge("novacron_manager_answers", "1 when the manager answered the last scrape", registry=own)
        self._jobs = Gauge("novacron_migrations", "Moves that this site knows, by state", ["state"], registry=own)
        self._free = Gauge("novacron_node_free_bytes", "Memory free for guests", ["node"], registry=own)
        self._guests = Gauge("novacron_node_guests", "Guests on the node", ["node"], registry=own)
        kept, of = "novacron_store", ["node"]
        self._store = {
            "capacity": Gauge(f"{kept}_capacity_blocks", "Room of the content store, 4 KiB blocks", of, registry=own),
            "blocks": Gauge(f"{kept}_blocks", "Blocks in the content store", of, registry=own),
            "hits": Gauge(f"{kept}_hits", "Blocks that served a move", of, registry=own),
            "evicted": Gauge(f"{kept}_evicted", "Blocks that made room for others", of, registry=own),
            "dropped": Gauge(f"{kept}_dropped", "Blocks found spoilt and forgotten", of, registry=own),
        }
        self._leads = Gauge("novacron_state_leader", "1 for the control state's leader", ["node"], registry=own)
        self._lag = Gauge("novacron_state_lag_entries", "Entries that a member lacks", ["node"], registry=own)
        self._commit = Gauge("novacron_state_commit_index", "Newest entry agreed on", registry=own)
        link = ["node", "peer"]
        self._link_up = Gauge("novacron_link_up", "1 when the link is up", link, registry=own)
        self._rtt = Gauge("novacron_link_rtt_seconds", "Newest round trip time", link, registry=own)
        self._forecast = Gauge("novacron_link_forecast_bytes_per_second", "Goodput expected", link, registry=own)
        self._resent = Gauge("novacron_link_resent_bytes", "Bytes sent again", link, registry=own)
        self._loss = Gauge("novacron_link_loss_ratio", "Newest share of segments sent again", link, registry=own)
        self._streams = Gauge("novacron_link_streams", "TLS connections of the link", link, registry=own)
        self._capacity = Gauge("novacron_link_capacity_bytes_per_second", "What it can carry", link, registry=own)
        self._mode = Gauge("novacron_link_mode", "1 for the mode that the link is in", [*link, "mode"], registry=own)
        self._switches = Gauge("novacron_link_mode_switches", "Changes of mode since the start", link, registry=own)
        self._refused = Gauge("novacron_link_refused_peers", "Peers dropped", link, registry=own)
        self._facts = FactMetrics(own)
        self._forecasts = ForecastMetrics(own)

    async def render(self) -> tuple[bytes, str]:
        """The text for one scrape and its media type."""
        boot = self._boot_status()
        self._ready.set(boot.ready)
        for component in boot.components:
            self._component.labels(component.name).set(component.state == "up")
        async with self._lock:
            if time.monotonic() - self._refreshed_at > REFRESH_S:
                await asyncio.gather(self._refresh(), self._refresh_state())
                self._refreshed_at = time.monotonic()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(SCRAPE_S):
                sites, jobs, links = await asyncio.gather(
                    self._backend.sites(), self._backend.jobs(), self._backend.links()
                )
                stores = await self._stores(sites)
                await self._facts.refresh(self._backend)
                await self._forecasts.refresh(self._backend)
        except (NovaCronError, TimeoutError):
            self._scrape.set(0)
            return
        self._scrape.set(1)
        fleeting = (self._jobs, self._free, self._guests, self._link_up, self._rtt, self._loss, self._forecast)
        for gauge in (*fleeting, self._capacity, self._mode):
            gauge.clear()
        for state, count in Tally(job.state for job in jobs.jobs).items():
            self._jobs.labels(state).set(count)
        for node in (node for site in sites.sites for node in site.nodes):
            self._free.labels(node.node).set(node.free_mib << 20)
            self._guests.labels(node.node).set(node.guests)
        self._show_stores(stores)
        self._show_links(links.links)

    async def _refresh_state(self) -> None:
        """The control state answers for itself: with the manager away, or without a majority."""
        self._leads.clear()
        self._lag.clear()
        try:
            async with asyncio.timeout(SCRAPE_S):
                view = await self._backend.cluster()
        except (NovaCronError, TimeoutError):
            return
        self._commit.set(view.commit)
        for member in view.members:
            self._leads.labels(member.node).set(member.leads)
            if member.lag >= 0:
                self._lag.labels(member.node).set(member.lag)

    async def _stores(self, sites: Sites) -> list[StoreState]:
        """The stores of this site's nodes, as far as they answer."""
        asked = [self._backend.store(StoreQuery(node=node.node)) for node in sites.sites[0].nodes if node.state == "up"]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [one for one in found if isinstance(one, StoreState)]

    def _show_stores(self, stores: Sequence[StoreState]) -> None:
        for name, gauge in self._store.items():
            gauge.clear()
            for store in stores:
                gauge.labels(store.node).set(getattr(store, name))

    def _show_links(self, links: Sequence[LinkView]) -> None:
        for view in links:
            ends = (view.link.node, view.link.peer)
            self._link_up.labels(*ends).set(view.link.state == "up")
            self._resent.labels(*ends).set(view.link.resent_bytes)
            self._refused.labels(*ends).set(view.link.refused_peers)
            self._streams.labels(*ends).set(view.link.streams)
            self._mode.labels(*ends, view.link.mode).set(1)
            self._switches.labels(*ends).set(view.link.mode_switches)
            if view.link.capacity_bytes_per_s:
                self._capacity.labels(*ends).set(view.link.capacity_bytes_per_s)
            if view.link.samples:
                self._loss.labels(*ends).set(view.link.samples[-1].loss)
                self._rtt.labels(*ends).set(view.link.samples[-1].rtt_ms / 1000)
            if view.forecast is not None:
                self._forecast.labels(*ends).set(view.forecast.mean)


class Metered:
    """ASGI middleware: counts answers by route template, never by path, so that callers can't grow the registry."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if route != "none" else "any"
                self._metrics.requests.labels(method, route, message["status"]).inc()
                self._metrics.latency.labels(route).observe(time.monotonic() - begun)
            await send(message)

        await self._app(scope, receive, counted)
