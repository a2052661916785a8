"""What there is: nodes, guests and links of this site, and of the others as far as they answer."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

import msgspec

from actors.calls.messages import Empty
from actors.config.schema import Member, Site
from actors.errors import GuestUnknown, JobUnknown, NovaCronError, Unreachable
from actors.hypervisor.messages import GuestInfo, Guests, NodeFacts, silent_node
from actors.migration.messages import JobId, JobKey, JobView, PastMoves, Scope, Sites, SiteView
from actors.migration.remotes import Remotes
from actors.placement.messages import PastMove
from actors.sync.client import FactsClient
from actors.sync.messages import FactsQuery
from actors.sync.records import NODE, STALE_S, record_of
from actors.transport.messages import LinkState

# An unreachable site or node must not stall a list: it is shown as what it is.
SURVEY_S = 3.0
# Another site's manager waits for its own nodes first.
PEER_S = 4.0
# Of two copies of a name, the one that is the guest comes first.
_RANK = ("running", "paused", "crashed", "shut-off", "incoming")
_Found = TypeVar("_Found", bound=msgspec.Struct)


class Survey:
    """Asks every node and site at once, each with a short deadline."""

    def __init__(self, remotes: Remotes) -> None:
        self._remotes = remotes
        self._calls = remotes.calls
        self._facts_client = FactsClient(remotes.calls)

    @property
    def here(self) -> Site:
        """This site."""
        return next(site for site in self._calls.topology.sites if site.name == self._calls.site)

    @property
    def others(self) -> list[str]:
        """The names of the other sites; of a witness there is nothing to ask."""
        return [site.name for site in self._calls.topology.hosting if site.name != self._calls.site]

    async def sites(self, *, everywhere: bool, live: bool = True) -> Sites:
        """Every site (or only this one), those that don't answer too, with the reason.

        Without `live` other sites are shown as they told of themselves, as long as that is not stale: nothing crosses
        the WAN.
        """
        facts = [self._facts(member) for member in self.here.nodes]
        known = await self._known_nodes() if everywhere and self.others else {}
        peers = [self._site(name, known, live=live) for name in (self.others if everywhere else [])]
        nodes, views = await asyncio.gather(asyncio.gather(*facts), asyncio.gather(*peers))
        return Sites(sites=[SiteView(name=self.here.name, state="up", nodes=list(nodes)), *views])

    async def guests(self, *, everywhere: bool) -> Guests:
        """The guests of every node that answers, and in `silent` the nodes and sites that don't."""
        asked: list[tuple[str, Awaitable[Guests]]] = [
            (f"node {member.name}", self._remotes.agent(member.name, SURVEY_S).guests()) for member in self.here.nodes
        ]
        if everywhere:
            scope = Scope(everywhere=False)
            asked += [
                (f"site {name}", self._remotes.manager(name, "guests", scope, Guests, PEER_S)) for name in self.others
            ]
        found, silent = await _answers(asked)
        return Guests(
            guests=[guest for each in found for guest in each.guests],
            silent=silent + [name for each in found for name in each.silent],
        )

    async def locate(self, guest: str, *, everywhere: bool) -> GuestInfo:
        """The guest, wherever it is; of two copies under a move, the one that runs.

        Raises:
            GuestUnknown: every node answered and none has it.
            Unreachable: nobody who answered has it, but not everybody answered.
        """
        known = await self.guests(everywhere=everywhere)
        copies = [info for info in known.guests if info.name == guest]
        if copies:
            return min(copies, key=lambda info: (_rank(info.state), info.node))
        if known.silent:
            raise Unreachable(what=f"{', '.join(known.silent)}, which may have guest {guest}")
        raise GuestUnknown(guest=guest)

    async def job_of_key(self, key: str) -> JobView | None:
        """The job that another site accepted with the key, None when none that answers did."""
        request = JobKey(key=key)
        asked = [(name, self._remotes.manager(name, "job_of_key", request, JobView, PEER_S)) for name in self.others]
        found, _ = await _answers(asked)
        return next(iter(found), None)

    async def site_of_job(self, job: str) -> str:
        """The other site that has the job, '' when none has.

        Raises:
            Unreachable: none that answers has it, but not every site answered.
        """
        request = JobId(id=job)
        asked = [self._remotes.manager(name, "job", request, JobView, PEER_S) for name in self.others]
        silent = []
        for name, result in zip(self.others, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(result, JobView):
                return name
            if not isinstance(result, JobUnknown):
                silent.append(f"site {name}")
        if silent:
            raise Unreachable(what=f"{', '.join(silent)}, which may have migration {job}")
        return ""

    async def past(self, here: list[PastMove]) -> list[PastMove]:
        """The moves that are over, `here` and of the other sites that answer; of a guest's the newest last."""
        asked = [(name, self._remotes.manager(name, "past_moves", Empty(), PastMoves, PEER_S)) for name in self.others]
        found, _ = await _answers(asked)
        return sorted([*here, *(move for each in found for move in each.moves)], key=lambda move: move.ended_at)

    async def links(self) -> list[LinkState]:
        """The links of this site's nodes that answer."""
        asked = [
            (member.name, self._remotes.transport(member.name, SURVEY_S).links(after=0.0)) for member in self.here.nodes
        ]
        found, _ = await _answers(asked)
        return [link for each in found for link in each.links]

    async def _facts(self, member: Member) -> NodeFacts:
        try:
            return await self._remotes.agent(member.name, SURVEY_S).facts()
        except NovaCronError as error:
            return silent_node(member.name, self.here.name, member.address, str(error))

    async def _known_nodes(self) -> dict[str, NodeFacts]:
        """What the site's facts have of other sites' nodes; nothing while the facts actor is away."""
        try:
            found = await self._facts_client.find(FactsQuery(prefix=NODE))
        except NovaCronError:
            return {}
        nodes = [record_of(fact, NodeFacts) for fact in found.facts]
        return {node.node: node for node in nodes if node is not None}

    async def _site(self, name: str, known: Mapping[str, NodeFacts], *, live: bool) -> SiteView:
        site = next(each for each in self._calls.topology.sites if each.name == name)
        told = [known.get(member.name) for member in site.nodes]
        fresh = [node for node in told if node is not None and node.age_s <= STALE_S and node.site == name]
        if not live and len(fresh) == len(told):
            return SiteView(name=name, state="up", nodes=fresh)
        try:
            answer = await self._remotes.manager(name, "sites", Scope(everywhere=False), Sites, PEER_S)
            return next(site for site in answer.sites if site.name == name)
        except (NovaCronError, StopIteration) as error:
            reason = str(error) or f"its manager does not know itself as {name}"
            nodes = [_last_known(known.get(member.name), member, name, reason) for member in site.nodes]
            return SiteView(name=name, state="unreachable", nodes=nodes, reason=reason)


def _last_known(told: NodeFacts | None, member: Member, site: str, reason: str) -> NodeFacts:
    if told is None:
        return silent_node(member.name, site, member.address, reason)
    return msgspec.structs.replace(told, state="down", warnings=[reason])


async def _answers(asked: Sequence[tuple[str, Awaitable[_Found]]]) -> tuple[list[_Found], list[str]]:
    """(answers, names of those that did not answer)."""
    results = await asyncio.gather(*(call for _, call in asked), return_exceptions=True)
    found: list[_Found] = []
    silent: list[str] = []
    for (name, _), result in zip(asked, results, strict=True):
        if isinstance(result, NovaCronError):
            silent.append(name)
        elif isinstance(result, BaseException):
            raise result
        else:
            found.append(result)
    return found, silent


def _rank(state: str) -> int:
    return _RANK.index(state) if state in _RANK else len(_RANK)
