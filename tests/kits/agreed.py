"""The control state without members: commands go to the real state machine at once, unless there is no majority."""

from actors.control import engine
from actors.control.author_rules import may_say
from actors.control.commands import AcquireLease, AnyCommand, JoinNode, Upgrade, seal
from actors.control.decision import Asked, Refused
from actors.control.messages import ClusterView, Outcome
from actors.control.model import VERSION, ControlState, Guest, Job, Lease, Node, Terms
from actors.control.ownership import Standing, standing
from actors.errors import GuestUnknown, JobUnknown, NoMajority, StateRefused


class Agreed:
    """What `StateClient` offers, over one state.

    `away`: nobody answers. `lost_answers`: so many commands are agreed on without their proposer hearing of it. `bft`:
    commands are those that their authors may say where members may lie.
    """

    def __init__(self, *nodes: str, version: int = VERSION) -> None:
        self.state = ControlState()
        self.away = self.bft = False
        self.lost_answers = 0
        self.asked: list[AnyCommand] = []
        for node in nodes:
            self.must(JoinNode(node=node, site=node, speaks=VERSION), "operator:test")
        self.must(Upgrade(to=version), "operator:test")

    def must(self, command: AnyCommand, by: str) -> int:
        """Apply a command that has to be accepted; what it granted."""
        result = engine.apply(self.state, self.state.applied + 1, seal(command, by=by)).result
        assert result.accepted, result
        return result.number

    def lease_for(self, node: str) -> None:
        """Have `node` hold a lease."""
        last = self.state.leases.get(node)
        after, terms = last.number if last else 0, self.state.cluster.terms.number
        self.must(AcquireLease(node=node, after=after, boot="b", terms=terms), f"node:{node}")

    async def submit(self, command: AnyCommand, *, by: str, deadline_s: float = 15.0) -> Outcome:
        self._answers(type(command).__name__, deadline_s)
        self.asked.append(command)
        if self.bft:
            try:
                may_say(self.state, command, Asked(self.state.applied + 1, by, 0, author=by.removeprefix("node:")))
            except Refused as no:
                raise StateRefused(refusal=no.code, detail=no.detail) from no
        result = engine.apply(self.state, self.state.applied + 1, seal(command, by=by)).result
        if self.lost_answers:
            self.lost_answers -= 1
            raise NoMajority(what=type(command).__name__, deadline_s=deadline_s, outcome="unknown", reason="lost")
        if not result.accepted:
            raise StateRefused(refusal=result.code, detail=result.detail)
        return Outcome(index=result.index, number=result.number, detail=result.detail)

    async def standing(self, guest: str, node: str, *, deadline_s: float = 15.0) -> Standing:
        self._answers("standing", deadline_s)
        return standing(self.state, guest, node)

    async def guest(self, name: str, *, deadline_s: float = 15.0) -> Guest:
        self._answers("guest", deadline_s)
        if name not in self.state.guests:
            raise GuestUnknown(guest=name)
        return self.state.guests[name]

    async def guests(self, *, deadline_s: float = 15.0) -> list[Guest]:
        self._answers("guests", deadline_s)
        return sorted(self.state.guests.values(), key=lambda each: each.name)

    async def nodes(self, *, deadline_s: float = 15.0) -> list[Node]:
        self._answers("nodes", deadline_s)
        return sorted(self.state.nodes.values(), key=lambda each: each.name)

    async def job(self, name: str, *, deadline_s: float = 15.0) -> Job:
        self._answers("job", deadline_s)
        if name not in self.state.jobs:
            raise JobUnknown(job=name)
        return self.state.jobs[name]

    async def lease(self, node: str, *, deadline_s: float = 15.0) -> Lease | None:
        self._answers("lease", deadline_s)
        return self.state.leases.get(node)

    async def terms(self, *, deadline_s: float = 15.0) -> Terms:
        self._answers("terms", deadline_s)
        return self.state.cluster.terms

    async def cluster(self, *, deadline_s: float = 15.0) -> ClusterView:
        self._answers("cluster", deadline_s)
        applied = self.state.applied
        return ClusterView(
            node="a", mode="bft" if self.bft else "raft", configured="bft", part=1, leader="a", settled=True, term=1,
            last=applied, commit=applied, applied=applied, revision=self.state.revision,
            version=self.state.cluster.version, lineage=0, snapshot=1, members=[],
        )  # fmt: skip

    def _answers(self, what: str, deadline_s: float) -> None:
        if self.away:
            raise NoMajority(what=what, deadline_s=deadline_s, outcome="unknown", reason="nobody answers")
