"""The rival: every interval each site sends everything that it has to every other one. Same values, same join."""

import asyncio
import time

from actors.errors import NovaCronError
from actors.sync.engine import Exchange
from actors.sync.facts import Facts
from actors.sync.messages import Step, Steps
from actors.sync.peering import COMPARE_S, DEADLINE_S, Say


class Gossip:
    """One site's replica that is kept equal by brute force.

    Args:
        facts: the replica.
        sites: the others.
        say: carries a message there.
    """

    def __init__(self, facts: Facts, sites: list[str], say: Say) -> None:
        self.sent_bytes = 0
        self._facts = facts
        self._exchange = Exchange(facts)
        self._sites = sites
        self._say = say

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await asyncio.gather(*(self._send(site) for site in self._sites))
            await asyncio.sleep(COMPARE_S)

    def receive(self, step: Step) -> Steps:
        """Take what another site sent."""
        self._exchange.receive(step.message, int(time.time() * 1000))
        return Steps()

    async def _send(self, site: str) -> None:
        everything = self._facts.at(place for place, _ in self._facts.places(""))
        for message in self._exchange.tell(everything):
            self.sent_bytes += len(message)
            try:
                await self._say(site, Step(message=message), DEADLINE_S)
            except NovaCronError:
                return
