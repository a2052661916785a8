"""Rules for leases and for the operator's override; docs/control.md has the proof that goes with them."""

from msgspec.structs import replace

from actors.consensus.bft.rules import RULES
from actors.control.attest import is_signed
from actors.control.commands import (
    AcquireLease,
    AttestExpiry,
    ExpireLease,
    LeaseCommand,
    Override,
    RenewLease,
    SetTerms,
    YieldLease,
)
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.leases import wait_ms
from actors.control.model import ControlState, Expiry, Lease, LeaseState, Terms
from actors.control.ownership import holds_lease, lease_of, node_of, risk_of, third_voice

LINEAGE_MAX = 2**20
ATTESTED_SINCE = 4
"""The version of the rules from which on, in BFT, f + 1 members sign the end of a lease."""


def decide(state: ControlState, command: LeaseCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case SetTerms():
            return _terms(state, command)
        case AcquireLease():
            return _acquire(state, command, asked)
        case RenewLease():
            return _renew(state, command, asked)
        case ExpireLease():
            return _expire(state, command, asked)
        case AttestExpiry():
            return _attest(state, command, asked)
        case YieldLease():
            _own(command.node, asked)
            lease = lease_of(state, command.node, command.number)
            return _put(state, replace(lease, state=LeaseState.YIELDED))
        case Override():
            return _override(state, command)


def _put(state: ControlState, lease: Lease, detail: str = "") -> Outcome:
    """Keep `lease`; what was signed of an earlier renewal of it counts no more."""
    over = (Change("expiries", lease.node, None),) if lease.node in state.expiries else ()
    return Outcome(changes=(Change("leases", lease.node, lease), *over), number=lease.number, detail=detail)


def _own(node: str, asked: Asked) -> None:
    if asked.by != f"node:{node}":
        raise Refused(Refusal.NOT_YOURS, f"only the agent of {node} can ask for this, not {asked.by}")


def _on_terms(state: ControlState, number: int) -> Terms:
    terms = state.cluster.terms
    if terms.number != number:
        raise Refused(Refusal.TERMS_CHANGED, f"the terms are number {terms.number} now: read them and ask again")
    return terms


def _terms(state: ControlState, command: SetTerms) -> Outcome:
    old = _on_terms(state, command.after)
    if command.pause_ms * 2 > command.duration_ms:
        raise Refused(Refusal.MALFORMED, "pause_ms may be half of duration_ms at most, or no time is left to renew")
    if command.takeover == "lease" and not third_voice(state.nodes):
        raise Refused(
            Refusal.NO_THIRD_VOICE,
            "leases may end by time only where a majority outlives any one site: three members, and with two sites"
            " a witness",
        )
    terms = Terms(
        number=old.number + 1,
        duration_ms=command.duration_ms,
        pause_ms=command.pause_ms,
        drift_ppm=command.drift_ppm,
        takeover=command.takeover,
    )
    cluster = replace(state.cluster, terms=terms)
    return Outcome(changes=(Change("cluster", "cluster", cluster),), number=terms.number)


def _acquire(state: ControlState, command: AcquireLease, asked: Asked) -> Outcome:
    _own(command.node, asked)
    if node_of(state, command.node).role != "host":
        raise Refused(Refusal.NO_HOST, f"{command.node} is a witness and needs no lease")
    terms = _on_terms(state, command.terms)
    last = state.leases.get(command.node)
    if (last.number if last else 0) != command.after:
        raise Refused(Refusal.STALE, f"{command.node} had lease {last.number if last else 0}, not {command.after}")
    return _put(state, Lease(node=command.node, number=asked.index, boot=command.boot, terms=terms))


def _renew(state: ControlState, command: RenewLease, asked: Asked) -> Outcome:
    _own(command.node, asked)
    lease = lease_of(state, command.node, command.number)
    terms = _on_terms(state, command.terms)
    if command.renewal != lease.renewal + 1:
        raise Refused(Refusal.STALE, f"the newest renewal is {lease.renewal}, so {command.renewal} can't be next")
    return _put(state, replace(lease, renewal=command.renewal, terms=terms))


def _ends(state: ControlState, command: ExpireLease | AttestExpiry) -> Lease:
    """The lease that an expiry is about."""
    lease = lease_of(state, command.node, command.number)
    if lease.renewal != command.renewal:
        raise Refused(Refusal.STALE, f"it was renewed since: renewal {lease.renewal}")
    if lease.terms.takeover == "operator":
        raise Refused(Refusal.LEASE_HELD, "its holder does not pause by itself: only an operator can end this lease")
    return lease


def _expire(state: ControlState, command: ExpireLease, asked: Asked) -> Outcome:
    lease = _ends(state, command)
    if asked.among.bft and state.cluster.version >= ATTESTED_SINCE:
        raise Refused(Refusal.NOT_IN_BFT, "how long one member says that it waited proves nothing here: f + 1 sign it")
    if command.drift_ppm > lease.terms.drift_ppm:
        raise Refused(Refusal.TOO_SOON, f"a clock that drifts by {command.drift_ppm} ppm proves nothing here")
    if command.waited_ms < wait_ms(lease.terms):
        raise Refused(Refusal.TOO_SOON, f"waited {command.waited_ms} ms of {wait_ms(lease.terms)} ms")
    return _put(state, replace(lease, state=LeaseState.EXPIRED))


def _attest(state: ControlState, command: AttestExpiry, asked: Asked) -> Outcome:
    lease, among = _ends(state, command), asked.among
    known = state.members.get(str(command.member))
    if known is None or command.member not in among.voters:
        raise Refused(Refusal.NOT_YOURS, f"member {command.member} has no say")
    if not is_signed(command, known.key):
        raise Refused(Refusal.NOT_YOURS, f"member {command.member} did not sign that")
    before = state.expiries.get(lease.node)
    same = before is not None and (before.number, before.renewal) == (lease.number, lease.renewal)
    signed = {command.member, *(before.members if before is not None and same else ())} & set(among.voters)
    needed = attestations(len(among.voters))
    told = f"{len(signed)} of {needed} members have waited for it"
    if len(signed) >= needed:
        return _put(state, replace(lease, state=LeaseState.EXPIRED), told)
    expiry = Expiry(node=lease.node, number=lease.number, renewal=lease.renewal, members=tuple(sorted(signed)))
    return Outcome(changes=(Change("expiries", lease.node, expiry),), number=lease.number, detail=told)


def attestations(voters: int) -> int:
    """How many of `voters` have to sign the end of a lease: one more than may lie, so that one of them is honest."""
    return RULES.liars(voters) + 1


def _override(state: ControlState, command: Override) -> Outcome:
    for node in command.nodes:
        node_of(state, node)
    risk = risk_of(state, command.nodes)
    if command.risk != risk:
        raise Refused(Refusal.RISK_CHANGED, risk)
    changes = [
        Change("leases", node, replace(state.leases[node], state=LeaseState.OVERRIDDEN))
        for node in sorted(set(command.nodes))
        if holds_lease(state, node)
    ]
    if command.lineage:
        if state.cluster.lineage >= LINEAGE_MAX:
            raise Refused(Refusal.FULL, "no more lineages can be told apart: this cluster must be made anew")
        cluster = replace(state.cluster, lineage=state.cluster.lineage + 1)
        changes.append(Change("cluster", "cluster", cluster))
        # One goes on alone, as a founder that says anew who it is: nobody else is a member, or about to be.
        changes += [Change("seats", number, None) for number in sorted(state.seats)]
        if state.cluster.version >= ATTESTED_SINCE:
            changes += [Change("members", number, None) for number in sorted(state.members)]
    return Outcome(changes=tuple(changes), detail=f"{risk} {command.reason}")
