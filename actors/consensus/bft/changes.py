"""Entries that end an era: a member is excluded, added or removed, or the log goes on in another protocol.

Evidence proves itself, so one member may bring it. Anything else needs f + 1 members that asked for it: a lone liar
can't have an honest member removed.
"""

import msgspec

from actors.consensus.bft.era import Era
from actors.consensus.bft.messages import Ask, Change
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.rules import Rules
from actors.consensus.bft.witness import proves
from actors.consensus.ready import Evidence, Kind, Member, Membership

_ASKS_PER_MEMBER = 4

_evidence = msgspec.msgpack.Decoder(Evidence)
_memberships = msgspec.msgpack.Decoder(Membership)


def membership_after(change: Change, before: Membership) -> Membership | None:
    """The members once `change` is committed; None if it makes no sense with these members."""
    try:
        if change.kind is Kind.SWITCH:
            return before
        if change.kind is Kind.EVIDENCE:
            return _without(_evidence.decode(change.payload).member, before)
        if change.kind is Kind.MEMBERSHIP:
            return _one_apart(_memberships.decode(change.payload), before)
    except msgspec.MsgspecError:
        return None
    return None


def _without(member: Member, before: Membership) -> Membership | None:
    after = Membership(
        tuple(voter for voter in before.voters if voter != member),
        tuple(learner for learner in before.learners if learner != member),
    )
    return after if after != before and after.voters else None


def _one_apart(after: Membership, before: Membership) -> Membership | None:
    listed = after.voters + after.learners
    sane = (
        after.voters
        and len(set(listed)) == len(listed)
        and min(listed) >= 1
        and list(after.voters) == sorted(after.voters)
        and list(after.learners) == sorted(after.learners)
        and len(set(after.voters) ^ set(before.voters)) <= 1
    )
    return after if sane and after != before else None


def justified(change: Change, era: Era, notary: Notary) -> bool:
    """Whether `change` may be voted for in `era`."""
    if membership_after(change, era.membership) is None:
        return False
    if change.kind is Kind.EVIDENCE:
        return not change.asks and proves(_evidence.decode(change.payload), notary)
    members = [member for member, _ in change.asks]
    return (
        len(set(members)) == len(members)
        and notary.rules.is_justified(len(members), era.size)
        and all(
            era.votes(member) and notary.asked(Ask(member, era.number, change.kind, change.payload, signature))
            for member, signature in change.asks
        )
    )


class Asks:
    """The changes that members asked for in this era; a few for each member."""

    def __init__(self) -> None:
        self._asked: dict[tuple[Kind, bytes], dict[Member, Ask]] = {}

    def add(self, ask: Ask, era: Era, notary: Notary) -> None:
        """Keep `ask` if its member may ask, signed it, and has not asked for too much."""
        asked = self._asked.get((ask.kind, ask.payload), {})
        if ask.era != era.number or not era.votes(ask.member) or ask.member in asked:
            return
        if sum(ask.member in others for others in self._asked.values()) >= _ASKS_PER_MEMBER:
            return
        if ask.kind not in (Kind.MEMBERSHIP, Kind.SWITCH) or not notary.asked(ask):
            return
        self._asked.setdefault((ask.kind, ask.payload), {})[ask.member] = ask

    def change(self, era: Era, rules: Rules) -> Change | None:
        """The first change that enough members ask for."""
        for (kind, payload), asks in self._asked.items():
            change = Change(kind, payload, tuple((ask.member, ask.signature) for ask in asks.values()))
            if rules.is_justified(len(asks), era.size) and membership_after(change, era.membership) is not None:
                return change
        return None

    def of(self, member: Member) -> tuple[Ask, ...]:
        """What `member` asked for."""
        return tuple(asks[member] for asks in self._asked.values() if member in asks)

    def clear(self) -> None:
        """A new era: whoever still wants something asks again."""
        self._asked.clear()
