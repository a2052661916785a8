"""What clients send and get of drains and rebalancings."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from api.models import Request, View, whole

Most = Annotated[int, Field(ge=0, le=10_000, description="moves at most; 0: `placement.churn`"), BeforeValidator(whole)]


class DrainCreate(Request):
    """How a node is drained."""

    dry_run: bool = Field(False, description="only plan: nothing is changed")
    part_groups: bool = Field(
        False, description="guests of an affinity group follow one another, and are apart for so long"
    )


class RebalanceCreate(Request):
    """How the cluster is rebalanced."""

    dry_run: bool = Field(False, description="only plan: nothing is changed")
    most: Most = 0


class Drained(View):
    """Whether a node is to take no guests."""

    node: str
    draining: bool


class PlannedMoveView(View):
    """One move, why it is made and what stays as it is without it; what is expected is of the models."""

    guest: str
    source: str
    target: str
    reason: str
    without: str
    gain_usd: float = Field(description="over a day")
    cost_usd: float
    expected_s: float
    expected_bytes: float
    expected_pause_ms: float
    groups: list[str] = Field([], description="that tie it to other guests")
    parted: list[str] = Field([], description="of them those that it leaves for a time")


class SweepMoveView(View):
    """A planned move and what has become of it: planned, moving, completed, failed or cancelled."""

    plan: PlannedMoveView
    state: str = "planned"
    job: str = ""
    error: str = ""


class StayingView(View):
    """A guest of a drained node that can't go; `rule` binds, empty for another reason."""

    guest: str
    node: str
    rule: str
    reason: str


class StandingView(View):
    """How the cluster stands; shares from 0 to 1."""

    fragmentation_8: float = Field(description="of free virtual CPUs outside whole blocks of 8")
    fragmentation_16: float
    split_pairs: float = Field(description="of pairs of one tenant's guests in two sites")
    near_pairs: float = Field(description="of pairs that talk a lot in two sites")
    hot_nodes: int = Field(description="used beyond the mark")


class SweepView(View):
    """A drain or rebalancing. `state`: planned (a dry run), running, completed, failed or cancelled."""

    id: str
    kind: str = Field(description="drain or rebalance")
    node: str
    state: str
    created_at: float
    moves: list[SweepMoveView]
    stays: list[StayingView]
    before: StandingView
    after: StandingView
    ended_at: float = 0.0


class SweepList(View):
    """Those that this site's manager knows, newest first."""

    sweeps: list[SweepView]
