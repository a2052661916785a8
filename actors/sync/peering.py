"""Keeps one replica equal with those of other sites: deltas at once, a comparison every few seconds.

A site that does not answer is told nothing and tried again a little later. Whoever of two sites is sooner begins: a
comparison that ended equal puts off the other side's own, so equal replicas exchange one digest per interval.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from random import Random

import structlog

from actors.errors import NovaCronError, Refused, StreamCorrupt
from actors.sync.engine import Exchange
from actors.sync.facts import Facts
from actors.sync.messages import MESSAGES_MOST, PeerState, Step, Steps
from actors.sync.values import Value, join
from actors.transport.bucket import TokenBucket

log = structlog.get_logger()
COMPARE_S = 5.0
AGAIN_S = 8.0
"""A site that did not answer is tried again after so long."""
DEADLINE_S = 4.0
JITTER = 0.2
STEPS_MAX = 16
"""Rounds of one comparison; two replicas of any size need at most nine."""
AT_ONCE = 4
PENDING_MAX = 1024
"""Deltas that wait to be told; what is more is left to the next comparison."""
PEER_BYTES_PER_S = 4 << 20
PATIENCE_S = 3.0
SHUN_S = 60.0
"""For so long nothing is taken from a site that sent what is no message."""
_OVERHEAD_BYTES = 1024

Say = Callable[[str, Step, float], Awaitable[Steps]]
"""(site, message, deadline in s) → what that site answers."""


class _Peer:
    """What is kept of one other site."""

    def __init__(self, site: str, node: str) -> None:
        self.site = site
        self.node = node
        self.reachable = False
        self.equal_at = 0.0
        self.due_s = 0.0
        self.comparisons = self.sent_bytes = self.received_bytes = self.refused = 0
        self.reason = "not yet asked"
        self.shunned_until_s = 0.0
        self.pending: dict[str, Value] = {}
        self.news = asyncio.Event()
        self.bucket = TokenBucket(PEER_BYTES_PER_S)


class Peering:
    """The exchanges of this site's replica.

    Args:
        facts: the replica.
        leads: the lead node of each other site.
        say: carries a message there and brings the answer.
        exchanging: false while nothing is to be exchanged.
        random: for the jitter.
    """

    def __init__(
        self, facts: Facts, leads: dict[str, str], say: Say, exchanging: Callable[[], bool], random: Random
    ) -> None:
        self._facts = facts
        self._exchange = Exchange(facts)
        self._peers = {site: _Peer(site, node) for site, node in leads.items()}
        self._say = say
        self._exchanging = exchanging
        self._random = random

    async def run(self) -> None:
        """Exchange for ever."""
        async with asyncio.TaskGroup() as group:
            for peer in self._peers.values():
                group.create_task(self._compare_on(peer))
                group.create_task(self._tell_on(peer))

    def tell(self, delta: dict[str, Value]) -> None:
        """Have a delta told to every site that is reachable."""
        for peer in self._peers.values():
            if not peer.reachable:
                continue
            for key, value in delta.items():
                if key in peer.pending:
                    peer.pending[key] = join(peer.pending[key], value)
                elif len(peer.pending) < PENDING_MAX:
                    peer.pending[key] = value
            peer.news.set()

    async def receive(self, site: str, node: str, step: Step) -> Steps:
        """Take a site's message; the answer to it.

        Raises:
            Refused: it is not for that node to speak, or it says too much, or said what can't be.
            StreamCorrupt: it is no message; nothing more is taken from that site for a while.
        """
        peer = self._peers.get(site)
        if peer is None or peer.node != node:
            raise Refused(detail=f"facts are exchanged by the lead nodes of sites; {node} of site {site} is none")
        if not self._exchanging():
            raise Refused(detail="the exchange of facts (ASS) is switched off here by its rollout flag")
        await self._admit(peer, len(step.message))
        messages = self._take(peer, step.message)[:MESSAGES_MOST]
        peer.bucket.spend(sum(map(len, messages)))
        peer.sent_bytes += sum(map(len, messages))
        if step.begins and not messages:
            self._equal(peer)
        peer.reachable = True
        return Steps(messages=messages)

    def states(self) -> list[PeerState]:
        """How each exchange stands."""
        return [
            PeerState(
                site=peer.site,
                node=peer.node,
                reachable=peer.reachable,
                equal_at=peer.equal_at,
                comparisons=peer.comparisons,
                sent_bytes=peer.sent_bytes,
                received_bytes=peer.received_bytes,
                refused=peer.refused,
                reason="" if peer.reachable else peer.reason,
            )
            for peer in self._peers.values()
        ]

    # -- inside

    async def _compare_on(self, peer: _Peer) -> None:
        loop = asyncio.get_running_loop()
        # Sites that start together must not all begin together.
        peer.due_s = loop.time() + self._random.random()
        while True:
            wait_s = peer.due_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue  # it may have been put off meanwhile
            every_s = COMPARE_S
            if self._exchanging() and loop.time() >= peer.shunned_until_s:
                every_s = COMPARE_S if await self._heard(peer, self._compare(peer)) else AGAIN_S
            self._put_off(peer, every_s)

    async def _tell_on(self, peer: _Peer) -> None:
        while True:
            await peer.news.wait()
            peer.news.clear()
            delta, peer.pending = peer.pending, {}
            if self._exchanging():
                await self._heard(peer, self._tell(peer, delta))

    async def _heard(self, peer: _Peer, work: Awaitable[None]) -> bool:
        """Do it, and note whether the site is there."""
        try:
            await work
        except NovaCronError as error:
            if peer.reachable:
                log.info("facts are not exchanged", site=peer.site, reason=str(error))
            peer.reachable, peer.reason = False, str(error)
            return False
        if not peer.reachable:
            log.info("facts are exchanged", site=peer.site)
        peer.reachable = True
        return True

    async def _compare(self, peer: _Peer) -> None:
        waiting = [Step(message=self._exchange.begin(), begins=True)]
        for number in range(STEPS_MAX):
            said = iter(waiting)
            answers: list[bytes] = []
            while lot := list(islice(said, AT_ONCE)):
                for steps in await asyncio.gather(*(self._call(peer, step) for step in lot)):
                    answers += steps.messages
            if number == 0 and not answers:
                self._equal(peer)
            # What is left out is found by the next comparison.
            waiting = [Step(message=message) for message in islice(self._answers(peer, answers), MESSAGES_MOST)]
            if not waiting:
                return

    async def _tell(self, peer: _Peer, delta: dict[str, Value]) -> None:
        for message in self._exchange.tell(delta):
            steps = await self._call(peer, Step(message=message))
            # Nothing is asked for in it, so there is nothing to answer.
            if steps.messages:
                raise StreamCorrupt(reason=f"site {peer.site} answers what asks nothing")

    def _answers(self, peer: _Peer, messages: list[bytes]) -> Iterator[bytes]:
        for message in messages:
            yield from self._take(peer, message)

    async def _call(self, peer: _Peer, step: Step) -> Steps:
        peer.comparisons += step.begins
        peer.sent_bytes += len(step.message)
        return await self._say(peer.site, step, DEADLINE_S)

    def _take(self, peer: _Peer, message: bytes) -> list[bytes]:
        """Take a message in, whoever began.

        Raises:
            StreamCorrupt: it is none.
        """
        peer.received_bytes += len(message)
        before = self._facts.refused
        try:
            answers = self._exchange.receive(message, int(time.time() * 1000))
        except StreamCorrupt as error:
            peer.refused += 1
            peer.shunned_until_s = asyncio.get_running_loop().time() + SHUN_S
            log.warning("a site's facts are refused", site=peer.site, node=peer.node, reason=str(error))
            raise
        peer.refused += self._facts.refused - before
        return answers

    async def _admit(self, peer: _Peer, count_bytes: int) -> None:
        """Wait while the site says more than it may, and refuse it when that takes too long."""
        loop = asyncio.get_running_loop()
        if loop.time() < peer.shunned_until_s:
            raise Refused(detail=f"site {peer.site} sent what is no message; it is heard again within {SHUN_S:g} s")
        wait_s = peer.bucket.wait_s(loop.time())
        if wait_s > PATIENCE_S:
            peer.refused += 1
            raise Refused(detail=f"site {peer.site} says more than {PEER_BYTES_PER_S} bytes per second")
        peer.bucket.spend(count_bytes + _OVERHEAD_BYTES)
        if wait_s:
            await asyncio.sleep(wait_s)

    def _equal(self, peer: _Peer) -> None:
        peer.equal_at = time.time()
        self._put_off(peer, COMPARE_S)

    def _put_off(self, peer: _Peer, every_s: float) -> None:
        jitter = 1 + JITTER * (2 * self._random.random() - 1)
        peer.due_s = asyncio.get_running_loop().time() + every_s * jitter
