"""What a member does by itself: joins the configured nodes, says which rules it knows, ends leases that were let go,
and carries changes of the members out."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.config.schema import Topology
from actors.consensus.chain import Protocol
from actors.control.attest import attested
from actors.control.commands import AnyCommand, AttestExpiry, EnrolMember, ExpireLease, JoinNode, Upgrade, seal
from actors.control.keys import public_of
from actors.control.lease_rules import ATTESTED_SINCE
from actors.control.member_rules import CHANGES_SINCE
from actors.control.members import role_in
from actors.control.model import VERSION
from actors.control.roster import Roster, advance
from actors.control.shell import Shell
from actors.control.signing import SIGNED_SINCE, seal_signed
from actors.control.switching import Switching

_AGAIN_MS = 5000.0
_EVERY_MS = 500.0


class Chores:
    """Those of one member. A proposal that is lost is made again; one that is doubled changes nothing.

    `secret`: what it signs with.
    """

    def __init__(
        self,
        shell: Shell,
        roster: Roster,
        topology: Topology,
        secret: Ed25519PrivateKey,
        switching: Switching,
    ) -> None:
        me, self._roster, self._secret = roster.me, roster, secret
        self._shell, self._by, self._switching = shell, f"member:{me.node}", switching
        self._enrol = EnrolMember(number=me.number, node=me.node, site=me.site, role=me.role, key=public_of(secret))
        members = {each.node for each in (*roster.founders, me)}
        nodes = [(node.name, site) for site in topology.sites for node in site.nodes]
        # Members last, this one at the very end: once it is known, so are all.
        nodes.sort(key=lambda each: (each[0] in members, each[0] == me.node))
        self._joins = [
            JoinNode(
                node=name,
                site=site.name,
                role=role_in(site),
                speaks=VERSION if name == me.node else 0,
            )
            for name, site in nodes
        ]
        self._own = self._joins[-1]
        self._known: set[str] = set()
        self._asked_ms: dict[tuple[str, int, int], float] = {}
        self._looked_ms = 0.0

    def look(self, now_ms: float, at_ms: int) -> None:
        """See what there is to do, at most twice a second. `at_ms`: Unix time, for the record."""
        if now_ms - self._looked_ms < _EVERY_MS:
            return
        self._looked_ms = now_ms
        if self._roster.left():
            return
        shell, state = self._shell, self._shell.replica.state
        mine = state.nodes.get(self._own.node)
        # A leader that is not known yet joins in its turn, below.
        speaks_anew = mine.speaks != VERSION if mine is not None else not shell.proposes
        if speaks_anew and shell.core.leader:
            self._ask(self._own, ("", 0, 0), now_ms, at_ms)
        if state.cluster.version >= EnrolMember.SINCE and str(self._enrol.number) not in state.members:
            self._ask(self._enrol, ("enrol", 0, 0), now_ms, at_ms)
        if shell.proposes:
            self._propose(now_ms, at_ms)
        if state.cluster.version >= CHANGES_SINCE and shell.core.protocol is Protocol.RAFT and not shell.core.sealed:
            advance(shell, self._roster)
        self._switching.look(shell, now_ms)
        self._asked_ms = {key: asked for key, asked in self._asked_ms.items() if now_ms - asked < _AGAIN_MS}

    def _propose(self, now_ms: float, at_ms: int) -> None:
        shell, state = self._shell, self._shell.replica.state
        members = [each.node for each in self._roster.current()]
        speak = [state.nodes[name].speaks for name in members if name in state.nodes]
        if state.cluster.version < VERSION and len(speak) == len(members) and min(speak) >= VERSION:
            self._ask(Upgrade(to=VERSION), ("upgrade", 0, 0), now_ms, at_ms)
        trusts = shell.trusts or state.cluster.version < SIGNED_SINCE
        for join in self._joins:
            if join.node in state.nodes:
                # One that an operator removes later is not joined again before this member's next start.
                self._known.add(join.node)
            elif join.node not in self._known and trusts:
                # In BFT a node is known once f + 1 members have seen it.
                self._ask(join, (join.node, 0, 0), now_ms, at_ms)
        for expiry in shell.replica.book.due(now_ms):
            self._end(expiry, now_ms, at_ms)

    def _end(self, expiry: ExpireLease, now_ms: float, at_ms: int) -> None:
        """Say that a lease has run out: by one member's word in Raft, by the signatures of f + 1 in BFT."""
        shell, state = self._shell, self._shell.replica.state
        key = (expiry.node, expiry.number, expiry.renewal + 1)
        if shell.core.protocol is Protocol.RAFT or state.cluster.version < ATTESTED_SINCE:
            self._ask(expiry, key, now_ms, at_ms)
            return
        known = state.expiries.get(expiry.node)
        said = known is not None and (known.number, known.renewal) == (expiry.number, expiry.renewal)
        if known is None or not said or shell.me not in known.members:
            self._ask(attested(expiry, shell.me, self._secret.sign), key, now_ms, at_ms)

    def _ask(self, command: AnyCommand, key: tuple[str, int, int], now_ms: float, at_ms: int) -> None:
        if now_ms - self._asked_ms.get(key, float("-inf")) < _AGAIN_MS:
            return
        self._asked_ms[key] = now_ms
        state = self._shell.replica.state
        # Who has not enrolled yet can't sign, and what is attested is signed as it is.
        enrolled = str(self._shell.me) in state.members and state.cluster.version >= SIGNED_SINCE
        if enrolled and not isinstance(command, AttestExpiry):
            signer = f"member:{self._shell.me}"
            entry = seal_signed(command, signer, self._secret.sign, by=self._by, at_ms=at_ms)
        else:
            entry = seal(command, by=self._by, at_ms=at_ms)
        self._shell.submit(entry, lambda _: None)
