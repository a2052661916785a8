"""How the members stand, as one of them sees it."""

from actors.consensus.bft.rules import RULES
from actors.consensus.chain import Protocol
from actors.control.messages import ClusterView, MemberView
from actors.control.roster import Roster
from actors.control.shell import Shell

_HEARD_MS = 5000.0


def view_of(shell: Shell, roster: Roster, now_ms: float, configured: str) -> ClusterView:
    """The view of the member whose shell and roster these are; `configured`: the mode that is asked for."""
    me = roster.me
    core, state, matches = shell.core, shell.replica.state, shell.matches
    everybody, current = roster.everybody(), {each.number for each in roster.current()}
    shown = current | {int(number) for number, one in state.members.items() if one.caught}
    members = []
    for each in (everybody[number] for number in sorted(shown & everybody.keys())):
        match, heard = matches.get(each.number, -1), shell.heard_ms.get(each.number)
        silent_s = 0.0 if each.number == me.number else -1.0 if heard is None else max(0.0, now_ms - heard) / 1000
        known = state.members.get(str(each.number))
        members.append(
            MemberView(
                number=each.number,
                node=each.node,
                site=each.site,
                role=each.role,
                leads=each.number == core.leader,
                votes=each.number in core.membership.voters,
                caught=known.caught if known is not None else "",
                match=match,
                lag=max(0, shell.last - match) if match >= 0 else -1,
                silent_s=round(silent_s, 3),
                change=roster.change_of(each.number),
            )
        )
    return ClusterView(
        node=me.node,
        mode=core.protocol.name.lower(),
        configured=configured,
        part=core.part,
        leader=everybody[core.leader].node if core.leader in everybody else "",
        settled=_settled(shell, now_ms),
        term=core.term,
        last=shell.last,
        commit=core.commit,
        applied=state.applied,
        revision=state.revision,
        version=state.cluster.version,
        lineage=state.cluster.lineage,
        snapshot=shell.snapshot_index,
        members=members,
    )


def _settled(shell: Shell, now_ms: float) -> bool:
    """Raft has no leader without a majority for long; a view of BFT has one whoever is there."""
    if shell.core.protocol is Protocol.RAFT:
        return shell.core.leader != 0
    voters = shell.core.membership.voters
    heard = [n for n in voters if n == shell.me or now_ms - shell.heard_ms.get(n, float("-inf")) < _HEARD_MS]
    return len(heard) >= RULES.quorum(len(voters))
