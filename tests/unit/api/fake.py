"""A site's manager in memory: the rules that the API can see, none of the work."""

import asyncio
import itertools
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import asdict

from actors.boot.component import Phase
from actors.boot.status import BootStatus, ComponentStatus, State
from actors.control.commands import DrainNode, Override, SetFlag
from actors.control.messages import ClusterView, MemberView, Outcome, TrailEntry, TrailPage, TrailQuery, Watched
from actors.control.model import Flag
from actors.encoding.messages import LayerCount, StoreImage, StoreState
from actors.errors import (
    GuestExists,
    GuestNotRunning,
    GuestRunning,
    GuestUnknown,
    JobUnknown,
    NodeUnknown,
    NotFound,
    NovaCronError,
    PastNoReturn,
    SameNode,
    StateRefused,
    TooLate,
)
from actors.flags.messages import KnownFlags
from actors.hypervisor.messages import GuestInfo, Guests, NodeFacts, TakenOver
from actors.migration.messages import (
    CreateGuestAnywhere,
    EventsQuery,
    FailOverGuest,
    ForecastView,
    GuestAction,
    GuestQuery,
    JobEvent,
    JobEvents,
    JobId,
    Jobs,
    JobView,
    LabelGuest,
    Links,
    LinkView,
    MoveRequest,
    NodeLinkHistory,
    PauseChange,
    Progress,
    Sites,
    SiteView,
    SteerNodeLink,
    StoreQuery,
    SweepId,
    SweepMove,
    SweepRequest,
    Sweeps,
    SweepView,
)
from actors.migration.pause import Pause
from actors.placement.messages import PlannedMove, Standing, Staying
from actors.prediction.messages import Accuracies, Accuracy, Recorded, RecordedQuery, RecordedSamples
from actors.sync.messages import Fact, FactList, FactsQuery, PeerState, PutFact, ReplicaState
from actors.sync.records import LinkFact
from actors.transport.messages import LinkPeriod, LinkPeriods, LinkSample, LinkState

TOKEN = "a-token-for-tests"
RISK = "It is not proven that paris1 stopped running: web1. Each may then run twice and damage its disks."
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def component(name: str, phase: Phase = "core", state: State = "up", reason: str = "") -> ComponentStatus:
    """One component of the boot sequence."""
    return ComponentStatus(name=name, phase=phase, criticality="critical", state=state, reason=reason, took_s=0.5)


def boot() -> BootStatus:
    """A node that is ready."""
    return BootStatus(
        phase="ready", ready=True, elapsed_s=1.5, sequential_s=2.0, components=[component("transport")]
    )  # fmt: skip


def node(name: str, site: str) -> NodeFacts:
    """A host that is up."""
    return NodeFacts(
        node=name, site=site, state="up", address="10.0.0.1", cpus=2, cpu_model="qemu64", arch="x86_64",
        memory_mib=4096, free_mib=2048, guests=0, machine_types=["pc-q35-10.0"],
    )  # fmt: skip


def guest(name: str, on: str = "madrid1", site: str = "madrid", state: str = "running") -> GuestInfo:
    """A guest that runs."""
    return GuestInfo(name=name, uuid=f"uuid-of-{name}", node=on, site=site, state=state, memory_mib=512, vcpus=1)


SAMPLE = LinkSample(
    at=1.0, rtt_ms=50.5, jitter_ms=0.5, sent_bytes=100, acked_bytes=90, busy_share=1.0, retransmits=0
)  # fmt: skip
LINK = LinkView(
    link=LinkState(
        node="madrid1", peer="paris1", site="madrid", peer_site="paris", state="up", streams=4,
        resent_bytes=7, reconnects=1, refused_peers=2, samples=[SAMPLE],
    ),
    forecast=ForecastView(mean=1.2e7, low=1.0e7, high=1.3e7, horizon_s=30.0, method="ewma", samples=60),
)  # fmt: skip

LINK_FACT = LinkFact(
    node="paris1", peer="madrid1", site="paris", peer_site="madrid", state="up", mode="internet", streams=4, rtt_ms=50.5
)  # fmt: skip


def _control() -> ClusterView:
    lead, other = (
        MemberView(number=number, node=f"{site}1", site=site, role="host", leads=number == 1, lag=lag, match=9 - lag)
        for number, site, lag in ((1, "madrid", 0), (2, "paris", 2))
    )
    indices = {
        "term": 3,
        "last": 9,
        "commit": 8,
        "applied": 8,
        "revision": 7,
        "version": 1,
        "lineage": 0,
        "snapshot": 1,
    }
    protocol = {"mode": "raft", "configured": "adaptive", "part": 0}
    return ClusterView(node="madrid1", leader="madrid1", settled=True, members=[lead, other], **protocol, **indices)


def _trail() -> list[TrailEntry]:
    done = [("joinnode", "madrid1"), ("joinnode", "paris1"), ("startguest", "web1"), ("override", "")]
    return [
        TrailEntry(
            number=number, revision=number + 4, at_ms=1_700_000_000_000, by="operator:api", command=command,
            subject=subject, detail="", body={"node": "madrid1"}, link="ab" * 32,
        )
        for number, (command, subject) in enumerate(done, 1)
    ]  # fmt: skip


def planned_sweep(request: SweepRequest) -> SweepView:
    """One move and one guest that stays."""
    move = PlannedMove(
        guest="web1", source="madrid1", target="paris1", reason="it has to go", without="madrid1 keeps it",
        gain_usd=0.5, cost_usd=0.1, expected_s=12.0, expected_bytes=4e7, expected_pause_ms=280.0,
    )  # fmt: skip
    stay = Staying(guest="db1", node="madrid1", rule="sovereignty", reason="allowed sites are madrid")
    standing = Standing(fragmentation_8=0.2, fragmentation_16=0.4, split_pairs=0.0, near_pairs=1.0, hot_nodes=0)
    return SweepView(
        id="s-1", kind="drain" if request.node else "rebalance", node=request.node,
        state="planned" if request.dry_run else "running", created_at=100.0, moves=[SweepMove(plan=move)],
        stays=[stay] if request.node else [], before=standing, after=standing,
    )  # fmt: skip


@dataclass
class FakeBackend:
    """See `api.backend.Backend`. `broken` is raised by every call while it is set."""

    site_list: list[SiteView] = field(
        default_factory=lambda: [
            SiteView(name="madrid", state="up", nodes=[node("madrid1", "madrid")]),
            SiteView(name="paris", state="up", nodes=[node("paris1", "paris")]),
        ]
    )
    control: ClusterView = field(default_factory=_control)
    guest_list: dict[str, GuestInfo] = field(default_factory=lambda: {"web1": guest("web1")})
    job_list: dict[str, JobView] = field(default_factory=dict)
    happened: dict[str, list[JobEvent]] = field(default_factory=dict)
    images: dict[str, dict[str, StoreImage]] = field(default_factory=dict)
    sweep_list: dict[str, SweepView] = field(default_factory=dict)
    flag_list: dict[str, Flag] = field(default_factory=dict)
    agreed: bool = True
    trail: list[TrailEntry] = field(default_factory=_trail)
    trail_missing: int = 0
    trail_fault: int = 0
    hints: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    requests: list[msgspec.Struct] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    broken: NovaCronError | None = None
    lost: bool = False
    outages: list[NovaCronError] = field(default_factory=list)
    batch: int = 2
    finishes: bool = True
    leased: bool = True
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def _seen(self, request: msgspec.Struct | None = None) -> None:
        if request is not None:
            self.requests.append(request)
        if self.broken is not None:
            raise self.broken

    async def sites(self) -> Sites:
        self._seen()
        return Sites(sites=self.site_list)

    async def cluster(self) -> ClusterView:
        self._seen()
        return self.control

    async def add_member(self, node: str) -> Outcome:
        self._seen()
        number = max(one.number for one in self.control.members) + 1
        if any(one.node == node for one in self.control.members):
            raise StateRefused(refusal="already", detail=f"{node} is a member already")
        member = MemberView(number=number, node=node, site="paris", role="host", leads=False)
        self.control = msgspec.structs.replace(self.control, members=[*self.control.members, member])
        return Outcome(index=13, number=number, detail=f"{node} becomes member {number}")

    async def remove_member(self, node: str, *, lost: bool) -> Outcome:
        self._seen()
        self.lost = lost
        kept = [one for one in self.control.members if one.node != node]
        if len(kept) == len(self.control.members):
            raise NotFound(what=f"member of the control state on {node}")
        if not kept:
            raise StateRefused(refusal="last-member", detail=f"{node} is the only member: add another one first")
        number = next(one.number for one in self.control.members if one.node == node)
        self.control = msgspec.structs.replace(self.control, members=kept)
        return Outcome(index=14, number=number, detail=f"member {number}, {node}, is taken out for good")

    async def decree(self, request: Override) -> Outcome:
        self._seen(request)
        if request.risk != RISK:
            raise StateRefused(refusal="risk-changed", detail=RISK)
        return Outcome(index=12, detail=f"{RISK} {request.reason}")

    async def audit(self, request: TrailQuery) -> TrailPage:
        self._seen(request)
        shown = [
            entry for entry in self.trail
            if entry.number > request.after and entry.revision > request.since
            and (not request.guest or entry.subject == request.guest)
        ][: min(self.batch, request.limit)]  # fmt: skip
        upto = shown[-1].number if shown else max(request.after, len(self.trail))
        return TrailPage(
            entries=shown, count=len(self.trail), upto=upto, missing=self.trail_missing, fault=self.trail_fault
        )

    async def watch(self, after: int, wait_s: float) -> Watched:
        self._seen()
        return Watched(events=[], revision=after)

    async def guests(self) -> Guests:
        self._seen()
        return Guests(guests=list(self.guest_list.values()), silent=self.silent)

    def _guest(self, name: str) -> GuestInfo:
        if name not in self.guest_list:
            raise GuestUnknown(guest=name)
        return self.guest_list[name]

    def _nodes(self) -> dict[str, NodeFacts]:
        return {node.node: node for site in self.site_list for node in site.nodes}

    async def guest(self, request: GuestQuery) -> GuestInfo:
        self._seen(request)
        return self._guest(request.name)

    async def create_guest(self, request: CreateGuestAnywhere) -> GuestInfo:
        self._seen(request)
        on = self._nodes().get(request.node or "madrid1")
        if on is None:
            raise NodeUnknown(node=request.node)
        if request.spec.name in self.guest_list:
            raise GuestExists(node=on.node, guest=request.spec.name)
        made = guest(request.spec.name, on.node, on.site, "running" if request.start else "shut-off")
        self.guest_list[made.name] = made
        return made

    async def guest_action(self, request: GuestAction) -> GuestInfo:
        self._seen(request)
        was = self._guest(request.name)
        if request.action in ("start", "delete") and was.state == "running":
            raise GuestRunning(guest=was.name)
        if request.action in ("stop", "pause") and was.state != "running":
            raise GuestNotRunning(guest=was.name, state=was.state)
        states = {"start": "running", "stop": "shut-off", "pause": "paused", "resume": "running"}
        if request.action == "delete":
            return self.guest_list.pop(was.name)
        self.guest_list[was.name] = msgspec.structs.replace(was, state=states[request.action])
        return self.guest_list[was.name]

    async def fail_over(self, request: FailOverGuest) -> TakenOver:
        self._seen(request)
        was = self._guest(request.guest)
        to = request.to or "paris1"
        if to not in self._nodes():
            raise NodeUnknown(node=to)
        if to == was.node:
            raise SameNode(guest=was.name, node=to)
        if self.leased and not request.override:
            raise StateRefused(refusal="lease-held", detail=f"{was.node} may still run {was.name}")
        if self.leased and request.risk != RISK:
            raise StateRefused(refusal="risk-changed", detail=RISK)
        self.guest_list[was.name] = guest(was.name, to, "paris")
        return TakenOver(guest=self.guest_list[was.name], detail="web1 boots from its disks.")

    async def drain_node(self, request: DrainNode) -> None:
        self._seen(request)
        if request.node not in self._nodes():
            raise NodeUnknown(node=request.node)

    async def sweep(self, request: SweepRequest) -> SweepView:
        self._seen(request)
        if request.node and request.node not in self._nodes():
            raise NodeUnknown(node=request.node)
        made = planned_sweep(request)
        if not request.dry_run:
            self.sweep_list[made.id] = made
        return made

    async def sweeps(self) -> Sweeps:
        self._seen()
        return Sweeps(sweeps=list(self.sweep_list.values()))

    async def sweep_view(self, request: SweepId) -> SweepView:
        self._seen(request)
        if request.id not in self.sweep_list:
            raise NotFound(what=f"drain or rebalancing {request.id} here")
        shown = self.sweep_list[request.id]
        moves = [msgspec.structs.replace(move, state="completed", job="m-1") for move in shown.moves]
        ended = msgspec.structs.replace(shown, state="completed", moves=moves, ended_at=120.0)
        self.sweep_list[request.id] = ended
        return shown if shown.state == "completed" else ended

    async def cancel_sweep(self, request: SweepId) -> SweepView:
        return await self.sweep_view(request)

    async def label_guest(self, request: LabelGuest) -> GuestInfo:
        self._seen(request)
        was = self._guest(request.name)
        changed = {kind: value for kind, value in asdict(request).items() if kind != "name" and value is not None}
        attributes = msgspec.structs.replace(was.attributes, **changed)
        self.guest_list[was.name] = msgspec.structs.replace(was, attributes=attributes)
        return self.guest_list[was.name]

    async def submit(self, request: MoveRequest) -> JobView:
        self._seen(request)
        if request.key in self.keys:
            return self.job_list[self.keys[request.key]]
        moved = self._guest(request.guest)
        target = self._nodes().get(request.to or "paris1")
        if target is None:
            raise NodeUnknown(node=request.to)
        if target.node == moved.node:
            raise SameNode(guest=moved.name, node=moved.node)
        job = JobView(
            id=f"job-{next(self.numbers)}", guest=moved.name, source=moved.node, target=target.node, state="begin",
            created_at=100.0, owner=moved.node,
        )  # fmt: skip
        self.job_list[job.id] = job
        self.happened[job.id] = [JobEvent(seq=1, at=100.0, kind="state", job=job)]
        if request.key:
            self.keys[request.key] = job.id
        if self.finishes:
            self.go(job.id, kind="progress", state="perform", progress=self.half())
            self.go(
                job.id, state="completed", owner=job.target, ended_at=109.0, total_s=9.0, pause_ms=42.0,
                pause=Pause(
                    total_ms=42.0, predicted_ms=50.0, last_pages_ms=2.0, device_state_ms=10.0, round_trips_ms=20.0,
                    resume_ms=10.0,
                ),
                progress=msgspec.structs.replace(self.half(), memory_remaining=0, wire_bytes=40 << 20),
            )  # fmt: skip
        return job

    @staticmethod
    def half() -> Progress:
        """Half way."""
        return Progress(
            stream_bytes=256 << 20, wire_bytes=20 << 20, memory_total=512 << 20, memory_remaining=256 << 20,
            rate_bytes_per_s=1.2e7, round=1, eta_s=4.0, eta_low_s=3.0, eta_high_s=6.5,
            layers={"zstd": LayerCount(pages=5000, bytes_in=20_480_000, bytes_out=6_000_000, cpu_s=0.5)},
        )  # fmt: skip

    def go(self, job: str, kind: str = "state", **changes: object) -> None:
        """Something happens to `job`."""
        self.job_list[job] = msgspec.structs.replace(self.job_list[job], **changes)
        events = self.happened[job]
        events.append(JobEvent(seq=events[-1].seq + 1, at=100.0 + len(events), kind=kind, job=self.job_list[job]))

    async def announce(self) -> None:
        """Wake whoever waits for events."""
        async with self.news:
            self.news.notify_all()

    async def jobs(self) -> Jobs:
        self._seen()
        return Jobs(jobs=list(reversed(self.job_list.values())))

    async def job(self, request: JobId) -> JobView:
        self._seen(request)
        if request.id not in self.job_list:
            raise JobUnknown(job=request.id)
        return self.job_list[request.id]

    async def events(self, request: EventsQuery) -> JobEvents:
        self._seen(request)
        if self.outages:
            raise self.outages.pop(0)
        job = await self.job(JobId(id=request.job))
        if not self._after(request) and not job.ended_at:
            async with self.news:
                try:
                    async with asyncio.timeout(request.wait_s):
                        await self.news.wait_for(lambda: self._after(request))
                except TimeoutError:
                    return JobEvents(events=[], final=False)
        events = self._after(request)
        ended = bool(self.job_list[request.job].ended_at)
        return JobEvents(events=events[: self.batch], final=ended and len(events) <= self.batch)

    def _after(self, request: EventsQuery) -> list[JobEvent]:
        return [event for event in self.happened[request.job] if event.seq > request.after]

    async def cancel(self, request: JobId) -> JobView:
        self._seen(request)
        job = await self.job(request)
        if job.ended_at and job.owner == job.target:
            raise PastNoReturn(job=job.id, node=job.target)
        if not job.ended_at:
            self.go(job.id, state="cancelled", ended_at=120.0)
            await self.announce()
        return self.job_list[job.id]

    async def store(self, request: StoreQuery) -> StoreState:
        self._seen(request)
        if request.node not in {"madrid1", "paris1"}:
            raise NodeUnknown(node=request.node)
        images = self.images.setdefault(request.node, {})
        match request.action:
            case "add":
                images[request.path] = StoreImage(path=request.path, kind="raw", state="ready", blocks=256)
            case "remove":
                if images.pop(request.path, None) is None:
                    raise NotFound(what=f"image {request.path}")
            case "clear":
                images.clear()
        return StoreState(node=request.node, capacity=262144, blocks=1024, hits=512, images=list(images.values()))

    async def change_pause(self, request: PauseChange) -> JobView:
        self._seen(request)
        job = await self.job(JobId(id=request.id))
        if job.ended_at:
            raise TooLate(job=job.id, state=job.state)
        self.go(job.id, pause_budget_ms=request.pause_ms)
        return self.job_list[job.id]

    async def links(self) -> Links:
        self._seen()
        return Links(links=[LINK])

    async def steer_link(self, request: SteerNodeLink) -> LinkState:
        self._seen(request)
        if request.node != LINK.link.node or request.order.peer != LINK.link.peer:
            raise NodeUnknown(node=request.node)
        order, link = request.order, LINK.link
        if order.mode is not None:
            link = msgspec.structs.replace(link, mode="hybrid" if order.mode == "auto" else order.mode)
            link = msgspec.structs.replace(link, mode_forced=order.mode != "auto")
        if order.cap_mbit is not None:
            link = msgspec.structs.replace(link, cap_bytes_per_s=round(max(0.0, order.cap_mbit) * 125_000))
        return link

    async def link_history(self, request: NodeLinkHistory) -> LinkPeriods:
        self._seen(request)
        if request.node != LINK.link.node:
            raise NodeUnknown(node=request.node)
        span_s = request.query.span_s
        period = LinkPeriod(request.query.peer, 1.7e9, span_s, 50.5, 1.0, 0.001, 2000, 1000, 0.5, 1.25e7, "internet")
        return LinkPeriods(periods=[period])

    async def accuracies(self) -> Accuracies:
        self._seen()
        worth = {"truths": 40, "wape": 0.12, "coverage": 0.82, "width": 0.4, "skill_ewma": 0.1, "skill_last": 0.2}
        ends = {"node": "madrid1", "peer": "paris1", "horizon_s": 5.0}
        one = Accuracy(**ends, role="spoke", method="ewma", version="", **worth)
        return Accuracies(accuracies=[one], reason="no model is in use")

    async def recorded(self, request: RecordedQuery) -> RecordedSamples:
        self._seen(request)
        times = [1.7e9, 1.7e9 + 1, 1.7e9 + 90][request.after : request.after + 2]
        rows = [
            Recorded(request.after + n + 1, "madrid1", "paris1", at, 12.5e6, 50.5, 1.0, 0.001, 3)
            for n, at in enumerate(times)
        ]
        return RecordedSamples(samples=rows, more=request.after == 0)

    async def facts(self, request: FactsQuery) -> FactList:
        self._seen(request)
        found = {
            "link/paris1/madrid1": msgspec.to_builtins(LINK_FACT),
            **{key: msgspec.json.decode(value) for key, value in self.hints.items()},
        }
        keys = sorted(key for key in found if key.startswith(request.prefix) and key > request.after)
        facts = [
            Fact(key=key, kind="fact", value=found[key], at=90.0, age_s=10.0, writer="paris1.life") for key in keys
        ]
        return FactList(facts=facts[: request.most], more=len(facts) > request.most)

    async def put_fact(self, request: PutFact) -> None:
        self._seen(request)
        if request.value is None:
            self.hints.pop(request.key, None)
        else:
            self.hints[request.key] = request.value

    async def replica(self) -> ReplicaState:
        self._seen()
        peer = PeerState(site="paris", node="paris1", reachable=True, equal_at=90.0, sent_bytes=2100)
        return ReplicaState(
            site="madrid", writer="madrid1.life", facts=2, refused=3, exchanging=True, peers=[peer]
        )  # fmt: skip

    async def flags(self) -> KnownFlags:
        self._seen()
        return KnownFlags(flags=dict(self.flag_list), agreed=self.agreed)

    async def set_flag(self, command: SetFlag) -> None:
        self._seen(command)
        self.flag_list[command.component] = Flag(
            component=command.component, percent=command.percent, nodes_on=command.nodes_on,
            nodes_off=command.nodes_off, killed=command.killed,
        )  # fmt: skip
