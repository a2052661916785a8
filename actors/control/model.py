"""Records of the control state. Times are Unix milliseconds as the proposer told them: kept, never decided on."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from actors.migration.states import Ruling, State

VERSION = 6
"""The newest version of the state's rules that this code knows. 2: members with keys. 3: failovers with a reason.
4: members that come and go, and ends of leases that f + 1 of them sign. 5: commands that their authors sign, moves that
skip what guards nothing, and moves that are never to begin. 6: signatures that count in BFT alone."""

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Label = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=1024)]
Definition = Annotated[str, Meta(min_length=1, max_length=65536)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$")]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Component = Literal["amst", "hde", "pba", "ass", "acp", "itp"]
Role = Literal["host", "witness"]
Takeover = Literal["lease", "operator"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag=str.lower):
    """What all records have in common: a tag, and no field that this version does not know."""


class Terms(Record, frozen=True, kw_only=True):
    """Under which terms leases are held; a lease keeps those of its newest renewal.

    `duration_ms`: by the holder's clock, from when it sent the renewal. `pause_ms`: so long before the end it begins to
    pause its guests. `drift_ppm`: no clock of the cluster runs faster or slower than true time by more. `takeover`:
    'lease', an ended lease frees the guests; 'operator', leases never end by time and holders never pause.
    """

    number: Count = 1
    duration_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 10_000
    pause_ms: Annotated[int, Meta(ge=100, le=300_000)] = 3_000
    drift_ppm: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    takeover: Takeover = "operator"


class Cluster(Record, frozen=True, kw_only=True):
    """What there is only one of. `version`: of the rules in force. `lineage` grows when an operator overrules a lost
    majority, and every later epoch is above all of the lineage before."""

    version: Count = 1
    lineage: Annotated[int, Meta(ge=0, le=2**20)] = 0
    terms: Terms = Terms()


class Node(Record, frozen=True, kw_only=True):
    """One node. `speaks`: newest version of the rules that its member knows, 0: it is no member."""

    name: Name
    site: Name
    role: Role = "host"
    speaks: Count = 0
    draining: bool = False
    joined_at_ms: Count = 0


class LeaseState(StrEnum):
    """`active`: its node may run guests. The others prove, or decree, that it runs none."""

    ACTIVE = "active"
    EXPIRED = "expired"
    YIELDED = "yielded"
    OVERRIDDEN = "overridden"


class Lease(Record, frozen=True, kw_only=True):
    """A node's permission to run what it owns. `number`: index of the entry that gave it; `renewal`: how often renewed.

    `boot` names the boot of the host that took it.
    """

    node: Name
    number: Count
    renewal: Count = 0
    state: LeaseState = LeaseState.ACTIVE
    boot: Label
    terms: Terms


class Run(StrEnum):
    """May anybody run the guest?"""

    STOPPED = "stopped"
    RUNNING = "running"


class Guest(Record, frozen=True, kw_only=True):
    """A guest, its definition and its owner.

    `node` owns it at `epoch` while it is `running`; stopped, `node` is where it was last. `branch_epoch`: when its
    memory last began anew (start, failover); a replica of before is of another history. `job`: the move that holds it.
    """

    name: Name
    definition: Definition
    definition_number: Count = 1
    node: str = ""
    run: Run = Run.STOPPED
    epoch: Count = 0
    branch_epoch: Count = 0
    job: str = ""


class Job(Record, frozen=True, kw_only=True):
    """A move. `epoch` is the target's, in force from the point of no return on.

    `started`: libvirt may have been told to begin, so that either side may execute the guest until the job is decided.
    """

    id: Label
    guest: Name
    source: Name
    target: Name
    epoch: Count
    state: State = State.BEGIN
    started: bool = False
    ruling: Ruling = Ruling.OPEN
    error: Text = ""
    begun_at_ms: Count = 0
    ended_index: Count = 0


class Replica(Record, frozen=True, kw_only=True):
    """A copy of a guest's checkpoints at `node`.

    `of_epoch`: the owner's whose checkpoint `checkpoint` is, captured at `captured_at_ms`; both are lower bounds, since
    only some checkpoints are told here. `generation` tells this replica from an earlier one at the same node.
    """

    guest: Name
    node: Name
    generation: Count
    rpo_ms: Count
    of_epoch: Count = 0
    checkpoint: Count = 0
    captured_at_ms: Count = 0


class Policy(Record, frozen=True, kw_only=True):
    """A named setting of the cluster, meant by whoever reads it."""

    name: Label
    value: Annotated[str, Meta(max_length=4096)]


class Flag(Record, frozen=True, kw_only=True):
    """How far a component is rolled out; the rules are in `actors/flags/engine.py`. `percent` of subjects have it."""

    component: Component
    percent: Annotated[int, Meta(ge=0, le=100)] = 100
    nodes_on: frozenset[Name] = frozenset()
    nodes_off: frozenset[Name] = frozenset()
    killed: bool = False


class Member(Record, frozen=True, kw_only=True):
    """A member of the control state. `number` is given once and never again, and has one key for ever.

    `key`: its Ed25519 key in hexadecimal. `caught`: as what it was caught lying, for which it was excluded.
    """

    number: Annotated[int, Meta(ge=1, le=2**31)]
    node: Name
    site: Name
    role: Role = "host"
    key: Key
    caught: Annotated[str, Meta(max_length=64)] = ""


class Seat(Record, frozen=True, kw_only=True):
    """The place of a member that was added, or (`left`) was taken out; a founder has none until then."""

    number: Annotated[int, Meta(ge=1, le=2**31)]
    node: Name
    site: Name
    role: Role = "host"
    left: bool = False


class Expiry(Record, frozen=True, kw_only=True):
    """`members` have signed that they saw no renewal of lease `number` of `node` after `renewal` for long enough."""

    node: Name
    number: Count
    renewal: Count
    members: tuple[int, ...]


class Author(Record, frozen=True, kw_only=True):
    """The Ed25519 key, in hexadecimal, with which the node signs what it asks for."""

    node: Name
    key: Key


class Word(Record, frozen=True, kw_only=True):
    """What a member vouches for: that `node`, of `site`, showed it its certificate and `key`."""

    member: Annotated[int, Meta(ge=1, le=2**31)]
    site: Name
    key: Key


class Vouch(Record, frozen=True, kw_only=True):
    """The newest word of each member about a node's key, until enough have said the same."""

    node: Name
    words: tuple[Word, ...]


AnyRecord = Cluster | Node | Lease | Guest | Job | Replica | Policy | Flag | Member | Seat | Expiry | Author | Vouch


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a command: accepted when `code` is '', else refused with that code and the reason in words.

    `number`: the epoch, lease, session or definition number that was granted.
    """

    index: int
    code: str = ""
    detail: str = ""
    number: int = 0

    @property
    def accepted(self) -> bool:
        """True when the command took effect (or had already)."""
        return not self.code


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client's numbered commands. `answers` holds the newest results by number; up to `floor` they are forgotten."""

    id: int
    by: str
    used: int
    floor: int = 0
    answers: tuple[tuple[int, Result], ...] = ()


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accepted command. `body` is left out when it is long; `link` chains it to all entries before it."""

    number: int
    index: int
    at_ms: int
    by: str
    command: str
    subject: str
    detail: str
    body: bytes
    body_digest: bytes
    link: bytes


class ControlState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of it. Only `engine.apply` changes it.

    What is empty is left out of its bytes, so that a table is unknown to no member before there is something in it.

    `applied`: the newest log index; `revision`: the newest one that changed a record. `openings`: for each node that
    has a key the number of the newest session that it opened by its signature.
    """

    applied: int = 0
    revision: int = 0
    cluster: Cluster = Cluster()
    nodes: dict[str, Node] = {}
    leases: dict[str, Lease] = {}
    guests: dict[str, Guest] = {}
    jobs: dict[str, Job] = {}
    replicas: dict[str, Replica] = {}
    policies: dict[str, Policy] = {}
    flags: dict[str, Flag] = {}
    members: dict[str, Member] = {}
    seats: dict[str, Seat] = {}
    expiries: dict[str, Expiry] = {}
    authors: dict[str, Author] = {}
    vouches: dict[str, Vouch] = {}
    openings: dict[str, int] = {}
    sessions: dict[str, Session] = {}
    audit: list[Audit] = []
    audit_count: int = 0
    audit_link: Digest = bytes(32)


def replica_key(guest: str, node: str) -> str:
    """The key of a replica in its table: '/' is in no name."""
    return f"{guest}/{node}"
