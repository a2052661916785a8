"""Rules for the members of the control state: who they are, who comes and goes, and which keys they sign with."""

import msgspec
from msgspec.structs import replace

from actors.consensus.ready import Evidence
from actors.control.commands import AddMember, EnrolMember, ExcludeMember, MemberCommand, RemoveMember
from actors.control.decision import Asked, Change, Electorate, Outcome, Refusal, Refused
from actors.control.model import ControlState, Member, Seat
from actors.control.ownership import node_of

MEMBERS_MAX = 1024
"""Records of members that are and were."""
VOTERS_MAX = 7
"""Members at one time."""
CHANGES_SINCE = 4
"""The version of the rules from which on members come and go."""
_evidence = msgspec.msgpack.Decoder(Evidence)


def decide(state: ControlState, command: MemberCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case EnrolMember():
            return _enrol(state, command, asked)
        case AddMember():
            return _add(state, command, asked.among)
        case RemoveMember():
            return _remove(state, command, asked.among)


def wanted(state: ControlState, seat: Seat) -> bool:
    """Whether the member of `seat` is to take part."""
    known = state.members.get(str(seat.number))
    return not seat.left and not (known is not None and known.caught)


def under_way(state: ControlState, among: Electorate) -> Seat | None:
    """The seat whose member is yet to become a voter, or to be let go; the least of them if there were several."""
    for seat in sorted(state.seats.values(), key=lambda each: each.number):
        takes_part = seat.number in among.voters + among.learners
        if (wanted(state, seat) and seat.number not in among.voters) or (seat.left and takes_part):
            return seat
    return None


def _add(state: ControlState, command: AddMember, among: Electorate) -> Outcome:
    _changeable(among)
    node = node_of(state, command.node)
    _nothing_under_way(state, among, 0)
    known: dict[str, Member | Seat] = {**state.members, **state.seats}
    for number in among.voters + among.learners:
        one = known.get(str(number))
        if one is not None and one.node == node.name:
            raise Refused(Refusal.ALREADY, f"{node.name} is member {number} already")
    if len(among.voters) >= VOTERS_MAX:
        raise Refused(Refusal.FULL, f"there are {VOTERS_MAX} members, which is all there can be: remove one first")
    # A number is never given twice: who had it has promised things under it.
    number = max([*among.voters, *among.learners, *map(int, known), 0]) + 1
    if len(state.seats) >= MEMBERS_MAX:
        raise Refused(Refusal.FULL, f"there have been {MEMBERS_MAX} members, which is all there can be")
    seat = Seat(number=number, node=node.name, site=node.site, role=node.role)
    return Outcome(
        changes=(Change("seats", str(number), seat),), number=number, detail=f"{node.name} becomes member {number}"
    )


def _remove(state: ControlState, command: RemoveMember, among: Electorate) -> Outcome:
    _changeable(among)
    number, seat = command.number, state.seats.get(str(command.number))
    joins = seat is not None and wanted(state, seat)
    if number not in among.voters + among.learners and not joins:
        raise Refused(Refusal.UNKNOWN, f"there is no member {number}")
    known = seat or state.members.get(str(number))
    if known is None or known.node != command.node:
        is_named = f"is {known.node}, not {command.node}" if known is not None else "has not said who it is yet"
        raise Refused(Refusal.STALE, f"member {number} {is_named}")
    _nothing_under_way(state, among, number)
    if set(among.voters) == {number}:
        raise Refused(Refusal.LAST_MEMBER, f"{command.node} is the only member: add another one first")
    node = node_of(state, command.node)
    left = Seat(number=number, node=node.name, site=node.site, role=node.role, left=True)
    changes = (Change("seats", str(number), left), Change("nodes", node.name, replace(node, speaks=0)))
    return Outcome(changes=changes, number=number, detail=f"member {number}, {node.name}, is taken out for good")


def _changeable(among: Electorate) -> None:
    if among.bft:
        raise Refused(
            Refusal.NOT_IN_BFT,
            "members agree in BFT now, where one that lies could ask for this in an operator's name: set consensus.mode"
            " to raft on every node, restart the nodes one after the other, change the members, and set it back",
        )


def _nothing_under_way(state: ControlState, among: Electorate, number: int) -> None:
    """Refuse while the change of another member than `number` is under way."""
    seat = under_way(state, among)
    if seat is not None and (seat.number != number or seat.left):
        doing = "is being taken out" if seat.left else "joins"
        way_out = "" if seat.left else f", or give it up: novacron member remove {seat.node}"
        raise Refused(
            Refusal.CHANGING, f"one change at a time: member {seat.number}, {seat.node}, {doing} still; wait{way_out}"
        )


def _enrol(state: ControlState, command: EnrolMember, asked: Asked) -> Outcome:
    """Keep a member's key; it is kept for ever."""
    if asked.by != f"member:{command.node}":
        raise Refused(Refusal.NOT_YOURS, f"only the member on {command.node} can say its key, not {asked.by}")
    if state.cluster.version >= CHANGES_SINCE:
        _may_enrol(state, command, asked.among)
    known = state.members.get(str(command.number))
    if known is None and len(state.members) >= MEMBERS_MAX:
        raise Refused(Refusal.FULL, f"there have been {MEMBERS_MAX} members, which is all there can be")
    if known is not None and (known.node, known.key) != (command.node, command.key):
        raise Refused(
            Refusal.STALE,
            f"member {known.number} is {known.node} with the key that it said first: with another disk or key"
            f" {command.node} has to become a member anew, under a new number",
        )
    member = Member(
        number=command.number,
        node=command.node,
        site=command.site,
        role=command.role,
        key=command.key,
        caught=known.caught if known else "",
    )
    return Outcome(changes=(Change("members", str(member.number), member),), number=member.number)


def _may_enrol(state: ControlState, command: EnrolMember, among: Electorate) -> None:
    seat = state.seats.get(str(command.number))
    if seat is not None and (seat.left or seat.node != command.node):
        raise Refused(Refusal.NOT_YOURS, f"member {seat.number} is {seat.node}{', which was taken out' * seat.left}")
    if seat is None and among.voters and command.number not in among.voters:
        raise Refused(Refusal.UNKNOWN, f"there is no member {command.number}")


def excluded(state: ControlState, payload: bytes) -> tuple[ExcludeMember, Change] | None:
    """What the exclusion of a member changes; None: nobody knows it."""
    try:
        evidence = _evidence.decode(payload)
    except msgspec.MsgspecError:
        return None
    known = state.members.get(str(evidence.member))
    if known is None:
        return None
    member = replace(known, caught=evidence.kind[:64] or "a lie")
    command = ExcludeMember(number=known.number, node=known.node, lie=member.caught)
    return command, Change("members", str(known.number), member)
