"""What clients send and get of moves."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from api.models import NodeName, Request, View, whole

PauseMs = Annotated[int, Field(ge=1, le=60_000), BeforeValidator(whole)]


class MigrationCreate(Request):
    """A move of the guest in the path."""

    to: NodeName | Literal[""] = Field("", description="node; empty lets placement choose")
    pause_ms: PauseMs | None = Field(
        None, description="pause that the guest may feel, about; without: the site's `migration.pause_ms`"
    )
    max_mbit: float = Field(0.0, ge=0, le=1e6, description="Mbit/s that its memory and disks take at most; 0: no cap")
    if_stalled: Literal["wait", "cancel"] = Field(
        "wait", description="what becomes of a move that brings no progress for two rounds"
    )


class MigrationChange(Request):
    """What can be changed of a move under way."""

    pause_ms: PauseMs = Field(description="pause that the guest may feel from now on, about")


class LayerView(View):
    """What one layer of the encoder did."""

    pages: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_s: float = 0.0


class ProgressView(View):
    """How far a move is. `eta_s` with its 80 % interval, -1 when unknown.

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
    layers: dict[str, LayerView] = Field({})


class PauseView(View):
    """Where the time of a pause went, in ms; the four parts add up to `total_ms`, -1: not known."""

    total_ms: float = -1.0
    predicted_ms: float = -1.0
    last_pages_ms: float = -1.0
    device_state_ms: float = -1.0
    round_trips_ms: float = -1.0
    resume_ms: float = -1.0


class MigrationView(View):
    """One move. Times are Unix seconds; `ended_at` 0 while it runs. `error` is a code of docs/api.md, or empty.

    `stalled`: it brings no progress; `message` then says what would help. `path`: how its memory crosses, through the
    encoder or as QEMU's own parallel streams, and why; a native move has no layers.
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
    pause: PauseView = PauseView()
    stalled: bool = False
    total_s: float = -1.0
    owner: str = ""
    error: str = ""
    error_fields: dict[str, str | int | float] = Field({})
    message: str = ""
    next_step: str = ""
    placement_reason: str = ""
    path: Literal["coded", "native"] = "coded"
    path_reason: str = ""
    progress: ProgressView = ProgressView()


class MigrationList(View):
    """Moves, newest first."""

    jobs: list[MigrationView]


class MigrationEvent(View):
    """One thing that happened to a move; `seq` grows by one. `kind`: state, progress, stalled or error."""

    seq: int
    at: float
    kind: str
    job: MigrationView
