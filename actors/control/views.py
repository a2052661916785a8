"""How the members stand, as one of them sees it."""

from actors.control.members import Founder
from actors.control.messages import ClusterView, MemberView
from actors.control.shell import Shell

MODE = "raft"


def view_of(shell: Shell, me: Founder, founders: tuple[Founder, ...], now_ms: float) -> ClusterView:
    """The view of member `me`, whose shell this is."""
    core, state = shell.core, shell.replica.state
    names = {each.number: each.node for each in founders}
    matches = {**core.matches, me.number: core.last} if core.leads else {}
    members = []
    for each in founders:
        match, heard = matches.get(each.number, -1), shell.heard_ms.get(each.number)
        silent_s = 0.0 if each is me else -1.0 if heard is None else max(0.0, now_ms - heard) / 1000
        members.append(
            MemberView(
                number=each.number,
                node=each.node,
                site=each.site,
                role=each.role,
                leads=each.number == core.leader,
                match=match,
                lag=core.last - match if match >= 0 else -1,
                silent_s=round(silent_s, 3),
            )
        )
    return ClusterView(
        node=me.node,
        mode=MODE,
        leader=names.get(core.leader, ""),
        settled=core.leader != 0,
        term=core.term,
        last=core.last,
        commit=core.commit,
        applied=state.applied,
        revision=state.revision,
        version=state.cluster.version,
        lineage=state.cluster.lineage,
        snapshot=shell.snapshot_index,
        members=members,
    )
