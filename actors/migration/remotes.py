"""Every call that the manager makes to other actors, typed, in one place."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from actors.calls.messages import Empty
from actors.calls.protocol import Calls
from actors.encoding.messages import CodecStats, OpenDecoder, OpenEncoder, StoreChange, StoreState
from actors.encoding.messages import Job as CodecJob
from actors.errors import NovaCronError
from actors.hypervisor.messages import (
    Arrival,
    Attributes,
    AwaitArrival,
    CheckIncoming,
    CreateGuest,
    FinishMove,
    GuestInfo,
    GuestName,
    Guests,
    GuestXml,
    JobPaths,
    MoveJob,
    MoveStatus,
    NodeFacts,
    PrepareIncoming,
    PrepareOutgoing,
    SetAttributes,
    StartMove,
    SteerMove,
    StopGuest,
    TakenOver,
    TakeOver,
)
from actors.migration.decisions import SOON_S, Outlook
from actors.placement.messages import MovePlan, Place, Placed, PlanMoves
from actors.prediction.messages import Forecast, ForecastQuery, Observe
from actors.transport.messages import (
    Carried,
    Connect,
    Expose,
    Forward,
    HistoryQuery,
    LinkPeriods,
    LinksQuery,
    LinkState,
    LinkStates,
    RaiseJob,
    ServiceQuery,
    SteerLink,
    Tag,
)

_Response = TypeVar("_Response", bound=msgspec.Struct)


class Agent:
    """The node agent of one node."""

    def __init__(self, calls: Calls, node: str, deadline_s: float) -> None:
        self._calls, self._to, self._deadline_s = calls, calls.on("agent", node), deadline_s

    async def facts(self) -> NodeFacts:
        """The host."""
        return await self._call("facts", Empty(), NodeFacts)

    async def guests(self) -> Guests:
        """Its guests."""
        return await self._call("guests", Empty(), Guests)

    async def guest_xml(self, name: str) -> GuestXml:
        """A guest's migratable definition."""
        return await self._call("guest_xml", GuestName(name=name), GuestXml)

    async def create(self, request: CreateGuest, deadline_s: float) -> GuestInfo:
        """Define a guest."""
        return await self._calls.call(self._to, "create_guest", request, GuestInfo, deadline_s)

    async def act(self, action: str, name: str, grace_s: float) -> GuestInfo:
        """start, stop, pause, resume or delete a guest."""
        if action == "stop":
            request = StopGuest(name=name, grace_s=grace_s)
            return await self._calls.call(self._to, "stop_guest", request, GuestInfo, self._deadline_s + grace_s)
        return await self._call(f"{action}_guest", GuestName(name=name), GuestInfo)

    async def check_takeover(self, request: TakeOver) -> None:
        """Raises the reason when the node can't boot the guest."""
        await self._call("check_takeover", request, Empty)

    async def take_over(self, request: TakeOver, deadline_s: float) -> TakenOver:
        """Own a guest of a lost node, and boot it."""
        return await self._calls.call(self._to, "take_over", request, TakenOver, deadline_s)

    async def set_attributes(self, name: str, attributes: Attributes) -> GuestInfo:
        """Give a guest other attributes for placement."""
        return await self._call("set_attributes", SetAttributes(name=name, attributes=attributes), GuestInfo)

    async def check_incoming(self, guest: GuestXml) -> None:
        """Raises the reason when the guest may not come here."""
        await self._call("check_incoming", CheckIncoming(info=guest.info, xml=guest.xml), Empty)

    async def prepare_outgoing(self, request: PrepareOutgoing) -> JobPaths:
        """Freeze the guest."""
        return await self._call("prepare_outgoing", request, JobPaths)

    async def prepare_incoming(self, request: PrepareIncoming, deadline_s: float) -> JobPaths:
        """Reserve memory, make disks."""
        return await self._calls.call(self._to, "prepare_incoming", request, JobPaths, deadline_s)

    async def start_move(self, request: StartMove) -> None:
        """Begin libvirt's migration."""
        await self._call("start_move", request, Empty)

    async def steer_move(self, request: SteerMove) -> None:
        """Aim anew with the end of a move under way."""
        await self._call("steer_move", request, Empty)

    async def move_status(self, job: MoveJob) -> MoveStatus:
        """The move as this node's hypervisor has it."""
        return await self._call("move_status", job, MoveStatus)

    async def await_arrival(self, job: str, wait_s: float) -> bool:
        """Whether the job's guest executes there, asked for `wait_s` seconds."""
        request = AwaitArrival(job=job, wait_s=wait_s)
        found = await self._calls.call(self._to, "await_arrival", request, Arrival, self._deadline_s + wait_s)
        return found.executes

    async def abort_move(self, job: MoveJob) -> None:
        """Ask libvirt to give up the move; without one, nothing happens."""
        await self._call("abort_move", job, Empty)

    async def finish_move(self, request: FinishMove) -> None:
        """End the job on this node."""
        await self._call("finish_move", request, Empty)

    async def _call(self, method: str, request: msgspec.Struct, response: type[_Response]) -> _Response:
        return await self._calls.call(self._to, method, request, response, self._deadline_s)


class TransportOf:
    """The transport of one node."""

    def __init__(self, calls: Calls, node: str, deadline_s: float) -> None:
        self._calls, self._to, self._deadline_s = calls, calls.on("transport", node), deadline_s

    async def connect(self, peer: str, streams: int = 0) -> LinkState:
        """Have a live session and see how it stands; raises LinkDown with the reason when there can't be one."""
        return await self._call("connect", Connect(peer=peer, streams=streams), LinkState)

    async def forward(self, request: Forward) -> None:
        """Listen here for a channel to a peer's service."""
        await self._call("forward", request, Empty)

    async def expose(self, request: Expose) -> None:
        """Let one peer reach a socket here."""
        await self._call("expose", request, Empty)

    async def close(self, tag: str) -> None:
        """End all that carries the tag."""
        await self._call("close", Tag(tag=tag), Empty)

    async def steer(self, request: SteerLink) -> LinkState:
        """Force a link's mode, or cap it."""
        return await self._call("steer", request, LinkState)

    async def history(self, request: HistoryQuery) -> LinkPeriods:
        """What a link measured."""
        return await self._call("history", request, LinkPeriods)

    async def carried(self, job: str) -> Carried:
        """How much of a job's memory crossed the node's sockets."""
        return await self._call("carried", ServiceQuery(tag=job, service=f"ram:{job}"), Carried)

    async def raise_job(self, tag: str, *, raised: bool) -> None:
        """Let what this node sends for a job go before other jobs, while its guest stands still; or no longer."""
        await self._call("raise_job", RaiseJob(tag=tag, raised=raised), Empty)

    async def links(self, after: float) -> LinkStates:
        """The node's links, with samples newer than `after`."""
        return await self._call("links", LinksQuery(after=after), LinkStates)

    async def _call(self, method: str, request: msgspec.Struct, response: type[_Response]) -> _Response:
        return await self._calls.call(self._to, method, request, response, self._deadline_s)


class Codec:
    """The encoder or decoder of one node."""

    def __init__(self, calls: Calls, service: str, node: str, deadline_s: float) -> None:
        assert service in {"encoder", "decoder"}
        self._calls, self._to, self._deadline_s = calls, calls.on(service, node), deadline_s

    async def encode(self, request: OpenEncoder) -> None:
        """Get ready to encode one job's stream."""
        await self._calls.call(self._to, "open", request, Empty, self._deadline_s)

    async def decode(self, request: OpenDecoder) -> None:
        """Get ready to decode one job's stream."""
        await self._calls.call(self._to, "open", request, Empty, self._deadline_s)

    async def stats(self, job: str) -> CodecStats:
        """What it has done for the job."""
        return await self._calls.call(self._to, "stats", CodecJob(job=job), CodecStats, self._deadline_s)

    async def store(self, request: StoreChange) -> StoreState:
        """Look after the node's content store (the decoder does)."""
        return await self._calls.call(self._to, "store", request, StoreState, self._deadline_s)

    async def close(self, job: str) -> None:
        """Forget the job; without one, nothing happens."""
        await self._calls.call(self._to, "close", CodecJob(job=job), Empty, self._deadline_s)


class Remotes:
    """Makes the stubs.

    Args:
        calls: the way to other actors.
        deadline_s: of each call that names none itself.
    """

    def __init__(self, calls: Calls, deadline_s: float) -> None:
        self.calls = calls
        self.deadline_s = deadline_s

    def agent(self, node: str, deadline_s: float = 0.0) -> Agent:
        """The agent of `node`."""
        return Agent(self.calls, node, deadline_s or self.deadline_s)

    def transport(self, node: str, deadline_s: float = 0.0) -> TransportOf:
        """The transport of `node`."""
        return TransportOf(self.calls, node, deadline_s or self.deadline_s)

    def encoder(self, node: str) -> Codec:
        """The encoder of `node`."""
        return Codec(self.calls, "encoder", node, self.deadline_s)

    def decoder(self, node: str) -> Codec:
        """The decoder of `node`."""
        return Codec(self.calls, "decoder", node, self.deadline_s)

    async def place(self, request: Place) -> Placed:
        """Ask the placement policy."""
        return await self.calls.call(self.calls.central("placement"), "place", request, Placed, self.deadline_s)

    async def plan_moves(self, request: PlanMoves) -> MovePlan:
        """Ask the placement policy for a plan."""
        return await self.calls.call(self.calls.central("placement"), "plan_moves", request, MovePlan, self.deadline_s)

    async def forecast(self, node: str, peer: str, horizon_s: float) -> Forecast:
        """Ask the predictor."""
        query = ForecastQuery(node=node, peer=peer, horizon_s=horizon_s)
        return await self.calls.call(self.calls.central("predictor"), "forecast", query, Forecast, self.deadline_s)

    async def outlook(self, node: str, peer: str, ahead_s: float) -> Outlook:
        """The forecasts that a move goes by; without them where the predictor is away: it costs its advice, no move."""
        try:
            later = await self.forecast(node, peer, ahead_s)
            return Outlook(soon=await self.forecast(node, peer, SOON_S), later=later)
        except NovaCronError:
            return Outlook()

    async def observe(self, request: Observe) -> None:
        """Feed the predictor."""
        await self.calls.call(self.calls.central("predictor"), "observe", request, Empty, self.deadline_s)

    async def manager(
        self, site: str, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float = 0.0
    ) -> _Response:
        """Ask the manager of another site."""
        to = self.calls.central("manager", site)
        return await self.calls.call(to, method, request, response, deadline_s or self.deadline_s)


async def at_once(*steps: Awaitable[None]) -> None:
    """Do every step at the same time and wait for each, also when one fails; then raise the first of their errors."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def all_of(*steps: Awaitable[None]) -> None:
    """Do every step, one after another, also when one fails; then raise the first error."""
    first: NovaCronError | None = None
    for step in steps:
        try:
            await step
        except NovaCronError as error:
            first = first or error
    if first is not None:
        raise first
