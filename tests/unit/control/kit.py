"""A control state that commands are applied to, with everything checked after each one."""

from hashlib import blake2b

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.control import snapshot
from actors.control.commands import (
    AcquireLease,
    AttestExpiry,
    DefineGuest,
    EnrolMember,
    EnrolNode,
    JoinNode,
    OpenSession,
    SetTerms,
    StartGuest,
    Upgrade,
    VouchNode,
    seal,
)
from actors.control.decision import UNTOLD, Electorate
from actors.control.engine import apply
from actors.control.invariants import faults
from actors.control.keys import public_of
from actors.control.model import VERSION, ControlState
from actors.control.signing import must_be_signed, seal_signed

BFT = Electorate(voters=(1, 2, 3, 4), bft=True)


def secret_of(signer: str) -> Ed25519PrivateKey:
    """The key of `node:NAME` or `member:NUMBER` in tests."""
    return Ed25519PrivateKey.from_private_bytes(blake2b(signer.encode(), digest_size=32).digest())


def enrolment(node: str, *, secret: Ed25519PrivateKey | None = None, at_ms: int = 0) -> bytes:
    """The entry with which a node says its key."""
    secret, by = secret or secret_of(f"node:{node}"), f"node:{node}"
    return seal_signed(EnrolNode(node=node, key=public_of(secret)), by, secret.sign, by=by, at_ms=at_ms)


class Cluster:
    """Applies commands; a twin that began from a snapshot must always agree."""

    def __init__(self) -> None:
        self.among = UNTOLD
        self.state = ControlState()
        self.twin = ControlState()
        self.events = []
        self.audit = []
        self.places: dict[tuple[str, str], list[int]] = {}

    def raw(self, entry: bytes):
        index = self.state.applied + 1
        applied = apply(self.state, index, entry, self.among)
        assert apply(self.twin, index, entry, self.among).result == applied.result
        assert faults(self.state) == []
        self.events += applied.events
        if applied.audit:
            self.audit.append(applied.audit)
        return applied.result

    def ask(self, command, by="operator:ann", *, via="", **placed):
        """Ask as an honest node or member does: where it has to be signed it is, by the node `via` for an operator."""
        if isinstance(command, EnrolNode):
            return self.raw(enrolment(command.node))
        carries_its_own = isinstance(command, AttestExpiry | VouchNode)
        if not must_be_signed(self.state, self.among) or carries_its_own:
            return self.raw(seal(command, by=by, **placed))
        signer = self.signer(by, via)
        if signer.startswith("node:") and "session" not in placed:
            placed |= self.place(by, signer)
        if not signer:
            return self.raw(seal(command, by=by, **placed))
        return self.raw(seal_signed(command, signer, secret_of(signer).sign, by=by, **placed))

    def signer(self, by, via="") -> str:
        kind, _, name = by.partition(":")
        if kind == "member":
            numbers = [each.number for each in self.state.members.values() if each.node == name]
            return f"member:{max(numbers)}" if numbers else ""
        node = via or (name if kind == "node" else min(self.state.authors, default=""))
        return f"node:{node}" if self.state.authors else ""

    def place(self, by, signer):
        """The next number in a session of its own; nobody's, if the node has no key."""
        if signer.removeprefix("node:") not in self.state.authors:
            return {"session": 1, "number": 1}
        at = self.places.get((by, signer))
        if at is None or str(at[0]) not in self.state.sessions:
            number = self.raw(enrolment(signer.removeprefix("node:"))).number
            opening = seal_signed(OpenSession(), signer, secret_of(signer).sign, by=by, number=number)
            at = self.places[by, signer] = [self.raw(opening).number, 0]
        at[1] += 1
        return {"session": at[0], "number": at[1]}

    def enrolled(self, *nodes) -> None:
        """The nodes, and the four members m1 to m4, say their keys while members agree in Raft; then it is BFT."""
        for number in BFT.voters:
            key = public_of(secret_of(f"member:{number}"))
            self.done(EnrolMember(number=number, node=f"m{number}", site="x", key=key), by=f"member:m{number}")
        for node in nodes:
            assert self.raw(enrolment(node)).accepted
        self.among = BFT

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
        "authors",
        "vouches",
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
