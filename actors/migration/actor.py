"""The migration manager: one per site, on its lead node. The site of a guest's present node leads its move."""

import asyncio

from msgspec.structs import replace

from actors.calls.directory import Directory
from actors.calls.messages import Caller, Empty
from actors.calls.protocol import Calls
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.control.client import StateClient
from actors.encoding.messages import CodecStats, StoreState
from actors.errors import BadRequest, JobUnknown, NodeUnknown, Refused
from actors.flags.file import Switches
from actors.hypervisor.messages import Arrival, GuestInfo, Guests, MoveStatus, TakenOver
from actors.migration.desk import MAX_WAIT_S, Desk, same_request
from actors.migration.failover import Failovers, States
from actors.migration.guests import Keeper
from actors.migration.messages import (
    AwaitTarget,
    CheckTarget,
    CreateGuestAnywhere,
    EndTarget,
    EventsQuery,
    FailOverGuest,
    GuestAction,
    GuestQuery,
    JobEvents,
    JobId,
    JobKey,
    Jobs,
    JobView,
    LabelGuest,
    Links,
    MoveRequest,
    NodeLinkHistory,
    PastMoves,
    PauseChange,
    RaiseTarget,
    Receive,
    Scope,
    Sites,
    SteerNodeLink,
    StoreQuery,
    SweepId,
    SweepRequest,
    Sweeps,
    SweepView,
    TargetJob,
    Welcome,
)
from actors.migration.owners import Owners
from actors.migration.preflight import Preflight
from actors.migration.receiver import TARGET_READ_S, Receiver
from actors.migration.remotes import Remotes, TransportOf
from actors.migration.sampler import Sampler
from actors.migration.survey import Survey
from actors.migration.sweep_shelf import SWEEPS_FILE, SweepShelf
from actors.migration.sweeps import SweepDesk
from actors.placement.picture import drained
from actors.transport.messages import LinkPeriods, LinkState

_MBIT_MIN, _MBIT_MAX = 0.1, 1e6


class MigrationManager(Service):
    """The doors of the manager. A call from another site is never passed on to a third (`caller.same_site`).

    Args:
        config: of the node.
        calls: the way to other actors; the node's `Directory` unless a test brings its own.
        states: the agreed control state; its members unless a test brings its own.
    """

    def __init__(self, config: Config, calls: Calls | None = None, states: States | None = None) -> None:
        calls = calls or Directory(config.node.name, config.topology)
        self._remotes = Remotes(calls, config.migration.call_s)
        self._survey = Survey(self._remotes)
        self._receiver = Receiver(self._remotes, config.migration.prepare_s)
        agreed = states or StateClient(Directory(config.node.name, config.topology), config)
        self._owners = Owners(agreed, config.node.name)
        switches = Switches(config.node.name, config.node.state_dir)
        preflight = Preflight(self._remotes, self._survey, self._receiver, self._owners, switches)
        self._desk = Desk(config, self._remotes, preflight, self._receiver, self._owners)
        self._keeper = Keeper(self._remotes, self._survey, preflight, self._desk)
        self._failovers = Failovers(self._remotes, self._survey, preflight, self._desk, agreed)
        shelf = SweepShelf(config.node.state_dir / SWEEPS_FILE)
        at_once = config.placement.moves_at_once
        self._sweeps = SweepDesk(self._remotes, self._survey, self._owners, self, at_once, shelf)
        self._sampler = Sampler(self._remotes, self._survey)
        self._sampling: asyncio.Task[None] | None = None
        self._self = Caller(node=config.node.name, site=self._remotes.calls.site, same_site=True)
        self._led_by: dict[str, str] = {}  # job whose target is here → the site that leads it

    async def serve(self, caller: Caller, method: str, body: bytes) -> bytes:
        """As every service; the first call after a (re)start also takes up the jobs in the journal, then drains and
        rebalancings."""
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sampler.run(), name="sampler")
            self._desk.recover()
            self._sweeps.recover()
        return await super().serve(caller, method, body)

    async def close(self) -> None:
        """Stop the background work where it is."""
        if self._sampling:
            self._sampling.cancel()
        await self._sweeps.close()
        await self._desk.close()

    @exposed()
    async def recover(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002
        """Be up: `serve` has taken up the journal's jobs by now."""
        return Empty()

    # -- jobs ---------------------------------------------------------------------------------------------------

    @exposed(to_peers=True)
    async def submit(self, caller: Caller, request: MoveRequest) -> JobView:
        """Move a guest. Whatever speaks against it is raised here, before anything is changed."""
        if request.pause_ms:
            _check_pause(request.pause_ms)
        if not 0 <= request.max_mbit <= _MBIT_MAX or 0 < request.max_mbit < _MBIT_MIN:
            raise BadRequest(detail=f"max_mbit must be 0 or from {_MBIT_MIN} to {_MBIT_MAX:g}, not {request.max_mbit}")
        known = await self._known(caller, request.key) if request.key else None
        if known is not None:
            return same_request(known, request)
        self._desk.refuse_busy(request.guest)
        info = await self._survey.locate(request.guest, everywhere=caller.same_site)
        if info.site != self._remotes.calls.site:
            return await self._remotes.manager(info.site, "submit", request, JobView)
        return await self._desk.submit(request, info)

    @exposed(to_peers=True)
    async def job_of_key(self, caller: Caller, request: JobKey) -> JobView:  # noqa: ARG002
        """The job that this site accepted with the key."""
        known = self._desk.by_key(request.key)
        if known is None:
            raise JobUnknown(job=f"with key {request.key}")
        return known

    @exposed(to_peers=True)
    async def job(self, caller: Caller, request: JobId) -> JobView:
        """One job, of this site or another."""
        site = await self._site_of(caller, request.id)
        if site:
            return await self._remotes.manager(site, "job", request, JobView)
        return self._desk.view(request.id)

    @exposed()
    async def jobs(self, caller: Caller, request: Empty) -> Jobs:  # noqa: ARG002
        """The jobs of this site."""
        return Jobs(jobs=await asyncio.to_thread(self._desk.views))

    @exposed(to_peers=True)
    async def events(self, caller: Caller, request: EventsQuery) -> JobEvents:
        """A job's events after a cursor."""
        site = await self._site_of(caller, request.job)
        if site:
            deadline_s = self._remotes.deadline_s + min(max(request.wait_s, 0.0), MAX_WAIT_S)
            return await self._remotes.manager(site, "events", request, JobEvents, deadline_s)
        return await self._desk.events(request)

    @exposed(to_peers=True)
    async def cancel(self, caller: Caller, request: JobId) -> JobView:
        """Cancel a job; allowed, and the same when repeated, until the target has executed the guest."""
        site = await self._site_of(caller, request.id)
        if site:
            return await self._remotes.manager(site, "cancel", request, JobView)
        return await self._desk.cancel(request.id)

    @exposed(to_peers=True)
    async def change_pause(self, caller: Caller, request: PauseChange) -> JobView:
        """Allow a move under way another pause."""
        _check_pause(request.pause_ms)
        site = await self._site_of(caller, request.id)
        if site:
            return await self._remotes.manager(site, "change_pause", request, JobView)
        return await self._desk.change_pause(request)

    # -- drains and rebalancings --------------------------------------------------------------------------------

    @exposed()
    async def sweep(self, caller: Caller, request: SweepRequest) -> SweepView:  # noqa: ARG002
        """Plan a drain or a rebalancing, and unless it is a dry run make its moves."""
        return await self._sweeps.sweep(request, await self._survey.past(await asyncio.to_thread(self._desk.past)))

    @exposed()
    async def sweeps(self, caller: Caller, request: Empty) -> Sweeps:  # noqa: ARG002
        """The drains and rebalancings of this manager."""
        return Sweeps(sweeps=self._sweeps.views())

    @exposed()
    async def sweep_view(self, caller: Caller, request: SweepId) -> SweepView:  # noqa: ARG002
        """One of them."""
        return self._sweeps.view(request.id)

    @exposed()
    async def cancel_sweep(self, caller: Caller, request: SweepId) -> SweepView:  # noqa: ARG002
        """Cancel one; moves past their point of no return are finished."""
        return await self._sweeps.cancel(request.id)

    @exposed(to_peers=True)
    async def past_moves(self, caller: Caller, request: Empty) -> PastMoves:  # noqa: ARG002
        """What the moves that this site led took."""
        return PastMoves(moves=await asyncio.to_thread(self._desk.past))

    async def submit_here(self, request: MoveRequest) -> JobView:
        """As `submit` for this site itself."""
        return await self.submit(self._self, request)

    async def job_here(self, job: str) -> JobView:
        """As `job` for this site itself."""
        return await self.job(self._self, JobId(id=job))

    async def cancel_here(self, job: str) -> JobView:
        """As `cancel` for this site itself."""
        return await self.cancel(self._self, JobId(id=job))

    # -- the target's half of a move that another site leads ------------------------------------------------------

    @exposed(to_peers=True)
    async def check_target(self, caller: Caller, request: CheckTarget) -> Welcome:  # noqa: ARG002
        """May this guest come to a node of this site?"""
        return await self._receiver.ours(request.target).check(request)

    @exposed(to_peers=True)
    async def receive(self, caller: Caller, request: Receive) -> Empty:
        """Get a node of this site ready for a guest of the caller's site."""
        source = self._remotes.calls.topology.site_of(request.source)
        if source is None or source.name != caller.site:
            raise Refused(detail=f"{request.source} is no node of the calling site {caller.site}")
        self._led_by[request.job] = caller.site
        await self._receiver.ours(request.target).receive(request)
        return Empty()

    @exposed(to_peers=True)
    async def target_status(self, caller: Caller, request: TargetJob) -> MoveStatus:
        """The move as the target's hypervisor has it."""
        self._refuse_meddling(caller, request.job)
        return await self._receiver.ours(request.target).status(request, TARGET_READ_S)

    @exposed(to_peers=True)
    async def await_target(self, caller: Caller, request: AwaitTarget) -> Arrival:
        """Whether a job's guest executes at a node of this site, waited for as long as is asked."""
        self._refuse_meddling(caller, request.job)
        return Arrival(executes=await self._receiver.ours(request.target).await_arrival(request))

    @exposed(to_peers=True)
    async def target_codec(self, caller: Caller, request: TargetJob) -> CodecStats:
        """How far the decoder of a job at a node of this site has come."""
        self._refuse_meddling(caller, request.job)
        return await self._receiver.ours(request.target).codec(request)

    @exposed(to_peers=True)
    async def raise_target(self, caller: Caller, request: RaiseTarget) -> Empty:
        """Let what a node of this site sends for a job go before other jobs, or no longer."""
        self._refuse_meddling(caller, request.job)
        await self._receiver.ours(request.target).raise_job(request)
        return Empty()

    @exposed(to_peers=True)
    async def end_target(self, caller: Caller, request: EndTarget) -> Empty:
        """End a job at a node of this site."""
        self._refuse_meddling(caller, request.job)
        await self._receiver.ours(request.target).end(request)
        self._led_by.pop(request.job, None)
        return Empty()

    def _refuse_meddling(self, caller: Caller, job: str) -> None:
        """A third site has no say in a job; one that this process has not seen begin is taken at its word."""
        if self._led_by.get(job, caller.site) != caller.site:
            raise Refused(detail=f"job {job} is led by another site than {caller.site}")

    # -- what there is ------------------------------------------------------------------------------------------

    @exposed(to_peers=True)
    async def sites(self, caller: Caller, request: Scope) -> Sites:
        """Every site with its nodes; those that don't answer with the reason."""
        everywhere = request.everywhere and caller.same_site
        found, draining = await asyncio.gather(
            self._survey.sites(everywhere=everywhere, live=False), self._owners.draining()
        )
        shown = [replace(site, nodes=drained(site.nodes, draining)) for site in found.sites]
        return Sites(sites=shown)

    @exposed(to_peers=True)
    async def guests(self, caller: Caller, request: Scope) -> Guests:
        """The guests of every node that answers."""
        return await self._survey.guests(everywhere=request.everywhere and caller.same_site)

    @exposed(to_peers=True)
    async def guest(self, caller: Caller, request: GuestQuery) -> GuestInfo:
        """One guest, wherever it is."""
        return await self._survey.locate(request.name, everywhere=caller.same_site)

    @exposed(to_peers=True)
    async def create_guest(self, caller: Caller, request: CreateGuestAnywhere) -> GuestInfo:
        """Create a guest under a name that no site has."""
        return await self._keeper.create(request, from_here=caller.same_site)

    @exposed(to_peers=True)
    async def guest_action(self, caller: Caller, request: GuestAction) -> GuestInfo:
        """Start, stop, pause, resume or delete a guest."""
        return await self._keeper.act(request, from_here=caller.same_site)

    @exposed(to_peers=True)
    async def fail_over(self, caller: Caller, request: FailOverGuest) -> TakenOver:
        """Take a guest over from a lost node."""
        return await self._failovers.fail_over(request, from_here=caller.same_site)

    @exposed(to_peers=True)
    async def label_guest(self, caller: Caller, request: LabelGuest) -> GuestInfo:
        """Change what placement heeds of a guest."""
        return await self._keeper.label(request, from_here=caller.same_site)

    @exposed(to_peers=True)
    async def store(self, caller: Caller, request: StoreQuery) -> StoreState:
        """Look after the content store of a node."""
        return await self._keeper.store(request, from_here=caller.same_site)

    @exposed()
    async def links(self, caller: Caller, request: Empty) -> Links:  # noqa: ARG002
        """The links of this site's nodes with their forecasts."""
        return Links(links=await self._sampler.links())

    @exposed()
    async def steer_link(self, caller: Caller, request: SteerNodeLink) -> LinkState:  # noqa: ARG002
        """Force the mode of a link of this site, or cap it."""
        return await self._transport_here(request.node).steer(request.order)

    @exposed()
    async def link_history(self, caller: Caller, request: NodeLinkHistory) -> LinkPeriods:  # noqa: ARG002
        """What a link of this site measured."""
        return await self._transport_here(request.node).history(request.query)

    def _transport_here(self, node: str) -> TransportOf:
        """The transport of a node of this site; each site's links are its own."""
        if node not in {member.name for member in self._survey.here.nodes}:
            raise NodeUnknown(node=node)
        return self._remotes.transport(node)

    # -- whose is it --------------------------------------------------------------------------------------------

    async def _site_of(self, caller: Caller, job: str) -> str:
        """The other site that has the job, '' when it is ours (or nobody's, which looking it up here will say)."""
        if not caller.same_site or self._desk.has(job):
            return ""
        return await self._survey.site_of_job(job)

    async def _known(self, caller: Caller, key: str) -> JobView | None:
        # A guest that has moved is led by its new site, which never saw the key: so every site is asked for it.
        known = self._desk.by_key(key)
        if known is None and caller.same_site:
            known = await self._survey.job_of_key(key)
        return known


def _check_pause(pause_ms: int) -> None:
    if not 1 <= pause_ms <= 60000:
        raise BadRequest(detail=f"pause_ms must be from 1 to 60000, not {pause_ms}")
