"""Commands to the control state. One command is one entry of the log: an `Envelope` around one of these, in msgpack.

Every struct says in `SINCE` which version of the rules first knew it (1 where it is left out). The numbers in a command
(`epoch`, `after`, `number`, `renewal`) are what its proposer believes; a command on stale beliefs is refused.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from actors.control.envelope import COMMAND_BYTES_MAX, Envelope
from actors.control.model import Component, Count, Definition, Key, Label, Name, Role, Signature, Takeover, Text
from actors.migration.states import Ruling, State


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do", tag=str.lower):
    """What all commands have in common."""

    SINCE: ClassVar[int] = 1
    AUDITED: ClassVar[bool] = True


# -- the cluster ------------------------------------------------------------------------------------------------------


class OpenSession(Command, frozen=True, kw_only=True):
    """Begin to number commands. The result's `number` is the session."""

    AUDITED: ClassVar[bool] = False


class CloseSession(Command, frozen=True, kw_only=True):
    """Forget a session of one's own."""

    AUDITED: ClassVar[bool] = False
    closes: Count


class Upgrade(Command, frozen=True, kw_only=True):
    """Put newer rules in force; every member must know them."""

    to: Count


class JoinNode(Command, frozen=True, kw_only=True):
    """Add a node, or say anew what it is. `speaks`: 0 for a host that is no member."""

    node: Name
    site: Name
    role: Role = "host"
    speaks: Count = 0


class EnrolMember(Command, frozen=True, kw_only=True):
    """A member says who it is, and the key that it signs with; only `member:NODE` may."""

    SINCE: ClassVar[int] = 2
    number: Annotated[int, Meta(ge=1, le=2**31)]
    node: Name
    site: Name
    role: Role = "host"
    key: Key


class AddMember(Command, frozen=True, kw_only=True):
    """Have a node be a member of the control state. The result's `number` is the member's."""

    SINCE: ClassVar[int] = 4
    node: Name


class RemoveMember(Command, frozen=True, kw_only=True):
    """Take member `number`, on `node`, out for good. `lost`: its host or disk is lost, so it is no voice any more."""

    SINCE: ClassVar[int] = 4
    node: Name
    number: Annotated[int, Meta(ge=1, le=2**31)]
    lost: bool = False


class ExcludeMember(Command, frozen=True, kw_only=True):
    """What an `EVIDENCE` entry of the log means; in no entry of its own, so that nobody can ask for it."""

    SINCE: ClassVar[int] = 2
    number: int
    node: str
    lie: str


class EnrolNode(Command, frozen=True, kw_only=True):
    """A node says the key that it signs with, and signs this with it. The result's `number`: it may open a session
    under this number."""

    SINCE: ClassVar[int] = 5
    node: Name
    key: Key


class VouchNode(Command, frozen=True, kw_only=True):
    """Member `member` signs that `node`, of `site`, showed it its certificate and `key`; f + 1 of these enrol it.

    In BFT nothing else does: one that lies alone can't. `after`: the key that is replaced, '' for none. `signature`:
    see `attest.py`. The result's `number`: the node may open a session under this number; 0: not yet.
    """

    SINCE: ClassVar[int] = 5
    node: Name
    site: Name
    key: Key
    after: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    member: Annotated[int, Meta(ge=1, le=2**31)]
    signature: Signature


class DrainNode(Command, frozen=True, kw_only=True):
    """Take no new guests (`draining`), or take them again."""

    node: Name
    draining: bool


class RemoveNode(Command, frozen=True, kw_only=True):
    """Forget a node that has no guest, replica or move."""

    node: Name


class SetPolicy(Command, frozen=True, kw_only=True):
    """Set a named setting."""

    name: Label
    value: Annotated[str, Meta(max_length=4096)]


class RemovePolicy(Command, frozen=True, kw_only=True):
    """Remove a named setting."""

    name: Label


class SetFlag(Command, frozen=True, kw_only=True):
    """Say how far a component is rolled out."""

    component: Component
    percent: Annotated[int, Meta(ge=0, le=100)]
    nodes_on: frozenset[Name] = frozenset()
    nodes_off: frozenset[Name] = frozenset()
    killed: bool = False
    reason: Text = ""


# -- leases -----------------------------------------------------------------------------------------------------------


class SetTerms(Command, frozen=True, kw_only=True):
    """Set the terms of the leases from each one's next renewal on. `after`: number of the terms that are replaced."""

    after: Count
    duration_ms: Annotated[int, Meta(ge=1000, le=600_000)]
    pause_ms: Annotated[int, Meta(ge=100, le=300_000)]
    drift_ppm: Annotated[int, Meta(ge=1, le=100_000)]
    takeover: Takeover


class AcquireLease(Command, frozen=True, kw_only=True):
    """A node's agent takes a new lease, in place of lease `after` (0: its first), on terms number `terms`."""

    node: Name
    after: Count
    boot: Label
    terms: Count


class RenewLease(Command, frozen=True, kw_only=True):
    """The holder renews: `renewal` is one more than the newest that was accepted."""

    AUDITED: ClassVar[bool] = False
    node: Name
    number: Count
    renewal: Count
    terms: Count


class ExpireLease(Command, frozen=True, kw_only=True):
    """A member saw no renewal after `renewal` for `waited_ms` of its own clock, which drifts by `drift_ppm` at most."""

    node: Name
    number: Count
    renewal: Count
    waited_ms: Count
    drift_ppm: Count


class AttestExpiry(Command, frozen=True, kw_only=True):
    """Member `member` signs that it saw no renewal after `renewal` for long enough; f + 1 of these end the lease.

    In BFT nothing else ends a lease by time: one that lies alone can't. `signature`: see `attest.py`.
    """

    SINCE: ClassVar[int] = 4
    node: Name
    number: Count
    renewal: Count
    member: Annotated[int, Meta(ge=1, le=2**31)]
    signature: Signature


class YieldLease(Command, frozen=True, kw_only=True):
    """The holder says that none of its guests executes, and that none will under this lease."""

    node: Name
    number: Count


class Override(Command, frozen=True, kw_only=True):
    """An operator decrees that `nodes` run nothing. `risk` must be `risk_of()` these nodes, word by word.

    `lineage`: the members went on without their majority; epochs go above all that the lost part may have given.
    """

    nodes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)]
    risk: Annotated[str, Meta(min_length=1, max_length=8192)]
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]
    lineage: bool = False


# -- guests -----------------------------------------------------------------------------------------------------------


class DefineGuest(Command, frozen=True, kw_only=True):
    """Define a guest, or change its definition. `after`: number of the definition that is replaced, 0 for a new one."""

    guest: Name
    definition: Definition
    after: Count = 0


class RemoveGuest(Command, frozen=True, kw_only=True):
    """Forget a stopped guest and its replicas."""

    guest: Name
    epoch: Count


class StartGuest(Command, frozen=True, kw_only=True):
    """Grant a stopped guest to `node`. `epoch`: its last one."""

    guest: Name
    node: Name
    epoch: Count


class StopGuest(Command, frozen=True, kw_only=True):
    """The owner's agent, or anybody once its lease has ended, says that the guest does not run any more."""

    guest: Name
    epoch: Count


class FailOver(Command, frozen=True, kw_only=True):
    """Grant a guest to `to`, since the lease of everybody who might run it has ended.

    It goes on from checkpoint `checkpoint` of the replica there, or boots from its disks (-1). `reason`: why, in the
    words of whoever asked.
    """

    SINCE: ClassVar[int] = 3
    guest: Name
    to: Name
    epoch: Count
    reason: Text = ""
    checkpoint: Annotated[int, Meta(ge=-1, le=2**53)] = -1


class SetReplica(Command, frozen=True, kw_only=True):
    """Keep a replica at `node`, or change its promise. The result's `number` is the generation."""

    guest: Name
    node: Name
    rpo_ms: Count


class MarkReplica(Command, frozen=True, kw_only=True):
    """Checkpoint `checkpoint` of the owner of `of_epoch` is complete at `node`."""

    AUDITED: ClassVar[bool] = False
    guest: Name
    node: Name
    generation: Count
    of_epoch: Count
    checkpoint: Count
    captured_at_ms: Count


class RemoveReplica(Command, frozen=True, kw_only=True):
    """Give a replica up."""

    guest: Name
    node: Name


# -- moves ------------------------------------------------------------------------------------------------------------


class BeginMove(Command, frozen=True, kw_only=True):
    """Reserve a running guest for a move to `target`. `epoch`: the owner's. The result's `number` is the target's."""

    job: Label
    guest: Name
    target: Name
    epoch: Count


class AdvanceMove(Command, frozen=True, kw_only=True):
    """The move has entered `state`. `perform` must be committed before libvirt is told to begin."""

    job: Label
    state: State
    error: Text = ""


class CommitMove(Command, frozen=True, kw_only=True):
    """The point of no return: the target has executed the guest, and owns it from this entry on."""

    job: Label


class EndMove(Command, frozen=True, kw_only=True):
    """The move is over. Rolled back after it was started, `ruling` says what was found out for good."""

    job: Label
    state: State
    ruling: Ruling = Ruling.OPEN
    error: Text = ""


class VoidMove(Command, frozen=True, kw_only=True):
    """The move never begins, or ends as if it had not: its manager gave it up without knowing whether it has begun."""

    SINCE: ClassVar[int] = 5
    job: Label
    guest: Name
    source: Name
    target: Name


# -- whose word it is -------------------------------------------------------------------------------------------------


class Signed(Command, frozen=True, kw_only=True):
    """The command in `body`, signed by `node:NAME` or `member:NUMBER`; see `signing.py`.

    A command of its own and no field of the envelope: members that don't know it yet refuse it as `too-new` before they
    look at it, as those do that know it while it is not in force.
    """

    SINCE: ClassVar[int] = 5
    signer: Label
    signature: Signature
    body: Annotated[bytes, Meta(max_length=COMMAND_BYTES_MAX)]


MemberCommand = EnrolMember | AddMember | RemoveMember
AuthorCommand = EnrolNode | VouchNode
ClusterCommand = (
    Upgrade | JoinNode | MemberCommand | AuthorCommand | DrainNode | RemoveNode | SetPolicy | RemovePolicy | SetFlag
)
LeaseCommand = SetTerms | AcquireLease | RenewLease | ExpireLease | AttestExpiry | YieldLease | Override
GuestCommand = DefineGuest | RemoveGuest | StartGuest | StopGuest | FailOver | SetReplica | MarkReplica | RemoveReplica
MoveCommand = BeginMove | AdvanceMove | CommitMove | EndMove | VoidMove
SessionCommand = OpenSession | CloseSession
AnyCommand = ClusterCommand | LeaseCommand | GuestCommand | MoveCommand | SessionCommand
LoggedCommand = AnyCommand | Signed


def seal(command: LoggedCommand, *, by: str, session: int = 0, number: int = 0, at_ms: int = 0) -> bytes:
    """The bytes of one entry of the log."""
    body = msgspec.msgpack.encode(command)
    envelope = Envelope(version=since(command), session=session, number=number, by=by, at_ms=at_ms, body=body)
    return msgspec.msgpack.encode(envelope)


def since(command: LoggedCommand) -> int:
    """The version of the rules that an entry with `command` needs."""
    return max(command.SINCE, plain(command.body).SINCE) if isinstance(command, Signed) else command.SINCE


def plain(body: bytes) -> AnyCommand:
    """The command in the body of a signed one.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError: there is none.
    """
    return _plain.decode(body)


_plain: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
