"""Random commands that are mostly plausible: names of a small world, numbers that the state has or nearly has."""

import random
from typing import get_args

import msgspec

from actors.control import commands as c
from actors.control.attest import attested, vouched
from actors.control.keys import public_of
from actors.control.leases import wait_ms
from actors.control.model import VERSION, ControlState, replica_key
from actors.control.ownership import risk_of
from actors.migration.states import Ruling, State
from tests.unit.control.kit import secret_of

NODES = ("a", "b", "c", "d", "w")
GUESTS = ("web", "db")
SECRETS = {number: secret_of(f"member:{number}") for number in (1, 2)}
"""Of the members that enrol."""
KINDS = tuple(kind for union in get_args(c.AnyCommand) for kind in (get_args(union) or (union,)))

# What builds something up comes more often than what takes it down.
WEIGHTS = {
    c.AcquireLease: 12,
    c.DefineGuest: 5,
    c.StartGuest: 8,
    c.FailOver: 9,
    c.SetReplica: 4,
    c.MarkReplica: 6,
    c.BeginMove: 10,
    c.AdvanceMove: 16,
    c.CommitMove: 16,
    c.EndMove: 8,
    c.JoinNode: 4,
    c.ExpireLease: 7,
    c.EnrolMember: 4,
    c.AttestExpiry: 4,
    c.RemoveMember: 3,
    c.Upgrade: 3,
    c.EnrolNode: 8,
    c.VouchNode: 4,
}


def some_command(rng: random.Random, state: ControlState) -> tuple[c.AnyCommand, str]:
    """A command and who asks for it."""
    (kind,) = rng.choices(KINDS, [WEIGHTS.get(kind, 1) for kind in KINDS])
    node, guest = rng.choice(NODES), rng.choice(GUESTS)
    lease, record = state.leases.get(node), state.guests.get(guest)
    number = (lease.number if lease else 0) + _off(rng)
    epoch = (record.epoch if record else 0) + _off(rng)
    live = [guest.job for guest in state.guests.values() if guest.job]
    job = rng.choice([*live, *live, *live, *list(state.jobs)[-1:], f"m-{state.applied}"])
    terms = state.cluster.terms.number + _off(rng)
    replica = state.replicas.get(replica_key(guest, node))
    fields = {
        c.OpenSession: {},
        c.CloseSession: {"closes": rng.choice([0, *(s.id for s in state.sessions.values())])},
        c.Upgrade: {"to": rng.choice([0, VERSION, VERSION, VERSION])},
        c.JoinNode: {
            "node": node,
            "site": rng.choice("xyz"),
            "role": "witness" if node == "w" else "host",
            "speaks": VERSION,
        },
        c.EnrolMember: {
            "number": rng.choice([1, 2]),
            "node": node,
            "site": "x",
            "key": public_of(SECRETS[rng.choice([1, 2])]),
        },
        c.AddMember: {"node": node},
        c.RemoveMember: _remove(rng, node, state),
        c.AttestExpiry: _attest(rng, node, number, (lease.renewal if lease else 0) + _off(rng)),
        c.EnrolNode: {"node": node, "key": public_of(secret_of(f"node:{node}"))},
        c.VouchNode: _vouch(rng, node, state),
        c.DrainNode: {"node": node, "draining": rng.random() < 0.4},
        c.RemoveNode: {"node": node},
        c.SetPolicy: {"name": "p", "value": str(number)},
        c.RemovePolicy: {"name": "p"},
        c.SetFlag: {"component": "hde", "percent": rng.randrange(101), "nodes_on": frozenset({node})},
        c.SetTerms: {
            "after": terms,
            "duration_ms": 10_000,
            "pause_ms": 2_000,
            "drift_ppm": 100,
            "takeover": rng.choice(["lease", "operator"]),
        },
        c.AcquireLease: {"node": node, "after": number, "boot": "b", "terms": terms},
        c.RenewLease: {
            "node": node,
            "number": number,
            "renewal": (lease.renewal if lease else 0) + 1 + _off(rng),
            "terms": terms,
        },
        c.ExpireLease: {
            "node": node,
            "number": number,
            "renewal": lease.renewal if lease else 0,
            "waited_ms": max(0, (wait_ms(lease.terms) if lease else 1) + _off(rng)),
            "drift_ppm": 100,
        },
        c.YieldLease: {"node": node, "number": number},
        c.Override: {"nodes": (node,), "risk": risk_of(state, (node,)), "reason": "r", "lineage": rng.random() < 0.1},
        c.DefineGuest: {"guest": guest, "definition": "<d/>", "after": record.definition_number if record else 0},
        c.RemoveGuest: {"guest": guest, "epoch": epoch},
        c.StartGuest: {"guest": guest, "node": node, "epoch": epoch},
        c.StopGuest: {"guest": guest, "epoch": epoch},
        c.FailOver: {"guest": guest, "to": node, "epoch": epoch, "checkpoint": rng.choice([-1, 3])},
        c.SetReplica: {"guest": guest, "node": node, "rpo_ms": 1},
        c.MarkReplica: {
            "guest": guest,
            "node": node,
            "generation": replica.generation if replica else 1,
            "of_epoch": epoch,
            "checkpoint": rng.randrange(9),
            "captured_at_ms": 1,
        },
        c.RemoveReplica: {"guest": guest, "node": node},
        c.BeginMove: {"job": job, "guest": guest, "target": node, "epoch": epoch},
        c.AdvanceMove: {"job": job, "state": rng.choice(list(State))},
        c.CommitMove: {"job": job},
        c.EndMove: {"job": job, "state": rng.choice(list(State)), "ruling": rng.choice(list(Ruling))},
        c.VoidMove: {"job": job, "guest": guest, "source": rng.choice(NODES), "target": node},
    }[kind]
    fields = {
        name: max(0, value) if type(value) is int and name != "checkpoint" else value for name, value in fields.items()
    }
    if kind is c.StopGuest and record is not None:
        node = record.node or node
    lease_kinds = (c.AcquireLease, c.RenewLease, c.YieldLease, c.StopGuest)
    if kind is c.VouchNode:
        names = [one.node for one in state.members.values() if one.number == fields["member"]]
        return kind(**fields), f"member:{names[0] if names else 'x'}"
    if kind is c.EnrolMember:
        return kind(**fields), f"member:{node}"
    return kind(**fields), f"node:{node}" if kind in lease_kinds else "operator:ann"


def _off(rng: random.Random) -> int:
    """Mostly right, sometimes one off."""
    return rng.choice([0, 0, 0, 0, 0, 0, 0, 1, -1])


def _attest(rng: random.Random, node: str, number: int, renewal: int) -> dict[str, object]:
    """Signed by a member, mostly by the right one."""
    expiry = c.ExpireLease(node=node, number=max(0, number), renewal=max(0, renewal), waited_ms=0, drift_ppm=0)
    secret = SECRETS[rng.choice(list(SECRETS))]
    return msgspec.structs.asdict(attested(expiry, rng.choice([1, 2, 3]), secret.sign))


def _vouch(rng: random.Random, node: str, state: ControlState) -> dict[str, object]:
    """For a node's key, mostly by the right member."""
    number, known = rng.choice([1, 2]), state.authors.get(node)
    word = vouched(
        node=node,
        site="x",
        key=public_of(secret_of(f"node:{node}")),
        after=known.key if known is not None and rng.random() < 0.8 else "",
        member=number,
        sign=SECRETS[number if rng.random() < 0.9 else 3 - number].sign,
    )
    return msgspec.structs.asdict(word)


def _remove(rng: random.Random, node: str, state: ControlState) -> dict[str, object]:
    """A member that is known, mostly."""
    known = [(each.node, each.number) for each in (*state.members.values(), *state.seats.values())]
    found, number = rng.choice([(node, 3), *known])
    return {"node": found, "number": number}
