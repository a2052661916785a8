"""Rules for who may say what where members may lie, and for the keys by which they know whose word it is.

In BFT a signature proves which node asked, and nothing else does: an operator is whoever uses a node's API, so what an
operator says counts as that node's word, and is held to what that node may say. docs/control.md has the table.
"""

from typing import assert_never

from actors.control import lease_rules
from actors.control.attest import is_vouched
from actors.control.commands import (
    AcquireLease,
    AddMember,
    AdvanceMove,
    AnyCommand,
    AttestExpiry,
    AuthorCommand,
    BeginMove,
    CloseSession,
    CommitMove,
    DefineGuest,
    DrainNode,
    EndMove,
    EnrolMember,
    EnrolNode,
    ExpireLease,
    FailOver,
    GuestCommand,
    JoinNode,
    MarkReplica,
    MoveCommand,
    OpenSession,
    Override,
    RemoveGuest,
    RemoveMember,
    RemoveNode,
    RemovePolicy,
    RemoveReplica,
    RenewLease,
    SessionCommand,
    SetFlag,
    SetPolicy,
    SetReplica,
    SetTerms,
    StartGuest,
    StopGuest,
    Upgrade,
    VoidMove,
    VouchNode,
    YieldLease,
)
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.model import Author, ControlState, Node, Run, Vouch, Word
from actors.control.ownership import NODES_MAX, guest_of, job_of, node_of

WAY_OUT = "set consensus.mode to raft on every node, restart the nodes one after the other, do it, and set it back"
NEW_PER_MEMBER_MAX = 16
"""New nodes that a member may have vouched for without enough others."""
_FIRST_TERMS = 1
_Leases = SetTerms | AcquireLease | RenewLease | YieldLease
_Nodes = (
    _Leases | GuestCommand | MoveCommand | SessionCommand | EnrolNode | DrainNode | SetPolicy | RemovePolicy | SetFlag
)
"""What nodes ask for."""


def decide(state: ControlState, command: AuthorCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case EnrolNode():
            return _enrol(state, command, asked)
        case VouchNode():
            return _vouch(state, command, asked)


def may_say(state: ControlState, command: AnyCommand, asked: Asked) -> None:
    """Refuse what its author may not say where members may lie. Every command is named here, on purpose.

    Raises:
        Refused: `not-yours`, or `not-in-bft` where no signature could tell it from a lie.
    """
    match command:
        case Upgrade() | JoinNode() | EnrolMember():
            _as_member(state, command, asked)
        case ExpireLease() | AttestExpiry() | VouchNode() | AddMember() | RemoveMember():
            # Their own rules say whose word they are, or that they are nobody's in BFT.
            pass
        case Override() | RemoveNode():
            raise Refused(
                Refusal.NOT_IN_BFT,
                f"members agree in BFT now, where a node that lies could ask for this in an operator's name: {WAY_OUT}",
            )
        case _:
            if not asked.author:
                raise Refused(Refusal.NOT_YOURS, f"{asked.by} can't ask for this: only a node can")
            _as_node(state, command, asked.author)


def _as_node(state: ControlState, command: _Nodes, author: str) -> None:
    match command:
        case SetTerms():
            _careful(state, command)
        case (
            DefineGuest() | RemoveGuest() | StartGuest() | StopGuest() | FailOver()
            | SetReplica() | MarkReplica() | RemoveReplica()
        ):  # fmt: skip
            _about_guest(state, command, author)
        case BeginMove():
            _of_its_site(state, guest_of(state, command.guest).node, author)
        case AdvanceMove() | CommitMove() | EndMove():
            _of_its_site(state, job_of(state, command.job).source, author)
        case VoidMove():
            known = state.jobs.get(command.job)
            _of_its_site(state, known.source if known else command.source, author)
        case AcquireLease() | RenewLease() | YieldLease() | EnrolNode():
            # Their own rules: the node itself.
            pass
        case OpenSession() | CloseSession() | DrainNode() | SetPolicy() | RemovePolicy() | SetFlag():
            # Any node, for its operators.
            pass
        case _:
            assert_never(command)


def _as_member(state: ControlState, command: Upgrade | JoinNode | EnrolMember, asked: Asked) -> None:
    """Only a member that takes part says these, and of its own node only what it knows."""
    numbers = [each.number for each in state.members.values() if f"member:{each.node}" == asked.by]
    if asked.author or not set(numbers) & set(asked.among.voters):
        raise Refused(Refusal.NOT_YOURS, f"only a member can say this, not {asked.by}")
    if not isinstance(command, JoinNode):
        return
    known = state.nodes.get(command.node)
    if (
        asked.by != f"member:{command.node}"
        or known is None
        or (known.site, known.role) != (command.site, command.role)
    ):
        raise Refused(
            Refusal.NOT_IN_BFT,
            "in BFT a member says of its own node which rules it knows, and nothing else: a new node is known once"
            f" f + 1 members have seen it; for another site or role {WAY_OUT}",
        )


def _careful(state: ControlState, command: SetTerms) -> None:
    """The first terms only, and none under which guests might run twice where they would not under those now."""
    now = state.cluster.terms
    if now.number != _FIRST_TERMS or command.pause_ms < now.pause_ms or command.drift_ppm < now.drift_ppm:
        raise Refused(
            Refusal.NOT_IN_BFT,
            f"members agree in BFT now, where a node that lies could change the terms of everybody's lease: {WAY_OUT}",
        )


def _about_guest(state: ControlState, command: GuestCommand, author: str) -> None:
    guest = state.guests.get(command.guest)
    at = guest.node if guest is not None else ""
    match command:
        case StartGuest():
            _only(author, command.node)
        case FailOver():
            _only(author, command.to)
        case MarkReplica():
            _only(author, command.node)
        case RemoveReplica():
            _only(author, at, command.node)
        case SetReplica():
            _only(author, at)
        case RemoveGuest():
            _only(author, at or author)
        case DefineGuest():
            # A guest that runs nowhere may be defined wherever it will run next.
            _only(author, at if guest is not None and guest.run is Run.RUNNING else author)
        case StopGuest():
            # Its own rule: the owner, or anybody once the owner's lease has ended.
            pass
        case _:
            assert_never(command)


def _only(author: str, *nodes: str) -> None:
    if author not in nodes:
        raise Refused(Refusal.NOT_YOURS, f"only {' or '.join(filter(None, nodes))} can ask for this, not {author}")


def _of_its_site(state: ControlState, source: str, author: str) -> None:
    """A move is led by the manager of its source's site, whose nodes are one Ray cluster and can't guard against each
    other."""
    site = state.nodes[source].site if source in state.nodes else ""
    if state.nodes[author].site != site:
        raise Refused(Refusal.NOT_YOURS, f"only a node of site {site or '-'} leads moves from {source}, not {author}")


# -- keys -------------------------------------------------------------------------------------------------------------


def _enrol(state: ControlState, command: EnrolNode, asked: Asked) -> Outcome:
    """Keep a node's key, or find that it is known: either way with a number for a session."""
    if asked.author != command.node:
        raise Refused(Refusal.NOT_YOURS, f"only {command.node} can say its key, and signs with it")
    node = node_of(state, command.node)
    known = state.authors.get(node.name)
    if known is not None and known.key == command.key:
        return Outcome(number=asked.index, tells=False)
    if asked.among.bft:
        raise Refused(Refusal.NOT_IN_BFT, "one member's word for a node's key proves nothing here: f + 1 vouch for it")
    if known is not None:
        raise Refused(
            Refusal.STALE,
            f"{node.name} signs with another key: as long as members agree in Raft it goes on without signing; in BFT"
            " the members that see its certificate vouch for the new one",
        )
    return Outcome(changes=_kept(state, node.name, command.key), number=asked.index)


def _vouch(state: ControlState, command: VouchNode, asked: Asked) -> Outcome:
    """Count a member's word for a node's key; with enough the node is known by it."""
    member = state.members.get(str(command.member))
    if member is None or command.member not in asked.among.voters or not is_vouched(command, member.key):
        raise Refused(Refusal.NOT_YOURS, f"member {command.member} has no say, or did not sign that")
    name, known = command.node, state.authors.get(command.node)
    if (known.key if known is not None else "") != command.after:
        raise Refused(Refusal.STALE, f"the key of {name} is another one than the one that is to be replaced")
    if name not in state.nodes:
        _room_for_new(state, command)
    before = state.vouches[name].words if name in state.vouches else ()
    said = Word(member=command.member, site=command.site, key=command.key)
    words = (*(each for each in before if each.member not in (said.member,)), said)
    words = tuple(sorted((each for each in words if each.member in asked.among.voters), key=lambda each: each.member))
    same = [each for each in words if (each.site, each.key) == (said.site, said.key)]
    needed = lease_rules.attestations(len(asked.among.voters))
    told = f"{len(same)} of {needed} members vouch for the key of {name}"
    if len(same) < needed:
        return Outcome(changes=(Change("vouches", name, Vouch(node=name, words=words)),), detail=told)
    changes = _kept(state, name, command.key)
    if name not in state.nodes:
        node = Node(name=name, site=command.site, joined_at_ms=asked.at_ms)
        changes = (Change("nodes", name, node), *changes)
    return Outcome(changes=changes, number=asked.index, detail=told)


def _room_for_new(state: ControlState, command: VouchNode) -> None:
    if len(state.nodes) >= NODES_MAX:
        raise Refused(Refusal.FULL, f"there are {NODES_MAX} nodes, which is all there can be")
    others = [each for name, each in state.vouches.items() if name not in state.nodes and name != command.node]
    if sum(any(word.member == command.member for word in each.words) for each in others) >= NEW_PER_MEMBER_MAX:
        raise Refused(
            Refusal.FULL, f"member {command.member} alone vouches for {NEW_PER_MEMBER_MAX} new nodes, which is enough"
        )


def _kept(state: ControlState, node: str, key: str) -> tuple[Change, ...]:
    over = (Change("vouches", node, None),) if node in state.vouches else ()
    return (Change("authors", node, Author(node=node, key=key)), *over)
