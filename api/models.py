"""The JSON shapes of the REST API. Answers mirror the actors' messages field by field (a test keeps them equal).

Requests are strict: no coercion between kinds, no unknown keys, bounded lengths.
"""

from typing import Annotated, Literal, Self, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from actors.config.schema import Name

GUEST_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$"
NodeName = Name


def whole(value: object) -> object:
    """JSON has one kind of number: 1.0 is an integer to JSON Schema, and so to the OpenAPI document."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
HostPath = Annotated[
    str, Field(max_length=4096, pattern=r"^(/[^\x00-\x1f\x7f]*)?$", description="absolute path on the node")
]


class Request(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class View(BaseModel):
    """Base of what they get."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(cls, struct: msgspec.Struct) -> Self:
        """The view of an actor's message with the same fields."""
        return cls.model_validate(msgspec.to_builtins(struct))


_View = TypeVar("_View", bound=View)


def views(kind: type[_View], structs: "list[_Struct]") -> list[_View]:
    """The views of many messages."""
    return [kind.of(struct) for struct in structs]


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class NodeView(View):
    """One host."""

    node: str
    site: str
    state: str = Field(description="up, draining (takes no guests), degraded (libvirt away) or down")
    address: str
    cpus: int
    cpu_model: str
    arch: str
    memory_mib: int
    free_mib: int
    guests: int
    machine_types: list[str] = []
    qemu_version: str = ""
    libvirt_version: str = ""
    accelerator: str = ""
    warnings: list[str] = []
    age_s: float = Field(0.0, description="how old this is; 0: asked just now")


class SiteView(View):
    """One site. `state`: up or unreachable (then `reason`)."""

    name: str
    state: str
    nodes: list[NodeView]
    reason: str = ""


class SiteList(View):
    """Every site."""

    sites: list[SiteView]


class UnreachableSite(View):
    """A site whose nodes could not be asked."""

    site: str
    reason: str


class NodeList(View):
    """The nodes of every site that answers."""

    nodes: list[NodeView]
    unreachable: list[UnreachableSite] = []


class SampleView(View):
    """One second of a link, as its sender saw it."""

    at: float
    rtt_ms: float
    jitter_ms: float
    sent_bytes: int
    acked_bytes: int
    busy_share: float
    retransmits: int
    loss: float = Field(0.0, description="share of segments that were sent again")
    congestion: str = Field("", description="how the connections control congestion")


class SwitchView(View):
    """One change of a link's mode, and why."""

    at: float
    before: Literal["datacenter", "hybrid", "internet"]
    after: Literal["datacenter", "hybrid", "internet"]
    reason: str


class LinkSwitchView(SwitchView):
    """One change of the mode of the link from `node` to `peer`."""

    node: str
    peer: str


class LinkStateView(View):
    """One link with its newest measurements. `state`: up, connecting or down."""

    node: str
    peer: str
    site: str
    peer_site: str
    state: str
    streams: int
    resent_bytes: int
    reconnects: int
    refused_peers: int
    in_flight_bytes: int = Field(0, description="sent and not yet acknowledged")
    tls_groups: list[str] = Field([], description="key agreements of its connections")
    tls_resumed: int = Field(0, description="connections made with a ticket of an earlier one")
    mode: Literal["datacenter", "hybrid", "internet"] = "hybrid"
    mode_forced: bool = False
    mode_switches: int = Field(0, description="changes of mode since the transport started")
    switches: list[SwitchView] = Field([], description="the latest of them")
    capacity_bytes_per_s: float = Field(0.0, description="0: unknown")
    capacity_source: Literal["configured", "measured", "unknown"] = "unknown"
    congestion: str = Field("", description="how the latest connection controls congestion")
    cap_bytes_per_s: int = Field(0, description="what this node sends over it at most; 0: no cap")
    samples: list[SampleView] = []


class ForecastView(View):
    """Bandwidth expected, bytes per second, with an 80 % interval; `method` names what answered."""

    mean: float
    low: float
    high: float
    horizon_s: float
    method: str
    samples: int
    version: str = Field("", description="of the model that answered; empty: a simple method did")
    reason: str = Field("", description="why no model did")
    truths: int = Field(0, description="past forecasts of this link whose truth is known, of the last hour")
    calibration: float = Field(-1.0, description="share of these truths inside the interval; -1: none yet")
    wape: float = Field(-1.0, description="their mean error over the mean truth; -1: none yet")
    skill_ewma: float = Field(0.0, description="how much smaller that error is than the EWMA's; 0.1: by a tenth")
    skill_last: float = Field(0.0, description="the same against the last value")


class LinkView(View):
    """One link and its forecast (null before anything was measured)."""

    link: LinkStateView
    forecast: ForecastView | None = None


class AccuracyView(View):
    """What forecasts of one link by one method were worth lately, beside the later truth."""

    node: str
    peer: str
    horizon_s: float
    role: Literal["spoke", "model", "shadow", "ewma", "last-value"] = Field(
        description="spoke: whatever answered; shadow: a model that only listens"
    )
    method: str
    version: str = Field(description="of a model")
    truths: int = Field(description="how many forecasts")
    wape: float = Field(description="mean error over mean truth")
    coverage: float = Field(description="share of truths inside the 80 % interval")
    width: float = Field(description="mean width of the interval over the mean truth")
    skill_ewma: float = Field(description="how much smaller the error is than the EWMA's; 0.1: by a tenth")
    skill_last: float = Field(description="the same against the last value")


class AccuracyList(View):
    """Of every link of this site. `model`, `shadow`: the versions that are loaded; `reason`: why none is."""

    accuracies: list[AccuracyView]
    model: str = ""
    shadow: str = ""
    reason: str = ""


class LinkList(View):
    """Every link of this site."""

    links: list[LinkView]


class LinkSteer(Request):
    """What to change of a link; what is left out stays as it is."""

    mode: Literal["auto", "datacenter", "hybrid", "internet"] | None = Field(
        None, description="forced; auto: as measured again"
    )
    cap_mbit: float | None = Field(
        None, ge=-1, le=1e6, description="Mbit/s at most; 0: no cap, -1: what the configuration says"
    )


class PeriodView(View):
    """`span_s` seconds of a link (10 or 3600) from Unix time `at` on: means, sums of bytes, the capacity and mode."""

    peer: str
    at: float
    span_s: int
    rtt_ms: float
    jitter_ms: float
    loss: float
    sent_bytes: int
    acked_bytes: int
    busy_share: float
    capacity_bytes_per_s: float
    mode: str


class LinkHistoryView(View):
    """Periods of one link, oldest first."""

    periods: list[PeriodView]


class Health(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ComponentView(View):
    """One component of the node. `reason` says why it is not up or, when it is, of what its last try failed."""

    name: str
    phase: str = Field(description="pre-init, core, services or post-init")
    criticality: str = Field(description="critical, degraded or warning: what its failure means for the node")
    state: str = Field(description="waiting, starting, retrying, up, failed, skipped or stopped")
    reason: str = ""
    started_after_s: float | None = None
    took_s: float = 0.0


class Readiness(View):
    """How far the node's start is. `ready` is true also when components that are not critical are missing."""

    phase: str = Field(description="the first phase that is not settled; then ready, halted or stopped")
    ready: bool
    elapsed_s: float
    sequential_s: float
    components: list[ComponentView]


class StoreImageView(View):
    """A registered image. `kind`: raw (used in place), qcow2, initramfs or folder (copied into the store)."""

    path: str
    kind: str
    state: str = Field(description="reading, ready or failed (then `reason` says why)")
    blocks: int = Field(0, description="of 4 KiB, those of zeros not counted")
    reason: str = ""


class StoreView(View):
    """A node's content store, counted in blocks of 4 KiB."""

    node: str
    capacity: int = Field(0, description="room; 0: the node has no store")
    blocks: int = Field(0, description="in use")
    hits: int = Field(0, description="that moves to this node were spared")
    evicted: int = Field(0, description="that made room for others")
    dropped: int = Field(0, description="found spoilt, and forgotten")
    images: list[StoreImageView] = []


class StoreImageCreate(Request):
    """An image to register."""

    path: HostPath = Field(description="on the node: a raw or qcow2 image, an initramfs, or a folder")
