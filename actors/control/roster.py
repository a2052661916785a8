"""Who is who among the members, and what is to change: the founders, and what the control state says of later ones."""

from actors.consensus.ready import Member, Membership
from actors.control.member_rules import under_way, wanted
from actors.control.members import Founder
from actors.control.shell import Shell


class Roster:
    """As member `me` knows it from what it has applied.

    Args:
        founders: who founded the state.
        found: the members that were there when this one joined: all that it knows until it has the state.
    """

    def __init__(self, me: Founder, founders: tuple[Founder, ...], found: tuple[Founder, ...], shell: Shell) -> None:
        self.me, self.founders = me, founders
        self._found, self._shell = found, shell

    def everybody(self) -> dict[Member, Founder]:
        """All that are or were members, by number."""
        seats = self._shell.replica.state.seats.values()
        later = [Founder(number=each.number, node=each.node, site=each.site, role=each.role) for each in seats]
        return {each.number: each for each in (*self.founders, *self._found, self.me, *later)}

    def current(self) -> tuple[Founder, ...]:
        """The members by number, those included that are joining or leaving."""
        everybody, members = self.everybody(), self._shell.core.membership
        taking_part = {*members.voters, *members.learners}
        if not taking_part:
            taking_part = {each.number for each in (*self._found, self.me)}
        state = self._shell.replica.state
        taking_part |= {seat.number for seat in state.seats.values() if wanted(state, seat)}
        return tuple(everybody[number] for number in sorted(taking_part & everybody.keys()))

    def change_of(self, number: Member) -> str:
        """'joins', 'leaves' or ''."""
        seat = under_way(self._shell.replica.state, self._shell.among)
        if seat is None or seat.number != number:
            return ""
        return "leaves" if seat.left else "joins"

    def left(self) -> bool:
        """Whether this member was taken out, and knows that the others have done so."""
        seat, members = self._shell.replica.state.seats.get(str(self.me.number)), self._shell.among
        return seat is not None and seat.left and self.me.number not in members.voters + members.learners


_CLOSE_ENTRIES = 64
"""A learner that lacks no more of the log may vote: it catches up with the rest before it could hold anything up."""


def advance(shell: Shell, roster: Roster) -> None:
    """The next step of the change that is under way, if this member is the one to take it: Raft's leader.

    A new member first learns, and votes once it has the log and its key is known. A leader that is to go lets another
    one lead, which then takes it out.
    """
    state, members = shell.replica.state, shell.core.membership
    if not shell.has_image and (members != _founding(roster) or under_way(state, shell.among) is not None):
        # Who joins begins with the state's bytes, and nobody has those of a founder's first snapshot.
        shell.make_snapshot()
        return
    seat = under_way(state, shell.among)
    if seat is None or not shell.leads:
        return
    number = seat.number
    voters, learners = set(members.voters), set(members.learners)
    if not seat.left:
        if number in learners and not (str(number) in state.members and _is_close(shell, number)):
            return
        (voters if number in learners else learners).add(number)
        learners -= voters
    elif number == shell.me and voters - {number}:
        close = [each for each in voters - {number} if _is_close(shell, each)]
        if close:
            shell.hand_over(max(close, key=lambda each: shell.heard_ms.get(each, 0.0)))
        return
    else:
        voters.discard(number)
        learners.discard(number)
    shell.change(Membership(tuple(sorted(voters)), tuple(sorted(learners))))


def _is_close(shell: Shell, member: Member) -> bool:
    match = shell.matches.get(member, 0)
    return match > 0 and match >= shell.core.commit - _CLOSE_ENTRIES


def _founding(roster: Roster) -> Membership:
    return Membership(tuple(each.number for each in roster.founders))
