"""Two sites in memory: real managers, predictors and placement policies, simulated agents, codecs and transports."""

import asyncio
from pathlib import Path

import msgspec

from actors.calls.messages import Address, Caller, Empty, Reply
from actors.calls.service import Service, exposed
from actors.config.schema import Config, Topology
from actors.control.commands import DefineGuest, FailOver, StartGuest
from actors.control.model import Run
from actors.encoding.messages import CodecStats, LayerCount, OpenDecoder, OpenEncoder, StoreChange, StoreState
from actors.encoding.messages import Job as CodecJob
from actors.errors import (
    ActorDown,
    DeadlineExceeded,
    GuestExists,
    HypervisorDown,
    Incompatible,
    LinkDown,
    NodeUnknown,
    NoRoom,
    NoTakeover,
    error_from,
)
from actors.hypervisor.arrivals import Arrivals
from actors.hypervisor.messages import (
    Aim,
    Arrival,
    AwaitArrival,
    CheckIncoming,
    CreateGuest,
    DiskSpec,
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
from actors.migration.actor import MigrationManager
from actors.placement.actor import PlacementPolicy
from actors.prediction.actor import BandwidthPredictor
from actors.transport.messages import (
    Carried,
    Connect,
    Expose,
    Forward,
    LinkSample,
    LinksQuery,
    LinkState,
    LinkStates,
    RaiseJob,
    ServiceQuery,
    Tag,
)
from tests.kits.agreed import Agreed

TOPOLOGY = {
    "sites": [
        {"name": "left", "nodes": [{"name": "a1", "address": "10.0.0.1"}, {"name": "a2", "address": "10.0.0.2"}]},
        {"name": "right", "nodes": [{"name": "b1", "address": "10.0.1.1"}]},
        # Nothing but the member runs there, so nobody is to be asked for anything.
        {"name": "voice", "witness": True, "nodes": [{"name": "w1", "address": "10.0.2.1"}]},
    ]
}


DEFINITION = """<domain type="kvm"><name>web</name><uuid>8a1bb3c8-7c4b-4be5-9d3a-0b1c2d3e4f50</uuid>
<memory unit="MiB">1024</memory><vcpu>1</vcpu><os><type arch="x86_64" machine="q35">hvm</type></os></domain>"""


class Adopting(Agreed):
    """The control state, in which every guest is known that an agent has; its agents would have told of them."""

    def __init__(self, agents: dict[str, "FakeAgent"]) -> None:
        super().__init__("a1", "a2", "b1")
        self._agents = agents
        for node in ("a1", "a2", "b1"):
            self.lease_for(node)

    async def guest(self, name, *, deadline_s=15.0):
        if name not in self.state.guests:
            for node, agent in self._agents.items():
                if name in agent.guests_here:
                    self.must(DefineGuest(guest=name, definition=DEFINITION), f"node:{node}")
                    self.must(StartGuest(guest=name, node=node, epoch=0), f"node:{node}")
        return await super().guest(name, deadline_s=deadline_s)


def _site_of(node: str) -> str:
    site = Topology.model_validate(TOPOLOGY).site_of(node)
    assert site is not None
    return site.name


class World:
    """Every node's actors by (service, node), which of them and which links are down, and every call in order."""

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], Service] = {}
        self.down: set[tuple[str, str]] = set()
        self.cut: set[str] = set()
        self.hang: set[tuple[str, str]] = set()
        self.log: list[tuple[str, str, str]] = []
        self.agents: dict[str, FakeAgent] = {}
        self.states = Adopting(self.agents)

    def methods(self, service: str, node: str) -> list[str]:
        return [method for where, at, method in self.log if (where, at) == (service, node)]


class Calls:
    """A directory over the world: encodes, routes by site, keeps deadlines."""

    def __init__(self, node: str, world: World) -> None:
        self.topology = Topology.model_validate(TOPOLOGY)
        self.node = node
        self.site = self.topology.site_of(node).name
        self._world = world

    def on(self, service: str, node: str) -> Address:
        if self.topology.member(node) is None:
            raise NodeUnknown(node=node)
        return Address(service=service, node=node)

    def central(self, service: str, site: str = "") -> Address:
        return Address(service=service, node=self.topology.lead_of(site or self.site), site=site or self.site)

    async def call(self, to, method, request, response, deadline_s):
        world = self._world
        there = self.topology.site_of(to.node).name
        caller = Caller(node=self.node, site=self.site, same_site=there == self.site)
        if not caller.same_site and {there, self.site} & world.cut:
            raise LinkDown(node=self.node, peer=to.node, reason="no route")
        if (to.service, to.node) in world.down or (to.service, to.node) not in world.services:
            raise ActorDown(service=str(to), reason="died")
        world.log.append((to.service, to.node, method))
        try:
            async with asyncio.timeout(deadline_s):
                if (to.service, method) in world.hang:
                    await asyncio.Event().wait()
                body = msgspec.msgpack.encode(request)
                raw = await world.services[to.service, to.node].serve(caller, method, body)
        except TimeoutError as error:
            raise DeadlineExceeded(what=f"{to}.{method}", deadline_s=deadline_s) from error
        reply = msgspec.msgpack.decode(raw, type=Reply)
        if reply.error:
            raise error_from(reply.error, reply.fields)
        return msgspec.msgpack.decode(reply.body, type=response)


class FakeAgent(Service):
    """A node's guests and moves. A move advances one step whenever the source is asked for its status."""

    def __init__(self, node: str, site: str, world: World) -> None:
        self.node, self.site, self.world = node, site, world
        self.free_mib = 8192
        self.guests_here: dict[str, GuestInfo] = {}
        self.moves: dict[str, MoveStatus] = {}
        self.prepared: dict[str, str] = {}
        self.ended: set[str] = set()
        self.peers: dict[str, str] = {}
        self.aims: list[Aim] = []
        self.paths: list[str] = []
        self.qemu_version = "10.0.2"
        self.arrival = MoveStatus(outcome="succeeded", guest_state="running", resumed_at=1000.15)
        self.arrivals = Arrivals()
        self.hold = False
        self.fail: str = ""

    def put(self, name: str, state: str = "running", **more) -> None:
        self.guests_here[name] = GuestInfo(
            name=name, uuid=name, node=self.node, site=self.site, state=state, memory_mib=1024, vcpus=1, **more
        )

    def state(self, name: str) -> str:
        return self.guests_here[name].state if name in self.guests_here else "absent"

    @exposed()
    async def facts(self, caller: Caller, request: Empty) -> NodeFacts:
        return NodeFacts(
            node=self.node,
            site=self.site,
            state="up",
            address="10.0.0.9",
            cpus=4,
            cpu_model="x",
            arch="x86_64",
            memory_mib=16384,
            free_mib=self.free_mib,
            guests=len(self.guests_here),
            machine_types=["q35"],
            qemu_version=self.qemu_version,
        )

    @exposed()
    async def guests(self, caller: Caller, request: Empty) -> Guests:
        return Guests(guests=list(self.guests_here.values()))

    @exposed()
    async def guest_xml(self, caller: Caller, request: GuestName) -> GuestXml:
        return GuestXml(info=self.guests_here[request.name], xml="<domain/>")

    @exposed()
    async def create_guest(self, caller: Caller, request: CreateGuest) -> GuestInfo:
        self.put(request.spec.name, "running" if request.start else "shut-off", attributes=request.spec.attributes)
        return self.guests_here[request.spec.name]

    @exposed()
    async def pause_guest(self, caller: Caller, request: GuestName) -> GuestInfo:
        self.put(request.name, "paused")
        return self.guests_here[request.name]

    @exposed()
    async def set_attributes(self, caller: Caller, request: SetAttributes) -> GuestInfo:
        was = self.guests_here[request.name]
        self.guests_here[request.name] = msgspec.structs.replace(was, attributes=request.attributes)
        return self.guests_here[request.name]

    @exposed()
    async def delete_guest(self, caller: Caller, request: GuestName) -> GuestInfo:
        return self.guests_here.pop(request.name)

    @exposed()
    async def stop_guest(self, caller: Caller, request: StopGuest) -> GuestInfo:
        self.put(request.name, "shut-off")
        return self.guests_here[request.name]

    @exposed()
    async def check_takeover(self, caller: Caller, request: TakeOver) -> Empty:
        if self.fail == "check_takeover":
            raise NoTakeover(node=self.node, guest=request.guest, reason="a disk is missing")
        return Empty()

    @exposed()
    async def take_over(self, caller: Caller, request: TakeOver) -> TakenOver:
        record = await self.world.states.guest(request.guest)
        if record.run is Run.STOPPED:
            order = StartGuest(guest=record.name, node=self.node, epoch=record.epoch)
        else:
            order = FailOver(guest=record.name, to=self.node, epoch=record.epoch, reason=request.reason)
        detail = (await self.world.states.submit(order, by=request.by)).detail
        self.put(request.guest)
        return TakenOver(guest=self.guests_here[request.guest], detail=detail)

    @exposed()
    async def check_incoming(self, caller: Caller, request: CheckIncoming) -> Empty:
        if request.info.name in self.guests_here:
            raise GuestExists(node=self.node, guest=request.info.name)
        if self.fail == "check_incoming":
            raise Incompatible(node=self.node, guest=request.info.name, reason="disk vda: /images/vda is not there")
        if self.free_mib < request.info.memory_mib:
            raise NoRoom(
                node=self.node,
                guest=request.info.name,
                needs_mib=request.info.memory_mib,
                free_mib=self.free_mib,
                resource="memory",
            )
        return Empty()

    @exposed()
    async def prepare_outgoing(self, caller: Caller, request: PrepareOutgoing) -> JobPaths:
        self.prepared[request.job] = request.guest
        self.peers[request.job] = request.target
        return self._paths(request.job)

    @exposed()
    async def prepare_incoming(self, caller: Caller, request: PrepareIncoming) -> JobPaths:
        self._fail("prepare_incoming")
        self.prepared[request.job] = request.info.name
        return self._paths(request.job)

    @exposed()
    async def start_move(self, caller: Caller, request: StartMove) -> Empty:
        self._fail("start_move")
        self.aims.append(request.aim)
        self.paths.append(request.path)
        self.moves[request.job] = MoveStatus(
            outcome="running", guest_state="running", memory_total=1000, memory_remaining=1000
        )
        self._other(request.job).put(request.guest, "incoming")
        return Empty()

    @exposed()
    async def steer_move(self, caller: Caller, request: SteerMove) -> Empty:
        self.aims.append(request.aim)
        return Empty()

    @exposed()
    async def move_status(self, caller: Caller, request: MoveJob) -> MoveStatus:
        if not self.hold and request.job in self.moves:
            self._advance(request)
        move = self.moves.get(request.job, MoveStatus(outcome="none", guest_state=""))
        return msgspec.structs.replace(move, guest_state=self.state(request.guest))

    @exposed()
    async def await_arrival(self, caller: Caller, request: AwaitArrival) -> Arrival:
        def executes() -> bool:
            return request.job in self.moves and self.moves[request.job].resumed_at > 0

        return Arrival(executes=await self.arrivals.wait(request.job, executes, request.wait_s))

    @exposed()
    async def abort_move(self, caller: Caller, request: MoveJob) -> Empty:
        if request.job in self.moves and self.moves[request.job].outcome == "running":
            self._break(request, "aborted")
        return Empty()

    @exposed()
    async def finish_move(self, caller: Caller, request: FinishMove) -> Empty:
        self.prepared.pop(request.job, None)
        self.ended.add(request.job)
        if request.roll_back and self.state(request.guest) == "incoming":
            del self.guests_here[request.guest]
        if request.roll_back and request.resume and self.state(request.guest) == "paused":
            self.put(request.guest)
        return Empty()

    def _advance(self, request: MoveJob) -> None:
        move = self.moves[request.job]
        if move.outcome != "running":
            return
        if self.fail == "move":
            self._break(request, "no space left on device")
        elif not move.stopped_at:
            self.put(request.guest, "paused")
            self.moves[request.job] = msgspec.structs.replace(move, stopped_at=1000.0, memory_remaining=10)
        elif self._other(request.job).state(request.guest) == "incoming":
            other = self._other(request.job)
            other.put(request.guest)
            other.moves[request.job] = other.arrival
        elif self.fail == "confirm":
            self.moves[request.job] = msgspec.structs.replace(move, outcome="failed", reason="libvirtd was killed")
        else:
            del self.guests_here[request.guest]
            self.moves[request.job] = msgspec.structs.replace(move, outcome="succeeded", memory_remaining=0)

    def _break(self, request: MoveJob, reason: str) -> None:
        self.put(request.guest)
        self._other(request.job).guests_here.pop(request.guest, None)
        self.moves[request.job] = msgspec.structs.replace(
            self.moves[request.job], outcome="failed", reason=reason, libvirt_code=9
        )

    def _other(self, job: str) -> "FakeAgent":
        return self.world.agents[self.peers[job]]

    def _fail(self, where: str) -> None:
        if self.fail == where:
            raise HypervisorDown(node=self.node, reason="it broke")

    def _paths(self, job: str) -> JobPaths:
        base = f"/run/{self.node}/{job}"
        return JobPaths(
            directory=base,
            ram=f"{base}/ram",
            wire=f"{base}/wire",
            libvirt=f"{base}/libvirt",
            nbd=f"{base}/nbd",
            nbd_wire=f"{base}/nbd-wire",
            libvirtd=f"/run/{self.node}/libvirtd",
        )


class FakeTransport(Service):
    """Remembers what is open, by tag."""

    def __init__(self, node: str, world: World) -> None:
        self.node, self.world = node, world
        self.open: dict[str, list[Forward | Expose]] = {}
        self.samples: list[LinkSample] = []
        self.streams = 0
        self.raised: set[str] = set()
        self.mode, self.forced = "hybrid", False
        self.crossed: dict[str, Carried] = {}

    @exposed()
    async def connect(self, caller: Caller, request: Connect) -> LinkState:
        sites = {_site_of(self.node), _site_of(request.peer)}
        if len(sites) > 1 and sites & self.world.cut:
            raise LinkDown(node=self.node, peer=request.peer, reason="no route")
        self.streams = request.streams or self.streams
        return self._link(request.peer)

    @exposed()
    async def forward(self, caller: Caller, request: Forward) -> Empty:
        self.open.setdefault(request.tag, []).append(request)
        return Empty()

    @exposed()
    async def expose(self, caller: Caller, request: Expose) -> Empty:
        self.open.setdefault(request.tag, []).append(request)
        return Empty()

    @exposed()
    async def close(self, caller: Caller, request: Tag) -> Empty:
        self.open.pop(request.tag, None)
        return Empty()

    @exposed()
    async def carried(self, caller: Caller, request: ServiceQuery) -> Carried:
        return self.crossed.get(request.service, Carried())

    @exposed()
    async def raise_job(self, caller: Caller, request: RaiseJob) -> Empty:
        (self.raised.add if request.raised else self.raised.discard)(request.tag)
        return Empty()

    @exposed()
    async def links(self, caller: Caller, request: LinksQuery) -> LinkStates:
        return LinkStates(links=[self._link("b1" if self.node != "b1" else "a1", request.after)])

    def _link(self, peer: str, after: float = 0.0) -> LinkState:
        samples = [sample for sample in self.samples if sample.at > after]
        return LinkState(
            node=self.node,
            peer=peer,
            site="",
            peer_site="",
            state="up",
            streams=4,
            resent_bytes=0,
            reconnects=0,
            refused_peers=0,
            samples=samples,
            mode=self.mode,
            mode_forced=self.forced,
        )


class FakeCodec(Service):
    """Encoder or decoder: open jobs and made-up figures."""

    def __init__(self) -> None:
        self.jobs: dict[str, OpenEncoder | OpenDecoder] = {}
        self.state, self.reason = "running", ""
        self.times = (0.0, 0.0)

    @exposed()
    async def close(self, caller: Caller, request: CodecJob) -> Empty:
        self.jobs.pop(request.job, None)
        return Empty()

    @exposed()
    async def stats(self, caller: Caller, request: CodecJob) -> CodecStats:
        layers = {"zero": LayerCount(pages=100), "zstd": LayerCount(pages=50)}
        return CodecStats(
            job=request.job,
            state=self.state,
            reason=self.reason,
            stream_bytes=2000,
            wire_bytes=500,
            layers=layers,
            pages_at=self.times[0],
            last_at=self.times[1],
        )


class FakeEncoder(FakeCodec):
    @exposed()
    async def open(self, caller: Caller, request: OpenEncoder) -> Empty:
        self.jobs[request.job] = request
        return Empty()


class FakeDecoder(FakeCodec):
    def __init__(self, node: str = "") -> None:
        super().__init__()
        self.node = node

    @exposed()
    async def store(self, caller: Caller, request: StoreChange) -> StoreState:
        return StoreState(node=self.node, capacity=1000, blocks=17)

    @exposed()
    async def open(self, caller: Caller, request: OpenDecoder) -> Empty:
        self.jobs[request.job] = request
        return Empty()


def config(node: str, state_dir: Path) -> Config:
    return Config.model_validate(
        {
            "node": {"name": node, "state_dir": str(state_dir / node)},
            "topology": TOPOLOGY,
            "migration": {"call_s": 2.0, "rollback_s": 3.0},
        }
    )


class TwoSites:
    """The whole cluster. `left` and `right` are the managers' ends as the API of each site uses them."""

    def __init__(self, state_dir: Path) -> None:
        self.world = World()
        self._state_dir = state_dir
        for site in TOPOLOGY["sites"]:
            if site.get("witness"):
                continue
            for node in [member["name"] for member in site["nodes"]]:
                agent = FakeAgent(node, site["name"], self.world)
                self.world.agents[node] = agent
                self.world.services |= {
                    ("agent", node): agent,
                    ("transport", node): FakeTransport(node, self.world),
                    ("encoder", node): FakeEncoder(),
                    ("decoder", node): FakeDecoder(node),
                }
        for lead in ("a1", "b1"):
            settings = config(lead, state_dir)
            self.world.services["predictor", lead] = BandwidthPredictor(settings)
            self.world.services["placement", lead] = PlacementPolicy(settings)
            self.start_manager(lead)

    def start_manager(self, lead: str) -> None:
        calls = Calls(lead, self.world)
        self.world.services["manager", lead] = MigrationManager(config(lead, self._state_dir), calls, self.world.states)

    def agent(self, node: str) -> FakeAgent:
        return self.world.agents[node]

    def service(self, kind: str, node: str):
        return self.world.services[kind, node]

    async def ask(self, method: str, request, response, lead: str = "a1"):
        """As the API on node `lead` asks its manager."""
        calls = Calls(lead, self.world)
        return await calls.call(calls.central("manager"), method, request, response, 30.0)

    async def kill_manager(self, lead: str = "a1") -> None:
        """End the manager where it is and start another on the same journal, as Ray does."""
        await self.world.services["manager", lead].close()
        self.start_manager(lead)

    async def close(self) -> None:
        for lead in ("a1", "b1"):
            await self.world.services["manager", lead].close()


def disk(target: str, *, moves: bool) -> DiskSpec:
    return DiskSpec(target=target, path=f"/images/{target}", format="raw", moves=moves)
