"""Requests and answers of the migration manager, and what a job looks like from outside. Times: Unix seconds."""

from typing import Annotated

import msgspec
from msgspec import Meta

from actors.encoding.messages import LayerCount
from actors.hypervisor.messages import ARRIVAL_S_MAX, GuestSpec, GuestXml, MovePath, NodeFacts
from actors.migration.pause import Pause
from actors.migration.states import IfStalled
from actors.placement.messages import PastMove, PlannedMove, Standing, Staying
from actors.transport.messages import HistoryQuery, LinkState, SteerLink


class MoveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Move `guest` to node `to` ('' lets placement choose), pausing it at most about `pause_ms` (0: as configured).

    `if_stalled`: whether a move that gets nowhere waits, for the guest to calm down or the operator to allow more, or
    is cancelled. `max_mbit`: what its memory and disks take of the link at most, Mbit/s; 0: no cap of its own.
    `parted`: affinity groups that it may leave, since their other guests follow.
    `key` makes the request idempotent: the same key within a day answers with the same job.
    """

    guest: str
    to: str = ""
    pause_ms: int = 0
    if_stalled: IfStalled = "wait"
    max_mbit: float = 0.0
    parted: tuple[str, ...] = ()
    key: str = ""


class PauseChange(msgspec.Struct, frozen=True, kw_only=True):
    """Let a move under way pause its guest for about `pause_ms`, at most."""

    id: str
    pause_ms: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move is. `eta_s` with its 80 % interval; -1 when unknown.

    `disk_stream_bytes` and `disk_wire_bytes` are the disks' part of `stream_bytes` and `wire_bytes`; `layers` has both.
    """

    stream_bytes: int = 0
    wire_bytes: int = 0
    disk_stream_bytes: int = 0
    disk_wire_bytes: int = 0
    memory_total: int = 0
    memory_remaining: int = 0
    disk_total: int = 0
    disk_remaining: int = 0
    rate_bytes_per_s: float = 0.0
    round: int = 0
    eta_s: float = -1.0
    eta_low_s: float = -1.0
    eta_high_s: float = -1.0
    layers: dict[str, LayerCount] = {}


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One move. `state` is a value of `actors.migration.engine.State`; `message` says what would help a stalled one.

    `path`: how its memory crosses, coded or native, and why so.
    """

    id: str
    guest: str
    source: str
    target: str
    state: str
    created_at: float
    ended_at: float = 0.0
    pause_budget_ms: int = 0
    pause_ms: float = -1.0
    pause: Pause = Pause()
    stalled: bool = False
    total_s: float = -1.0
    owner: str = ""
    error: str = ""
    error_fields: dict[str, str | int | float] = {}
    message: str = ""
    next_step: str = ""
    placement_reason: str = ""
    path: MovePath = "coded"
    path_reason: str = ""
    progress: Progress = Progress()


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a job; `seq` grows by one. `kind`: state, progress, stalled or error."""

    seq: int
    at: float
    kind: str
    job: JobView


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Events of `job` with seq > `after`; waits up to `wait_s` for the first."""

    job: str
    after: int = 0
    wait_s: float = 10.0


class JobEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first; `final` when the job has ended and these are the last."""

    events: list[JobEvent]
    final: bool


class JobId(msgspec.Struct, frozen=True, kw_only=True):
    """One job."""

    id: str


class JobKey(msgspec.Struct, frozen=True, kw_only=True):
    """The job that was submitted with `key`."""

    key: str


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one site, newest first."""

    jobs: list[JobView]


class SiteView(msgspec.Struct, frozen=True, kw_only=True):
    """One site as seen from here. `state`: up or unreachable (then `reason`)."""

    name: str
    state: str
    nodes: list[NodeFacts]
    reason: str = ""


class Sites(msgspec.Struct, frozen=True, kw_only=True):
    """Every site."""

    sites: list[SiteView]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for this site only, or (`everywhere`) for all sites that answer."""

    everywhere: bool = True


class GuestQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One guest, wherever it is."""

    name: str


class CreateGuestAnywhere(msgspec.Struct, frozen=True, kw_only=True):
    """Create a guest on `node`; '' lets placement choose, within this site or, where its attributes name sites or
    guests to be together with, in all."""

    spec: GuestSpec
    node: str = ""
    start: bool = True


class GuestAction(msgspec.Struct, frozen=True, kw_only=True):
    """`action`: start, stop, pause, resume or delete, on the guest wherever it is."""

    name: str
    action: str
    grace_s: float = 0.0


class FailOverGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Take `guest` over from a lost node, to node `to` ('' lets placement choose), because of `reason`.

    `override`: decree that whoever may still run it does not; `risk` repeats what that risks. `disks_here`: what lies
    at its disks' paths at the target is the guest's, though nothing else says so. `by`: who wants it.
    """

    guest: str
    by: str
    reason: str
    to: str = ""
    override: bool = False
    risk: str = ""
    disks_here: bool = False


class LabelGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Change what placement heeds of a guest (`Attributes`); what is None stays as it is."""

    name: str
    tenant: str | None = None
    sites: tuple[str, ...] | None = None
    together: tuple[str, ...] | None = None
    apart: tuple[str, ...] | None = None
    near: tuple[str, ...] | None = None


class CheckTarget(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: may this guest come to `target`? Raises the reason when not."""

    target: str
    guest: GuestXml


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """It may, by these paths. A target of an older version says nothing of them."""

    paths: tuple[str, ...] = ("coded",)


class StoreQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Look after the content store of `node`: see `StoreChange`."""

    node: str
    action: str = "show"
    path: str = ""


class Receive(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: get `target` ready to receive the guest from node `source`. Idempotent per job."""

    job: str
    source: str
    target: str
    guest: GuestXml
    path: MovePath = "coded"


class TargetJob(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: one job at one of its nodes."""

    job: str
    guest: str
    target: str
    path: MovePath = "coded"


class AwaitTarget(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: answer when the guest of `job` executes on `target`, or after `wait_s` seconds."""

    job: str
    target: str
    wait_s: Annotated[float, Meta(ge=0, le=ARRIVAL_S_MAX)]


class RaiseTarget(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: let what `target` sends for the job go before other jobs (`raised`), or no longer."""

    job: str
    target: str
    raised: bool


class EndTarget(msgspec.Struct, frozen=True, kw_only=True):
    """To the target's site: end the job at `target`; with `roll_back` remove what it made there. Idempotent."""

    job: str
    guest: str
    target: str
    roll_back: bool


class ForecastView(msgspec.Struct, frozen=True, kw_only=True):
    """Bandwidth expected on a link, bytes per second, with an 80 % interval; `method` names what answered.

    The rest as in `actors.prediction.messages.Forecast`.
    """

    mean: float
    low: float
    high: float
    horizon_s: float
    method: str
    samples: int
    version: str = ""
    reason: str = ""
    truths: int = 0
    calibration: float = -1.0
    wape: float = -1.0
    skill_ewma: float = 0.0
    skill_last: float = 0.0


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """One link with its newest measurements and its forecast (None before anything was measured)."""

    link: LinkState
    forecast: ForecastView | None = None


class SteerNodeLink(msgspec.Struct, frozen=True, kw_only=True):
    """Change the link of this site's `node`; see `actors.transport.messages.SteerLink`."""

    node: str
    order: SteerLink


class NodeLinkHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for what the link of this site's `node` measured."""

    node: str
    query: HistoryQuery


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Every link of this site."""

    links: list[LinkView]


class PastMoves(msgspec.Struct, frozen=True, kw_only=True):
    """Moves that one site led and that are over."""

    moves: list[PastMove]


class SweepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Empty `node`, or ('') rebalance: plan, and unless `dry_run` make the moves. The rest as in `PlanMoves`."""

    node: str = ""
    dry_run: bool = False
    part_groups: bool = False
    most: int = 0


class SweepMove(msgspec.Struct, frozen=True, kw_only=True):
    """One planned move and what has become of it: planned, moving, completed, failed or cancelled."""

    plan: PlannedMove
    state: str = "planned"
    job: str = ""
    error: str = ""


class SweepView(msgspec.Struct, frozen=True, kw_only=True):
    """A drain (of `node`) or rebalancing. `state`: planned (a dry run), running, completed, failed or cancelled."""

    id: str
    kind: str
    node: str
    state: str
    created_at: float
    moves: list[SweepMove]
    stays: list[Staying]
    before: Standing
    after: Standing
    ended_at: float = 0.0


class SweepId(msgspec.Struct, frozen=True, kw_only=True):
    """One drain or rebalancing."""

    id: str


class Sweeps(msgspec.Struct, frozen=True, kw_only=True):
    """Those that the manager knows, newest first."""

    sweeps: list[SweepView]
