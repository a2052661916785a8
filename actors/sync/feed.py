"""What a site writes of its own: hosts, links with their series, content stores."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import structlog

from actors.calls.messages import Empty
from actors.calls.protocol import Calls
from actors.config.schema import Member
from actors.encoding.messages import StoreChange, StoreState
from actors.errors import BadRequest, NovaCronError
from actors.hypervisor.messages import NodeFacts, silent_node
from actors.sync.records import LINK, NODE, SERIES, STORE, link_fact, node_value, sample_value, store_value
from actors.transport.messages import LinksQuery, LinkStates

log = structlog.get_logger()
EVERY_S = 10.0
AGAIN_S = 30.0
"""What has not changed is written again after so long: a sign of life."""
_CALL_S = 3.0

Write = Callable[[str, bytes], None]


class Feed:
    """Asks the site's actors and writes what they say.

    Args:
        calls: the way to them.
        put: writes a fact (key, JSON).
        sample: adds to a series (key, JSON).
    """

    def __init__(self, calls: Calls, put: Write, sample: Write) -> None:
        self._calls = calls
        self._put = put
        self._sample = sample
        self._written: dict[str, tuple[bytes, float]] = {}
        self._newest: dict[str, float] = {}
        site = next(site for site in calls.topology.sites if site.name == calls.site)
        self._members = site.nodes

    async def run(self) -> None:
        """Ask for ever; who is away is asked again the next time."""
        while True:
            await asyncio.gather(*(self.ask(member) for member in self._members))
            await asyncio.sleep(EVERY_S)

    async def ask(self, member: Member) -> None:
        """Ask one node's actors once."""
        for part in (self._node, self._links, self._store):
            try:
                await part(member)
            except BadRequest as error:
                log.warning("a fact can't be written", node=member.name, reason=str(error))
            except NovaCronError as error:
                log.debug("no facts", node=member.name, reason=str(error))

    async def _node(self, member: Member) -> None:
        to = self._calls.on("agent", member.name)
        try:
            facts = await self._calls.call(to, "facts", Empty(), NodeFacts, _CALL_S)
        except NovaCronError as error:
            facts = silent_node(member.name, self._calls.site, member.address, str(error))
        self._write(NODE + member.name, node_value(facts))

    async def _links(self, member: Member) -> None:
        to = self._calls.on("transport", member.name)
        after = self._newest.get(member.name, 0.0)
        found = await self._calls.call(to, "links", LinksQuery(after=after), LinkStates, _CALL_S)
        for link in found.links:
            last = link.samples[-1] if link.samples else None
            name = f"{link.node}/{link.peer}"
            self._write(LINK + name, msgspec.json.encode(link_fact(link, last)))
            if last is not None:
                self._sample(SERIES + name, sample_value(last))
                self._newest[member.name] = max(last.at, self._newest.get(member.name, 0.0))

    async def _store(self, member: Member) -> None:
        to = self._calls.on("decoder", member.name)
        store = await self._calls.call(to, "store", StoreChange(), StoreState, _CALL_S)
        self._write(STORE + member.name, store_value(store))

    def _write(self, key: str, value: bytes) -> None:
        """Write it if it is news, or if it was written long ago."""
        now_s = time.monotonic()
        before, at_s = self._written.get(key, (b"", 0.0))
        if value != before or now_s - at_s >= AGAIN_S:
            self._put(key, value)
            self._written[key] = (value, now_s)
