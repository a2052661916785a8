"""The one configuration schema: every key with its unit, default and relation to the others.

A node reads one YAML file (`actors.config.load`); environment variables ``NOVACRON_<SECTION>__<KEY>`` override it.
`docs/configuration.md` is generated from the descriptions here.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="lower case, digits, hyphens")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _absolute(path: Path) -> Path:
    # Actors run in Ray's working directories: a relative path would mean another file in each of them.
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {str(path)!r}")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Misfit(ValueError):
    """Keys that are right alone but not together; `field` is the path of the one to blame, seen from the model."""

    def __init__(self, problem: str, *field: str) -> None:
        super().__init__(problem)
        self.field = field


class Section(BaseModel):
    """Base of every section: unknown keys are errors, instances are frozen, and no number is infinite.

    `actors.config.load` validates strictly: nothing read from a file is coerced from another kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Node(Section):
    """This host."""

    name: Name = Field(description="this node's name in the topology and in its certificate")
    state_dir: AbsolutePath = Field(Path("/var/lib/novacron"), description="journal, images, keys: survives a reboot")
    run_dir: AbsolutePath = Field(
        Path("/run/novacron"), description="UNIX sockets of running jobs; must be empty after a reboot"
    )
    images_dir: AbsolutePath = Field(
        Path("/var/lib/novacron/images"), description="where disks without a given path are made"
    )
    models_dir: AbsolutePath | None = Field(
        None, description="registry of the learned models (`novacron models`); without: `models` in `state_dir`"
    )
    libvirt_uri: str = Field("qemu:///system", description="this node's own libvirtd")
    libvirtd_socket: AbsolutePath = Field(
        Path("/run/libvirt/libvirt-sock"), description="forwarded to a peer while its move is granted"
    )
    reserve_mib: int = Field(512, ge=0, description="memory never given to guests, MiB")


class Member(Section):
    """One node of the topology, as its peers reach it."""

    name: Name
    address: str = Field(
        min_length=1, description="IP address or host name of the node's transport and, inside a site, of Ray"
    )
    port: Port = Field(7443, description="the one TLS port")


class Site(Section):
    """One datacenter: the nodes of one Ray cluster. The first node leads: it runs the head, the manager and the API.

    A witness is no datacenter: one host that is a member of the control state and nothing else.
    """

    name: Name
    nodes: list[Member] = Field(min_length=1, description="the first one leads")
    witness: bool = Field(
        False, description="its one node is a witness: a member without guests, the third voice of two sites"
    )


def _refuse_twice(rule: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Misfit(f"{rule}; twice: {', '.join(twice)}", "sites")


class Topology(Section):
    """Every site this node knows, its own included."""

    sites: list[Site] = Field(min_length=1, description="every site with its nodes")

    @model_validator(mode="after")
    def _witnesses_stand_alone(self) -> Self:
        if crowded := [site.name for site in self.sites if site.witness and len(site.nodes) > 1]:
            raise Misfit(f"{', '.join(crowded)}: a witness stands alone, so give it a site of its own", "sites")
        if not self.hosting:
            raise Misfit("every site is a witness: one at least must have nodes for guests", "sites")
        return self

    @property
    def hosting(self) -> list[Site]:
        """The sites that run guests, and so all but the member of a witness."""
        return [site for site in self.sites if not site.witness]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        members = [node for site in self.sites for node in site.nodes]
        _refuse_twice("node names must be unique over all sites", [node.name for node in members])
        _refuse_twice("site names must be unique", [site.name for site in self.sites])
        # Behind one address two nodes would answer each other's calls.
        _refuse_twice("two nodes can't share address and port", [f"{node.address}:{node.port}" for node in members])
        return self

    def site_of(self, node: str) -> Site | None:
        """The site that has `node`, or None."""
        return next((site for site in self.sites if any(m.name == node for m in site.nodes)), None)

    def member(self, node: str) -> Member | None:
        """The topology's entry of `node`, or None."""
        return next((m for site in self.sites for m in site.nodes if m.name == node), None)

    def lead_of(self, site: str) -> str | None:
        """The node that runs the site's manager, or None for an unknown site."""
        return next((s.nodes[0].name for s in self.sites if s.name == site), None)


class LinkFacts(Section):
    """What the operator knows about the links to a peer."""

    peer: Name = Field(description="a node, or a site for all of its nodes; an entry for the node goes first")
    mode: Literal["auto", "datacenter", "hybrid", "internet"] = Field("auto", description="auto: as measured")
    capacity_mbit: float = Field(0.0, ge=0, description="what the line can carry, Mbit/s; 0: as measured")


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Clock = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$")]


class Cap(Section):
    """How much this node sends to a peer at most, at some times of the day."""

    peer: Name = Field(description="a node, or a site: each of its nodes by itself")
    mbit: float = Field(gt=0, description="Mbit/s; where several hold, the least counts")
    start: Clock = Field("", description="HH:MM, local time; without start and end it holds all day")
    end: Clock = Field("", description="HH:MM; before start: on the next day")
    days: list[Day] = Field(
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], min_length=1, description="on which it starts"
    )

    @model_validator(mode="after")
    def _both_times(self) -> Self:
        if bool(self.start) != bool(self.end) or (self.start and self.start == self.end):
            raise Misfit("start and end go together and differ", "end")
        return self


class Transport(Section):
    """AMST: streams between two nodes."""

    streams: int = Field(4, ge=1, le=256, description="TLS connections per session to begin with")
    streams_max: int = Field(256, ge=1, le=256, description="no more than these, however much they would carry")
    links: list[LinkFacts] = Field(default_factory=list, description="what is known about links beforehand")
    frame_bytes: int = Field(
        32768, ge=1024, le=262144, description="data frame at most; in a datacenter 131072 or more"
    )
    channel_window_bytes: int = Field(
        4 << 20, ge=1 << 17, le=1 << 30, description="bytes of one channel that the receiver holds at first"
    )
    channel_window_max_bytes: int = Field(
        64 << 20, ge=1 << 17, le=1 << 30, description="its window grows with rate × round trip up to this"
    )
    notsent_lowat_bytes: int = Field(
        1 << 20, ge=4096, description="bytes in a socket that the kernel has not sent, at most"
    )
    heartbeat_s: float = Field(1.0, gt=0, description="ping on every connection this often")
    dead_after_s: float = Field(
        5.0, gt=0, description="a connection silent for so long is closed and its frames resent"
    )
    resume_s: float = Field(120.0, gt=0, description="a session without any connection is kept for so long")
    hold_s: float = Field(
        7200.0, gt=0, description="the same while it carries a job's channels; the job ends them sooner"
    )
    congestion: Literal["auto", "bbr", "cubic"] = Field(
        "auto", description="auto: bbr where the kernel has it, and cubic in a datacenter"
    )
    max_bytes_per_s: int = Field(0, ge=0, description="cap for this node's outgoing data; 0: none")

    caps: list[Cap] = Field(default_factory=list, description="caps of links; peer calls and libvirt are not held back")

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.dead_after_s < 3 * self.heartbeat_s:
            raise Misfit("must be at least 3 × heartbeat_s, or a single late ping closes a stream", "dead_after_s")
        if self.streams > self.streams_max:
            raise Misfit("must be at least `streams`", "streams_max")
        if self.channel_window_max_bytes < self.channel_window_bytes:
            raise Misfit("must be at least channel_window_bytes", "channel_window_max_bytes")
        if self.resume_s <= self.dead_after_s:
            raise Misfit("must be greater than dead_after_s, or no session ever resumes", "resume_s")
        if self.hold_s < self.resume_s:
            raise Misfit("must be at least resume_s: a job's channels are worth more than none", "hold_s")
        return self


class Encoding(Section):
    """HDE: the layers of the encoder, each optional."""

    zero: bool = Field(True, description="pages of zeros become a mark")
    store_mib: int = Field(
        1024, ge=0, le=8192, description="this node's content store, MiB on disk; 0: none, nor references to others'"
    )
    images: bool = Field(True, description="blocks of files at the target (read-only disks) become a reference too")
    dedupe: bool = Field(True, description="pages sent before in the same move become a reference")
    delta: bool = Field(True, description="pages sent before become the 8-byte words that changed")
    zstd: bool = Field(True, description="the rest is compressed")
    zstd_level: int = Field(0, ge=0, le=19, description="0: from the forecast of the link, then as CPU and wire allow")
    dedupe_cache_mib: int = Field(
        512, ge=8, le=4096, description="pages kept on each side of a job to point back at, at most, MiB"
    )
    disk_cache_mib: int = Field(
        128, ge=8, le=4096, description="the same for blocks of the disks that move with a guest, all together"
    )
    batch_bytes: int = Field(1 << 20, ge=65536, le=8 << 20, description="QEMU's bytes encoded at once, at most")
    qemu_buffer_bytes: int = Field(
        262144, ge=65536, description="QEMU's bytes taken at once, at most, while the wire is behind"
    )


class Migration(Section):
    """Deadlines of a move's states in seconds, and its defaults."""

    pause_ms: int = Field(300, ge=1, le=60000, description="pause budget when the request names none")
    begin_s: float = Field(20.0, gt=0, description="source: freeze and describe the guest")
    prepare_s: float = Field(60.0, gt=0, description="target: define it, open its sockets")
    perform_s: float = Field(7200.0, gt=0, description="memory and disks cross")
    switchover_s: float = Field(120.0, gt=0, description="source stopped until target runs")
    finish_s: float = Field(60.0, gt=0, description="target: the guest runs")
    confirm_s: float = Field(60.0, gt=0, description="source: forget the guest")
    rollback_s: float = Field(120.0, gt=0, description="undo an attempt on both sides")
    call_s: float = Field(15.0, gt=0, description="deadline of one call to an actor or peer")


class Prediction(Section):
    """PBA: the forecast of a link."""

    half_life_s: float = Field(10.0, gt=0, description="age at which a sample counts half in the EWMA")
    history_s: float = Field(600.0, gt=0, description="errors older than this no longer widen the interval")


class Placement(Section):
    """ITP: hard rules, and how much is moved."""

    headroom_mib: int = Field(256, ge=0, description="memory left free on the chosen node, MiB")
    max_vcpus_per_cpu: float = Field(8.0, gt=0, description="overcommit of CPUs at most")
    churn: float = Field(0.03, gt=0, le=1, description="share of all guests that one rebalancing moves at most")
    dwell_s: float = Field(3600.0, ge=0, description="a guest that was moved is left by rebalancings for so long")
    moves_at_once: int = Field(2, ge=1, le=64, description="moves of a drain or rebalancing under way at once")


LONE_SITE_MEMBERS = 3
BFT_MEMBERS_MIN = 4
"""3f + 1 for one that lies."""
LEASE_RENEWED_AFTER = 0.2
"""A lease that ends by time is renewed after this share of `lease_s` − `lease_pause_s`."""


class Consensus(Section):
    """ACP: who decides ownership. The members of `ClusterState` use it; all of them need the same."""

    mode: Literal["auto", "raft", "bft", "adaptive"] = Field(
        "auto",
        description="auto is raft; bft outlives members that lie, from 4 on; adaptive: by the links",
    )
    switch_after_s: float = Field(
        60.0, ge=1, le=86_400, description="adaptive: the links must ask for the other protocol for so long"
    )
    switch_rest_s: float = Field(300.0, ge=0, le=86_400, description="adaptive: no sooner than so long after a switch")
    heartbeat_ms: int = Field(250, ge=10, description="the leader is heard this often; a tick of the members")
    election_ms: int = Field(3000, ge=100, description="a leader silent for so long, or up to twice that, is replaced")
    members: list[Name] = Field(
        default_factory=list,
        max_length=7,
        description="who founds the control state, as it was then; empty: the lead node of each site",
    )
    takeover: Literal["auto", "lease", "operator"] = Field(
        "auto", description="who frees a lost node's guests. auto: lease where a majority outlives any one site"
    )
    lease_s: float = Field(20.0, ge=2, le=600, description="a node may run guests so long after it asked for a renewal")
    lease_pause_s: float = Field(4.0, ge=0.5, le=300, description="its guests are paused within so long before that")
    clock_drift_ppm: int = Field(1000, ge=1, le=100_000, description="no node's clock drifts by more")

    @model_validator(mode="after")
    def _election_is_longer(self) -> Self:
        if self.election_ms <= 10 * self.heartbeat_ms:
            raise Misfit("must be greater than 10 × heartbeat_ms, or a busy leader is voted out", "election_ms")
        if self.lease_pause_s * 2 > self.lease_s:
            raise Misfit("may be half of lease_s at most, or no time is left to renew", "lease_pause_s")
        # While a lost leader is replaced no lease is renewed: that alone must not pause every guest there is.
        election_s = 2 * self.election_ms / 1000
        least_s = self.lease_pause_s + election_s / (1 - LEASE_RENEWED_AFTER)
        if self.takeover != "operator" and self.lease_s < least_s:
            why = "or guests are paused while a lost leader is replaced"
            raise Misfit(f"must be at least {least_s:.1f}, {why}", "lease_s")
        return self


class Api(Section):
    """REST."""

    # Every request needs the bearer token, so listening everywhere gives nothing away.
    host: str = Field("0.0.0.0", description="address to listen on")  # noqa: S104
    port: Port = Field(8443, description="port of the REST API")
    token_file: AbsolutePath = Field(Path("/etc/novacron/api.token"), description="first line is the bearer token")


class Security(Section):
    """Mutual TLS between nodes."""

    ca: AbsolutePath = Field(Path("/etc/novacron/tls/ca.pem"), description="certificate of the cluster's own authority")
    certificate: AbsolutePath = Field(Path("/etc/novacron/tls/node.pem"), description="this node's certificate")
    key: AbsolutePath = Field(Path("/etc/novacron/tls/node.key"), description="its private key, mode 0600")


class Log(Section):
    """Structured logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is less is not written")
    format: Literal["json", "console"] = Field("json", description="json: one object per line; console: for eyes")


class Config(Section):
    """A node's whole configuration."""

    node: Node
    topology: Topology
    transport: Transport = Transport()
    encoding: Encoding = Encoding()
    migration: Migration = Migration()
    prediction: Prediction = Prediction()
    placement: Placement = Placement()
    consensus: Consensus = Consensus()
    api: Api = Api()
    security: Security = Security()
    log: Log = Log()

    @model_validator(mode="after")
    def _node_is_in_topology(self) -> Self:
        if self.topology.site_of(self.node.name) is None:
            raise Misfit(f"{self.node.name!r} does not stand in topology.sites", "node", "name")
        return self

    @model_validator(mode="after")
    def _members_are_in_topology(self) -> Self:
        members = self.consensus.members
        if absent := [name for name in members if self.topology.site_of(name) is None]:
            raise Misfit(f"{', '.join(absent)}: not in topology.sites", "consensus", "members")
        if len(set(members)) != len(members):
            raise Misfit("a node is named twice", "consensus", "members")
        return self

    @model_validator(mode="after")
    def _members_are_enough(self) -> Self:
        mode, members = self.consensus.mode, self.member_names
        if mode in ("bft", "adaptive") and len(members) < BFT_MEMBERS_MIN:
            raise Misfit(
                f"{mode} needs {BFT_MEMBERS_MIN} members at least, to outlive one that lies, and these are"
                f" {len(members)} ({', '.join(members)}): name more nodes in consensus.members, or set it to raft",
                "consensus",
                "mode",
            )
        return self

    @property
    def member_names(self) -> list[str]:
        """Nodes of the control state's members: `consensus.members` if they are named there; else the lead node of each
        site, and where one site alone has guests and three nodes or more its first three."""
        hosting = self.topology.hosting
        lone = len(hosting) == 1 and len(hosting[0].nodes) >= LONE_SITE_MEMBERS
        count = LONE_SITE_MEMBERS if lone else 1
        return self.consensus.members or [node.name for site in self.topology.sites for node in site.nodes[:count]]

    @property
    def site(self) -> Site:
        """This node's site."""
        site = self.topology.site_of(self.node.name)
        assert site is not None, "validated above"
        return site

    @property
    def leads(self) -> bool:
        """True on the node that runs the site's manager, predictor, placement and API."""
        return self.site.nodes[0].name == self.node.name
