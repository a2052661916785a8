"""Rules for the members of the control state: who they are, and which keys they sign with."""

import msgspec
from msgspec.structs import replace

from actors.consensus.ready import Evidence
from actors.control.commands import EnrolMember, ExcludeMember
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.model import ControlState, Member

MEMBERS_MAX = 1024
"""Records of members that are and were."""
_evidence = msgspec.msgpack.Decoder(Evidence)


def enrol(state: ControlState, command: EnrolMember, asked: Asked) -> Outcome:
    """Keep a member's key; it is kept for ever.

    Raises:
        Refused: somebody else asks, or the number belongs to another node or has another key.
    """
    if asked.by != f"member:{command.node}":
        raise Refused(Refusal.NOT_YOURS, f"only the member on {command.node} can say its key, not {asked.by}")
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
