"""A control state that commands are applied to, with everything checked after each one."""

from actors.control import snapshot
from actors.control.commands import AcquireLease, DefineGuest, JoinNode, SetTerms, StartGuest, Upgrade, seal
from actors.control.decision import UNTOLD
from actors.control.engine import apply
from actors.control.invariants import faults
from actors.control.model import VERSION, ControlState


class Cluster:
    """Applies commands; a twin that began from a snapshot must always agree."""

    def __init__(self) -> None:
        self.among = UNTOLD
        self.state = ControlState()
        self.twin = ControlState()
        self.events = []
        self.audit = []

    def raw(self, entry: bytes):
        index = self.state.applied + 1
        applied = apply(self.state, index, entry, self.among)
        assert apply(self.twin, index, entry, self.among).result == applied.result
        assert faults(self.state) == []
        self.events += applied.events
        if applied.audit:
            self.audit.append(applied.audit)
        return applied.result

    def ask(self, command, by="operator:ann", **placed):
        return self.raw(seal(command, by=by, **placed))

    def done(self, command, by="operator:ann", **placed):
        result = self.ask(command, by, **placed)
        assert result.accepted, result
        return result.number

    def refused(self, command, by="operator:ann", **placed):
        before = {**_tables(self.state)}
        result = self.ask(command, by, **placed)
        assert not result.accepted
        assert _tables(self.state) == before
        return result.code

    def restart_twin(self) -> None:
        self.twin = snapshot.decode(snapshot.encode(self.twin))

    def agreed(self) -> None:
        assert snapshot.encode(self.state) == snapshot.encode(self.twin)

    # -- shorthands -----------------------------------------------------------------------------------------------

    def joined(self, node, site="london", role="host", speaks=VERSION):
        self.done(JoinNode(node=node, site=site, role=role, speaks=speaks))
        if self.state.cluster.version < speaks == VERSION:
            self.done(Upgrade(to=VERSION))
        if role == "host":
            self.leased(node)

    def leased(self, node, after=None):
        held = self.state.leases.get(node)
        number = (held.number if held else 0) if after is None else after
        command = AcquireLease(node=node, after=number, boot="b1", terms=self.state.cluster.terms.number)
        return self.done(command, by=f"node:{node}")

    def terms(self, takeover="lease", duration_ms=10_000, pause_ms=3_000, drift_ppm=1_000):
        after = self.state.cluster.terms.number
        return SetTerms(after=after, duration_ms=duration_ms, pause_ms=pause_ms, drift_ppm=drift_ppm, takeover=takeover)

    def running(self, guest, node):
        self.done(DefineGuest(guest=guest, definition="<domain/>"))
        return self.done(StartGuest(guest=guest, node=node, epoch=0))


def _tables(state: ControlState):
    names = (
        "cluster",
        "nodes",
        "leases",
        "guests",
        "jobs",
        "replicas",
        "policies",
        "flags",
        "members",
        "seats",
        "expiries",
    )
    return {name: _copied(getattr(state, name)) for name in names} | {"audit": state.audit_count}


def _copied(table):
    return dict(table) if isinstance(table, dict) else table


def three_sites(*, version: int = VERSION) -> Cluster:
    """Three hosts in three sites, all with leases that end by time; rules of `version` are in force."""
    cluster = Cluster()
    for node, site in (("a", "london"), ("b", "paris"), ("c", "berlin")):
        cluster.done(JoinNode(node=node, site=site, role="host", speaks=VERSION))
    if version > 1:
        cluster.done(Upgrade(to=version))
    cluster.done(cluster.terms())
    for node in ("a", "b", "c"):
        cluster.leased(node)
    return cluster
