"""Requests and answers of the placement policy (ITP)."""

import msgspec

from actors.hypervisor.messages import NO_ATTRIBUTES, Attributes, GuestInfo, NodeFacts


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that is somewhere. `vcpus`: those that it takes there, 0 while it has no memory."""

    name: str
    node: str
    vcpus: int = 0
    tenant: str = ""
    groups: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a node for a guest among `nodes`; `exclude` are names that must not be chosen (its present node)."""

    guest: str
    memory_mib: int
    vcpus: int
    machine: str
    nodes: list[NodeFacts]
    guests: list[Neighbour] = []
    exclude: list[str] = []
    site: str = ""
    attributes: Attributes = NO_ATTRIBUTES


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen node and why; `rejected` says for each other node what spoke against it.

    `by`: the version that chose, or ``rule``. `others`: by version (or ``rule``) what those that only listened would
    have chosen; '' for none.
    """

    node: str
    reason: str
    rejected: dict[str, str]
    by: str = "rule"
    others: dict[str, str] = {}


class PastMove(msgspec.Struct, frozen=True, kw_only=True):
    """What a move that was made took: what the costs of others are fitted to."""

    guest: str
    ended_at: float
    memory_mib: float
    wire_bytes: float
    total_s: float
    pause_s: float


class PlanMoves(msgspec.Struct, frozen=True, kw_only=True):
    """Plan moves of `guests` between `nodes`: those that empty `drain`, if any is named, else those that pay.

    `part_groups`: in a drain, guests of an affinity group follow one another and are apart for so long. `most`: moves
    at most; 0: the share of all guests that one round may move.
    """

    nodes: list[NodeFacts]
    guests: list[GuestInfo]
    past: list[PastMove] = []
    at: float = 0.0
    drain: list[str] = []
    part_groups: bool = False
    most: int = 0


class PlannedMove(msgspec.Struct, frozen=True, kw_only=True):
    """One move, why it is made, and what stays as it is without it.

    `gain_usd` over a day, `cost_usd`, `expected_s`, `expected_bytes`, `expected_pause_ms`: of the models. `groups`:
    which tie it to other guests; `parted`: those of them that it leaves for a time.
    """

    guest: str
    source: str
    target: str
    reason: str
    without: str
    gain_usd: float
    cost_usd: float
    expected_s: float
    expected_bytes: float
    expected_pause_ms: float
    groups: tuple[str, ...] = ()
    parted: tuple[str, ...] = ()


class Staying(msgspec.Struct, frozen=True, kw_only=True):
    """A guest of a drained node that can't go. `rule`: the hard rule that binds, '' for another reason."""

    guest: str
    node: str
    rule: str
    reason: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the cluster stands: shares, 0..1, of free vCPUs outside whole blocks of 8 and 16, and of pairs of one
    tenant's (of talking) guests in two sites; nodes that are used beyond the mark."""

    fragmentation_8: float
    fragmentation_16: float
    split_pairs: float
    near_pairs: float
    hot_nodes: int


class MovePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Moves in their order, each feasible after those before it."""

    moves: list[PlannedMove]
    stays: list[Staying]
    before: Standing
    after: Standing
