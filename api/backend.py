"""What the routes call: a `Backend`, in production the site's actors behind a `Directory`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from actors.calls.messages import Empty
from actors.control.commands import DrainNode, Override, SetFlag
from actors.control.messages import ClusterView, Outcome, TrailPage, TrailQuery, Watched
from actors.encoding.messages import StoreState
from actors.errors import NodeUnknown, Unreachable
from actors.flags.file import read_flags
from actors.flags.messages import KnownFlags
from actors.hypervisor.messages import GuestInfo, Guests, TakenOver
from actors.migration.messages import (
    CreateGuestAnywhere,
    EventsQuery,
    FailOverGuest,
    GuestAction,
    GuestQuery,
    JobEvents,
    JobId,
    Jobs,
    JobView,
    LabelGuest,
    Links,
    MoveRequest,
    NodeLinkHistory,
    PauseChange,
    Scope,
    Sites,
    SteerNodeLink,
    StoreQuery,
    SweepId,
    SweepRequest,
    Sweeps,
    SweepView,
)
from actors.prediction.messages import Accuracies, RecordedQuery, RecordedSamples
from actors.sync.messages import FactList, FactsQuery, PutFact, ReplicaState
from actors.transport.messages import LinkPeriods, LinkState

if TYPE_CHECKING:  # the import brings Ray, which the OpenAPI generator and the tests do not need
    from actors.calls.directory import Directory
    from actors.control.client import StateClient

_Response = TypeVar("_Response", bound=msgspec.Struct)

CALL_S = 15.0
CLUSTER_S = 5.0
FLAGS_S = 5.0
# All sites are asked, then a plan is made.
SWEEP_S = 25.0
# Whoever has the API's token.
OPERATOR = "operator:api"
# Defining a guest may make disk images and wait for libvirt.
CREATE_S = 90.0
# Another site's manager may ask the control state, check the node and boot the guest there.
FAIL_OVER_S = 100.0


class Backend(Protocol):
    """Everything the API can ask for. Each method raises errors of `actors.errors`."""

    async def sites(self) -> Sites: ...
    async def guests(self) -> Guests: ...
    async def guest(self, request: GuestQuery) -> GuestInfo: ...
    async def create_guest(self, request: CreateGuestAnywhere) -> GuestInfo: ...
    async def guest_action(self, request: GuestAction) -> GuestInfo: ...
    async def fail_over(self, request: FailOverGuest) -> TakenOver: ...
    async def label_guest(self, request: LabelGuest) -> GuestInfo: ...
    async def submit(self, request: MoveRequest) -> JobView: ...
    async def jobs(self) -> Jobs: ...
    async def job(self, request: JobId) -> JobView: ...
    async def events(self, request: EventsQuery) -> JobEvents: ...
    async def change_pause(self, request: PauseChange) -> JobView: ...
    async def cancel(self, request: JobId) -> JobView: ...
    async def links(self) -> Links: ...
    async def store(self, request: StoreQuery) -> StoreState: ...
    async def steer_link(self, request: SteerNodeLink) -> LinkState: ...
    async def link_history(self, request: NodeLinkHistory) -> LinkPeriods: ...
    async def accuracies(self) -> Accuracies: ...
    async def recorded(self, request: RecordedQuery) -> RecordedSamples: ...
    async def facts(self, request: FactsQuery) -> FactList: ...
    async def put_fact(self, request: PutFact) -> None: ...
    async def replica(self) -> ReplicaState: ...
    async def cluster(self) -> ClusterView: ...
    async def add_member(self, node: str) -> Outcome: ...
    async def remove_member(self, node: str, *, lost: bool) -> Outcome: ...
    async def flags(self) -> KnownFlags: ...
    async def set_flag(self, command: SetFlag) -> None: ...
    async def decree(self, request: Override) -> Outcome: ...
    async def audit(self, request: TrailQuery) -> TrailPage: ...
    async def watch(self, after: int, wait_s: float) -> Watched: ...
    async def drain_node(self, request: DrainNode) -> None: ...
    async def sweep(self, request: SweepRequest) -> SweepView: ...
    async def sweeps(self) -> Sweeps: ...
    async def sweep_view(self, request: SweepId) -> SweepView: ...
    async def cancel_sweep(self, request: SweepId) -> SweepView: ...


class SiteBackend:
    """`Backend` over this site's manager and facts, and the control state.

    Args:
        directory: finds their actors.
        state: asks the control state.
        state_dir: where this node keeps the flags that it last knew.
    """

    def __init__(self, directory: "Directory", state: "StateClient", state_dir: Path) -> None:
        self._directory = directory
        self._state = state
        self._state_dir = state_dir

    async def sites(self) -> Sites:
        """Every site with its nodes."""
        return await self._call("sites", Scope(), Sites)

    async def guests(self) -> Guests:
        """The guests of every site that answers."""
        return await self._call("guests", Scope(), Guests)

    async def guest(self, request: GuestQuery) -> GuestInfo:
        """One guest, wherever it is."""
        return await self._call("guest", request, GuestInfo)

    async def create_guest(self, request: CreateGuestAnywhere) -> GuestInfo:
        """Define a guest and start it if asked to."""
        return await self._call("create_guest", request, GuestInfo, CREATE_S)

    async def guest_action(self, request: GuestAction) -> GuestInfo:
        """Start, stop, pause, resume or delete a guest; the answer is how it is then (was, if deleted)."""
        return await self._call("guest_action", request, GuestInfo, CALL_S + request.grace_s)

    async def fail_over(self, request: FailOverGuest) -> TakenOver:
        """Take a guest over whose node is lost, at an operator's word."""
        return await self._call("fail_over", request, TakenOver, FAIL_OVER_S)

    async def label_guest(self, request: LabelGuest) -> GuestInfo:
        """Change what placement heeds of a guest."""
        return await self._call("label_guest", request, GuestInfo)

    async def submit(self, request: MoveRequest) -> JobView:
        """Ask for a move."""
        return await self._call("submit", request, JobView)

    async def jobs(self) -> Jobs:
        """The moves this site knows."""
        return await self._call("jobs", Empty(), Jobs)

    async def job(self, request: JobId) -> JobView:
        """One move."""
        return await self._call("job", request, JobView)

    async def events(self, request: EventsQuery) -> JobEvents:
        """What happened to a move; waits up to `wait_s` for news."""
        return await self._call("events", request, JobEvents, CALL_S + request.wait_s)

    async def cancel(self, request: JobId) -> JobView:
        """Cancel a move."""
        return await self._call("cancel", request, JobView)

    async def change_pause(self, request: PauseChange) -> JobView:
        """Let a move under way pause its guest for longer, or less long."""
        return await self._call("change_pause", request, JobView)

    async def links(self) -> Links:
        """This site's links."""
        return await self._call("links", Empty(), Links)

    async def store(self, request: StoreQuery) -> StoreState:
        """Look after a node's content store."""
        return await self._call("store", request, StoreState)

    async def steer_link(self, request: SteerNodeLink) -> LinkState:
        """Force a link's mode, or cap it."""
        return await self._call("steer_link", request, LinkState)

    async def link_history(self, request: NodeLinkHistory) -> LinkPeriods:
        """What a link measured."""
        return await self._call("link_history", request, LinkPeriods)

    async def accuracies(self) -> Accuracies:
        """What forecasts of this site's links were worth."""
        return await self._call("accuracies", Empty(), Accuracies, service="predictor")

    async def recorded(self, request: RecordedQuery) -> RecordedSamples:
        """What this site's links carried, second by second."""
        return await self._call("recorded", request, RecordedSamples, service="predictor")

    async def facts(self, request: FactsQuery) -> FactList:
        """What sites have told each other."""
        return await self._call("find", request, FactList, service="facts")

    async def put_fact(self, request: PutFact) -> None:
        """Write or remove a fact."""
        await self._call("put", request, Empty, service="facts")

    async def replica(self) -> ReplicaState:
        """How the exchange of facts stands."""
        return await self._call("state", Empty(), ReplicaState, service="facts")

    async def cluster(self) -> ClusterView:
        """How the members of the control state stand."""
        return await self._state.cluster(deadline_s=CLUSTER_S)

    async def add_member(self, node: str) -> Outcome:
        """Have a node be a member of the control state."""
        return await self._state.add_member(node, by=OPERATOR, deadline_s=CALL_S)

    async def remove_member(self, node: str, *, lost: bool) -> Outcome:
        """Take the member on a node out for good."""
        return await self._state.remove_member(node, by=OPERATOR, lost=lost, deadline_s=CALL_S)

    async def flags(self) -> KnownFlags:
        """The flags that were ever set; those that this node last knew when no majority answers."""
        try:
            return KnownFlags(flags=await self._state.flags(deadline_s=FLAGS_S), agreed=True)
        except Unreachable:
            return KnownFlags(flags=await asyncio.to_thread(read_flags, self._state_dir), agreed=False)

    async def set_flag(self, command: SetFlag) -> None:
        """Have a flag agreed on."""
        await self._state.submit(command, by=OPERATOR, deadline_s=CALL_S)

    async def decree(self, request: Override) -> Outcome:
        """Have it agreed on that nodes run nothing, at an operator's word."""
        return await self._state.submit(request, by=OPERATOR, deadline_s=CALL_S)

    async def audit(self, request: TrailQuery) -> TrailPage:
        """A page of the audit trail."""
        return await self._state.audit(request, deadline_s=CALL_S)

    async def watch(self, after: int, wait_s: float) -> Watched:
        """What was changed after a revision; waits up to `wait_s` for something."""
        return await self._state.watch(after, wait_s)

    async def drain_node(self, request: DrainNode) -> None:
        """Have it agreed on that a node takes no guests, or takes them again."""
        if self._directory.topology.member(request.node) is None:
            raise NodeUnknown(node=request.node)
        await self._state.submit(request, by=OPERATOR, deadline_s=CALL_S)

    async def sweep(self, request: SweepRequest) -> SweepView:
        """Plan a drain or rebalancing, and unless it is a dry run begin it."""
        return await self._call("sweep", request, SweepView, SWEEP_S)

    async def sweeps(self) -> Sweeps:
        """The drains and rebalancings of this site's manager."""
        return await self._call("sweeps", Empty(), Sweeps)

    async def sweep_view(self, request: SweepId) -> SweepView:
        """One of them."""
        return await self._call("sweep_view", request, SweepView)

    async def cancel_sweep(self, request: SweepId) -> SweepView:
        """Cancel one."""
        return await self._call("cancel_sweep", request, SweepView)

    async def _call(
        self,
        method: str,
        request: msgspec.Struct,
        response: type[_Response],
        deadline_s: float = CALL_S,
        service: str = "manager",
    ) -> _Response:
        to = self._directory.central(service)
        return await self._directory.call(to, method, request, response, deadline_s)
