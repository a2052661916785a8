"""The one configuration schema: every key with its unit, default and relation to the others.

A node reads one YAML file (`actors.config.load`); environment variables ``NOVACRON_<SECTION>__<KEY>`` override it.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="lower case, digits, hyphens")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are not coerced between kinds, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Node(Section):
    """This host."""

    name: Name
    state_dir: Path = Field(Path("/var/lib/novacron"), description="journal, images, keys: survives a reboot")
    run_dir: Path = Field(Path("/run/novacron"), description="UNIX sockets of running jobs; must be empty after a reboot")
    images_dir: Path = Field(Path("/var/lib/novacron/images"), description="where disks without a given path are made")
    libvirt_uri: str = Field("qemu:///system", description="this node's own libvirtd")
    libvirtd_socket: Path = Field(Path("/run/libvirt/libvirt-sock"), description="forwarded to a peer while its move is granted")
    reserve_mib: int = Field(512, ge=0, description="memory never given to guests, MiB")


class Member(Section):
    """One node of the topology, as its peers reach it."""

    name: Name
    address: str = Field(description="IP address or host name of the node's transport and, inside a site, of Ray")
    port: Port = Field(7443, description="the one TLS port")


class Site(Section):
    """One datacenter: the nodes of one Ray cluster. The first node leads: it runs the head, the manager and the API."""

    name: Name
    nodes: list[Member] = Field(min_length=1)


class Topology(Section):
    """Every site this node knows, its own included."""

    sites: list[Site] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [node.name for site in self.sites for node in site.nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"node names must be unique over all sites; twice: {', '.join(twice)}")
        sites = [site.name for site in self.sites]
        if len(set(sites)) != len(sites):
            raise ValueError("site names must be unique")
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


class Transport(Section):
    """AMST."""

    streams: int = Field(4, ge=1, le=256, description="TLS connections per session until the predictor says otherwise")
    frame_bytes: int = Field(32768, ge=1024, le=262144, description="payload of one data frame at most")
    channel_window_bytes: int = Field(4 << 20, ge=1 << 17, description="unacknowledged bytes of one channel at most")
    notsent_lowat_bytes: int = Field(131072, ge=4096, description="bytes in a socket that the kernel has not sent, at most")
    heartbeat_s: float = Field(1.0, gt=0, description="ping on every connection this often")
    dead_after_s: float = Field(5.0, gt=0, description="a connection silent for so long is closed and its frames resent")
    resume_s: float = Field(120.0, gt=0, description="a session without any connection is kept for so long")
    congestion: Literal["auto", "bbr", "cubic"] = Field("auto", description="auto: bbr where the kernel has it")
    max_bytes_per_s: int = Field(0, ge=0, description="cap for this node's outgoing data; 0: none")

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.dead_after_s < 3 * self.heartbeat_s:
            raise ValueError("dead_after_s must be at least 3 × heartbeat_s, or a single late ping closes a stream")
        if self.resume_s <= self.dead_after_s:
            raise ValueError("resume_s must be greater than dead_after_s, or no session ever resumes")
        return self


class Encoding(Section):
    """HDE."""

    zero: bool = True
    dedupe: bool = True
    zstd: bool = True
    zstd_level: int = Field(0, ge=0, le=19, description="0: chosen from the forecast of the link")
    dedupe_cache_mib: int = Field(128, ge=8, le=4096, description="pages kept on each side to point back at, MiB")
    batch_bytes: int = Field(1 << 20, ge=65536, le=8 << 20, description="QEMU's bytes encoded at once, at most")
    qemu_buffer_bytes: int = Field(262144, ge=65536, description="receive buffer towards QEMU")


class Migration(Section):
    """Deadlines of a move's states in seconds, and its defaults."""

    pause_ms: int = Field(300, ge=1, le=60000, description="pause budget when the request names none")
    begin_s: float = Field(20.0, gt=0)
    prepare_s: float = Field(60.0, gt=0)
    perform_s: float = Field(7200.0, gt=0)
    switchover_s: float = Field(120.0, gt=0)
    finish_s: float = Field(60.0, gt=0)
    confirm_s: float = Field(60.0, gt=0)
    rollback_s: float = Field(120.0, gt=0)
    call_s: float = Field(15.0, gt=0, description="deadline of one call to an actor or peer")


class Prediction(Section):
    """PBA."""

    half_life_s: float = Field(10.0, gt=0, description="age at which a sample counts half in the EWMA")
    history_s: float = Field(600.0, gt=0, description="errors older than this no longer widen the interval")


class Placement(Section):
    """ITP's hard rules."""

    headroom_mib: int = Field(256, ge=0, description="memory left free on the chosen node, MiB")
    max_vcpus_per_cpu: float = Field(8.0, gt=0, description="overcommit of CPUs at most")


class Consensus(Section):
    """ACP: who decides ownership. Validated here, used by the members of `ClusterState`."""

    mode: Literal["auto", "raft", "bft"] = "auto"
    heartbeat_ms: int = Field(100, ge=10)
    election_ms: int = Field(1500, ge=100)
    witness: Name | None = Field(None, description="member without guests, the third voice of two sites")

    @model_validator(mode="after")
    def _election_is_longer(self) -> Self:
        if self.election_ms <= 10 * self.heartbeat_ms:
            raise ValueError("election_ms must be greater than 10 × heartbeat_ms")
        return self


class Api(Section):
    """REST."""

    host: str = "0.0.0.0"  # noqa: S104  every request needs the bearer token
    port: Port = 8443
    token_file: Path = Field(Path("/etc/novacron/api.token"), description="first line is the bearer token")


class Security(Section):
    """Mutual TLS between nodes."""

    ca: Path = Path("/etc/novacron/tls/ca.pem")
    certificate: Path = Path("/etc/novacron/tls/node.pem")
    key: Path = Path("/etc/novacron/tls/node.key")


class Log(Section):
    """Structured logs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


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
            raise ValueError(f"node.name {self.node.name!r} does not stand in topology.sites")
        return self

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
