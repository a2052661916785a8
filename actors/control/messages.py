"""Requests and answers of the `ClusterState` actor (`state@NODE`), one at each member. Times in seconds."""

from typing import Any

import msgspec

from actors.control.decision import Event
from actors.control.envelope import COMMAND_BYTES_MAX
from actors.control.members import Founder
from actors.control.model import Flag, Guest, Job, Lease, Node, Terms
from actors.control.ownership import Right
from actors.errors import BodyInvalid

SERVICE = "state"
EVENTS_MAX = 1000
WAIT_MAX_S = 60.0
TRAIL_MAX = 500


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """One command of a session (0: of none), in msgpack; whoever sends it again repeats all of it.

    `by` begins with `node:` only for the node that calls.
    """

    command: bytes
    by: str
    session: int = 0
    number: int = 0
    at_ms: int = 0
    deadline_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what no entry can hold."""
        if len(self.command) > COMMAND_BYTES_MAX:
            raise BodyInvalid(detail=f"a command of {len(self.command)} bytes; {COMMAND_BYTES_MAX} are possible")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted command did: `index` is its entry's, and the revision that watchers see its events with.

    `number`: the epoch, lease, session, generation or definition number that was granted. A command that is sent again
    gets the outcome that it had.
    """

    index: int
    number: int = 0
    detail: str = ""


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """A linearizable question: it sees all that was committed before it was asked."""

    deadline_s: float = 5.0


class OfGuest(msgspec.Struct, frozen=True, kw_only=True):
    """A linearizable question about a guest; `node` is for its standing there."""

    guest: str
    node: str = ""
    deadline_s: float = 5.0


class OfNode(msgspec.Struct, frozen=True, kw_only=True):
    """A linearizable question about a node."""

    node: str
    deadline_s: float = 5.0


class OfJob(msgspec.Struct, frozen=True, kw_only=True):
    """A linearizable question about a move."""

    job: str
    deadline_s: float = 5.0


class StandingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a node may do with a guest."""

    right: Right
    epoch: int


class GuestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's record."""

    guest: Guest


class GuestsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every guest, by name."""

    guests: list[Guest]


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's newest lease, of whatever state; None: it never had one."""

    lease: Lease | None


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A move's record."""

    job: Job


class NodesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every node, by name."""

    nodes: list[Node]


class FlagsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that were ever set, by component; the others are on."""

    flags: dict[str, Flag]


class TermsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of leases from their next renewal on."""

    terms: Terms


class MembersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The members, those included that are joining; who founded the state; the numbers of those that were taken out.

    `part`: of the log, in the protocol `mode`.
    """

    members: list[Founder]
    founders: list[Founder]
    left: list[int]
    part: int
    mode: str


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of all that ever said their key, as the answering member has applied it."""

    numbers: list[int]


class TrailQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A linearizable question for audit entries with a number above `after`, oldest first, `limit` of them.

    `guest`: only what concerns it and its moves; '' for all. `since`: only what was done after that revision.
    """

    after: int = 0
    guest: str = ""
    since: int = 0
    limit: int = TRAIL_MAX
    deadline_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what can't be answered at once."""
        if not 0 < self.limit <= TRAIL_MAX or self.after < 0:
            raise BodyInvalid(detail=f"from 1 to {TRAIL_MAX} entries can be asked for at once, after number 0 or more")


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted command. `body`: its fields, empty where it was longer than the trail keeps; `link`: in hex, chains
    it to all entries before it."""

    number: int
    revision: int
    at_ms: int
    by: str
    command: str
    subject: str
    detail: str
    body: dict[str, Any]
    link: str


class TrailPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of the audit trail; there are more while `upto` is below `count`, to be asked for after `upto`.

    `missing`: entries up to `upto` that the answering member does not have, since it began from another's snapshot.
    `fault`: number of the first entry that does not follow from the one before it; 0: all do.
    """

    entries: list[TrailEntry]
    count: int
    upto: int
    missing: int = 0
    fault: int = 0


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """Events with a revision above `after`; if there are none, wait up to `wait_s` for some."""

    after: int
    wait_s: float = 0.0


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """Up to 1,000 events, whole commands, oldest first; go on after `revision`.

    `forgotten`: some after the asked one are gone; read the state, then go on after `revision`.
    """

    events: list[Event]
    revision: int
    forgotten: bool = False


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """One member as the answering one sees it.

    `match`: newest entry that the leader knows to be on its disk; -1 where the answering member does not lead. `lag`:
    entries that it lacks, -1 likewise; in BFT every member knows what the others said. `silent_s`: since the answering
    member last heard of it; -1: never. `votes`: false for one that has no vote (any more, or yet), `caught`: as what it
    was caught lying. `change`: 'joins', 'leaves' or ''.
    """

    number: int
    node: str
    site: str
    role: str
    leads: bool
    votes: bool = True
    caught: str = ""
    match: int = -1
    lag: int = -1
    silent_s: float = -1.0
    change: str = ""


class ShownMembers(msgspec.Struct, frozen=True, kw_only=True):
    """The members as the API lists them."""

    members: list[MemberView]


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """How the members stand, as `node` sees it: local knowledge, so it answers without a majority too.

    `leader`: '' when none is known. `settled`: a leader is known and enough members are heard. `last`, `commit`,
    `applied`: indices of the log's newest, newest committed and newest applied entry here. `mode`: the protocol that it
    is agreed on with now, `raft` or `bft`; `configured`: the one that is asked for; `part`: how often it was switched.
    `term`: Raft's term or BFT's view.
    """

    node: str
    mode: str
    configured: str
    part: int
    leader: str
    settled: bool
    term: int
    last: int
    commit: int
    applied: int
    revision: int
    version: int
    lineage: int
    snapshot: int
    members: list[MemberView]
