"""One site in the benchmark, a process of its own on its node: ``python -m benchmarks.syncing.end CONFIG``.

It runs the node's transport and two replicas over it, one kept equal by the product's exchange, one by the rival's, and
obeys words on its standard input, one line each, answered by a line of JSON.
"""

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path
from random import SystemRandom

import msgspec

from actors.calls.directory import decode_reply
from actors.calls.messages import Caller
from actors.calls.service import Service, exposed
from actors.config.load import load
from actors.config.schema import Config
from actors.errors import NotFound
from actors.log import set_up
from actors.sync.facts import Facts
from actors.sync.messages import Step, Steps
from actors.sync.peering import Peering, Say
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.messages import PeerCall
from benchmarks.syncing.gossip import Gossip

VALUE_BYTES = 40


class _Site(Service):
    """Both replicas of one site."""

    def __init__(self, config: Config) -> None:
        self.node, self.site = config.node.name, config.site.name
        leads = {one.name: one.nodes[0].name for one in config.topology.sites if one.name != self.site}
        self._leads = leads
        self.facts, self.rival = Facts(f"{self.node}.life"), Facts(f"{self.node}.life")
        self.peering = Peering(self.facts, leads, self._by("exchange"), lambda: True, SystemRandom())
        self.gossip = Gossip(self.rival, list(leads), self._by("take"))
        self.hub = Hub(config, Credentials.load(config.security), self._dispatch)

    @exposed(to_peers=True)
    async def exchange(self, caller: Caller, request: Step) -> Steps:
        """A message of the product's."""
        return await self.peering.receive(caller.site, caller.node, request)

    @exposed(to_peers=True)
    async def take(self, caller: Caller, request: Step) -> Steps:  # noqa: ARG002
        """A message of the rival's."""
        return self.gossip.receive(request)

    def write(self, keys: list[str]) -> int:
        """Write these facts anew in both replicas; bytes of keys and values."""
        now_ms, count = int(time.time() * 1000), 0
        for key in keys:
            value = os.urandom(VALUE_BYTES)
            delta = self.facts.put(key, value, now_ms)
            self.peering.tell(delta)
            self.rival.put(key, value, now_ms)
            count += len(msgspec.msgpack.encode(delta))
        return count

    def tell(self) -> dict[str, object]:
        """How both stand."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "facts": len(self.facts),
            "digest": self.facts.digest("").mark.hex(),
            "rival_digest": self.rival.digest("").mark.hex(),
            "sent_bytes": sum(peer.sent_bytes for peer in self.peering.states()),
            "rival_sent_bytes": self.gossip.sent_bytes,
            "reachable": sum(peer.reachable for peer in self.peering.states()),
            "refused": self.facts.refused,
            "cpu_s": used.ru_utime + used.ru_stime,
        }

    def _by(self, method: str) -> Say:
        async def say(site: str, step: Step, deadline_s: float) -> Steps:
            body = msgspec.msgpack.encode(step)
            order = PeerCall(peer=self._leads[site], service="facts", method=method, body=body, deadline_s=deadline_s)
            return decode_reply(await self.hub.call(order), Steps)

        return say

    async def _dispatch(self, caller: Caller, service: str, method: str, body: bytes) -> bytes:
        if service != "facts":
            raise NotFound(what=f"service {service}")
        return await self.serve(caller, method, body)


async def _main(config_path: Path) -> None:
    config = load(config_path, os.environ)
    set_up(config.log)
    site = _Site(config)
    await site.hub.start()
    works = [asyncio.create_task(site.peering.run()), asyncio.create_task(site.gossip.run())]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        written = site.write(order.get("write", []))
        sys.stdout.write(json.dumps({**site.tell(), "written_bytes": written}) + "\n")
        sys.stdout.flush()
    for work in works:
        work.cancel()
    await site.hub.stop()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
