"""Members of a BFT log together: honest ones, crashed ones, slow ones; liars have their own file."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.consensus.bft.keys import Ed25519Keys
from actors.consensus.bft.messages import Fetch, Propose, Status, Vote
from actors.consensus.ready import Accepted, Kind, Membership, Refused, Why
from tests.unit.consensus.bft.network import SETTINGS, Network


def payloads(count: int, prefix: str = "") -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(count)]


def ask_all(net: Network, wanted: list[bytes]) -> None:
    for at, payload in enumerate(wanted):
        assert isinstance(net[1 + at % 3].core.propose(payload), Accepted)


def everywhere(net: Network, wanted: list[bytes], members: tuple[int, ...] = ()) -> bool:
    return all(sorted(net[m].commands) == sorted(wanted) for m in members or net.hosts if net[m].up)


def nobody_is_accused(net: Network) -> None:
    assert not any(host.evidence for host in net.hosts.values())


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5, 7])
def test_what_is_asked_for_is_committed_once_everywhere_in_one_order(voters: int) -> None:
    net = Network(voters)
    wanted = payloads(50)
    for at, payload in enumerate(wanted):
        net[1 + at % voters].core.propose(payload)
    net.run(lambda: everywhere(net, wanted))
    net.agree()
    nobody_is_accused(net)
    assert all(host.core.term == 1 for host in net.hosts.values()), "a view changed though nothing was wrong"


@pytest.mark.parametrize(("voters", "crashed"), [(4, (4,)), (4, (2,)), (7, (2, 3)), (7, (6, 7))])
def test_f_members_may_be_down(voters: int, crashed: tuple[int, ...]) -> None:
    net = Network(voters, seed=1)
    for member in crashed:
        net.crash(member)
    wanted = payloads(30)
    for at, payload in enumerate(wanted):
        net[(1, 4 if 4 not in crashed else 3)[at % 2]].core.propose(payload)
    net.run(lambda: everywhere(net, wanted))
    net.agree()
    nobody_is_accused(net)


def test_more_than_f_down_commit_nothing_and_lose_nothing() -> None:
    net = Network(4, seed=2)
    net.crash(3), net.crash(4)
    net[1].core.propose(b"later")
    for _ in range(300):
        net.tick()
    assert not any(host.commands for host in net.hosts.values())
    net.restart(3)
    net.run(lambda: everywhere(net, [b"later"]))
    nobody_is_accused(net)


@pytest.mark.parametrize("seed", range(6))
def test_a_leader_that_dies_on_the_way_is_replaced(seed: int) -> None:
    net = Network(4, seed=seed)
    wanted = payloads(40)
    ask_all(net, wanted[:20])
    leader = net[1].core.leader
    for _ in range(seed + 2):
        net.tick()
    net.crash(leader)
    alive = [m for m in net.hosts if m != leader]
    for at, payload in enumerate(wanted[20:]):
        net[alive[at % 3]].core.propose(payload)
    net.run(lambda: all(net[m].core.term > 1 and set(wanted[20:]) <= set(net[m].commands) for m in alive))
    net.restart(leader)
    net.run(lambda: len({host.core.commit for host in net.hosts.values()}) == 1)
    net.agree()
    assert len(set(net[leader].commands)) == len(net[leader].commands), "an entry was committed twice"
    nobody_is_accused(net)


def test_a_member_that_missed_blocks_fetches_them_and_one_that_missed_more_gets_the_state() -> None:
    net = Network(4, seed=3)
    for missed in (5, 150):
        at = net[4].core.commit
        net.crash(4)
        wanted = payloads(missed, f"missed-{missed}-")
        for payload in wanted:
            net[1].core.propose(payload)
            net.run(lambda p=payload: p in net[1].commands and p in net[2].commands)
        assert (net[1].storage.snapshot().index > at) is (missed > 100)
        net.restart(4)
        net.run(lambda: net[4].core.commit == net[1].core.commit)
    net.agree()
    assert net[4].commands == net[1].commands
    nobody_is_accused(net)


def test_the_log_is_forgotten_up_to_a_checkpoint_that_a_quorum_signed() -> None:
    net = Network(4)
    wanted = payloads(60)
    ask_all(net, wanted)
    net.run(lambda: all(host.storage.snapshot().index >= 48 for host in net.hosts.values()))
    assert all(host.storage.snapshot().proof for host in net.hosts.values())
    for member in net.hosts:
        net.restart(member)
    assert everywhere(net, []) or all(len(host.commands) >= 48 for host in net.hosts.values())
    net[2].core.propose(b"after")
    net.run(lambda: everywhere(net, [*wanted, b"after"]))
    net.agree()


def test_everybody_crashing_at_once_loses_nothing_that_was_committed() -> None:
    net = Network(4, seed=5)
    wanted = payloads(20)
    ask_all(net, wanted)
    net.run(lambda: len(net[1].commands) >= 8)
    seen = list(net[1].commands)
    for member in net.hosts:
        net.crash(member)
    net.wire.clear()
    for member in net.hosts:
        net.restart(member)
    net[3].core.propose(b"after")
    net.run(lambda: all(b"after" in host.commands for host in net.hosts.values()))
    assert all(host.commands[: len(seen)] == seen for host in net.hosts.values())
    nobody_is_accused(net)


@pytest.mark.parametrize("seed", range(4))
def test_however_slow_the_network_nobody_is_accused(seed: int) -> None:
    net = Network(4, seed=seed)
    net.slowest = 60
    wanted = payloads(12)
    ask_all(net, wanted)
    net.run(lambda: everywhere(net, wanted), 20_000)
    assert net[1].core.term > 1, "the network was not slow enough to try this"
    net.agree()
    nobody_is_accused(net)


@pytest.mark.parametrize("seed", range(4))
def test_a_third_of_all_messages_may_be_lost(seed: int) -> None:
    net = Network(4, seed=seed)
    net.drops = lambda sender, to, message: net.chance.random() < 0.33
    wanted = payloads(20)
    ask_all(net, wanted)
    net.run(lambda: everywhere(net, wanted), 20_000)
    net.agree()
    nobody_is_accused(net)


def test_a_leader_that_ignores_one_member_is_replaced() -> None:
    net = Network(4, seed=1)
    ignored = 4
    leader = net[1].core.leader
    net.drops = lambda sender, to, message: to == leader and type(message).__name__ == "Submit"
    net[ignored].core.propose(b"unheard")
    net.run(lambda: all(b"unheard" in net[m].commands for m in net.hosts))
    assert net[1].core.leader != leader


def test_a_read_is_answered_after_everything_that_was_committed_before_it() -> None:
    net = Network(4)
    net[1].core.propose(b"before")
    net.run(lambda: b"before" in net[1].commands)
    assert net[3].core.read(b"context") is None
    net.run(lambda: bool(net[3].reads))
    read = net[3].reads[0]
    assert read.context == b"context"
    assert b"before" in [entry.payload for entry in net[3].applied[: read.index]]


def test_what_cannot_be_proposed_is_refused_with_the_reason() -> None:
    core = Network(4)[1].core
    encode = msgspec.msgpack.encode
    assert core.propose(b"x" * (SETTINGS.payload_bytes + 1)) == Refused(Why.TOO_LARGE, core.leader)
    assert core.propose(b"", Kind.EVIDENCE) == Refused(Why.INVALID, core.leader)
    assert core.propose(b"\xff", Kind.MEMBERSHIP) == Refused(Why.INVALID, core.leader)
    assert core.propose(encode(Membership((1, 2, 5, 6))), Kind.MEMBERSHIP) == Refused(Why.INVALID, core.leader)
    assert core.propose(encode(Membership(())), Kind.MEMBERSHIP) == Refused(Why.INVALID, core.leader)
    for number in range(SETTINGS.pending):
        assert isinstance(core.propose(b"%d" % number), Accepted)
    assert core.propose(b"more") == Refused(Why.BUSY, core.leader)


def test_members_are_changed_when_f_plus_one_ask_and_not_before() -> None:
    net = Network(4, extra=1)
    grown = msgspec.msgpack.encode(Membership((1, 2, 3, 4, 5)))
    net[2].core.propose(grown, Kind.MEMBERSHIP)
    for _ in range(100):
        net.tick()
    assert net[1].core.membership.voters == (1, 2, 3, 4)
    net[3].core.propose(grown, Kind.MEMBERSHIP)
    net.run(lambda: all(host.core.membership.voters == (1, 2, 3, 4, 5) for host in net.hosts.values()))
    net.crash(1)
    net[5].core.propose(b"from the new one")
    net.run(lambda: everywhere(net, [b"from the new one"]))
    net.agree()
    nobody_is_accused(net)


def test_a_removed_member_learns_it_and_the_rest_goes_on() -> None:
    net = Network(4)
    fewer = msgspec.msgpack.encode(Membership((1, 2, 4)))
    net[1].core.propose(fewer, Kind.MEMBERSHIP), net[2].core.propose(fewer, Kind.MEMBERSHIP)
    net.run(lambda: all(host.core.membership.voters == (1, 2, 4) for host in net.hosts.values()))
    assert net[3].core.propose(b"x") == Refused(Why.NOT_LEADER, net[3].core.leader)
    net[1].core.propose(b"y")
    net.run(lambda: everywhere(net, [b"y"], (1, 2, 4)))


def test_a_switch_ends_the_log_at_one_place_everywhere() -> None:
    net = Network(4, seed=9)
    ask_all(net, payloads(30))
    for member in (2, 4):
        net[member].core.propose(b"to raft", Kind.SWITCH)
    net.run(lambda: all(host.core.sealed for host in net.hosts.values()))
    assert len({host.core.sealed for host in net.hosts.values()}) == 1
    for _ in range(50):
        net.tick()
    assert {host.core.commit for host in net.hosts.values()} == {net[1].core.sealed}
    assert net[1].applied[-1].kind is Kind.SWITCH
    assert net[1].core.propose(b"late") == Refused(Why.CHANGING, net[1].core.leader)
    net.agree()


def test_a_member_that_slept_through_the_switch_gets_there() -> None:
    net = Network(4, seed=9)
    net.crash(4)
    ask_all(net, payloads(12))
    for member in (2, 3):
        net[member].core.propose(b"to raft", Kind.SWITCH)
    net.run(lambda: all(net[m].core.sealed for m in (1, 2, 3)))
    net.restart(4)
    net.run(lambda: net[4].core.sealed == net[1].core.sealed)
    net.agree()


def test_nothing_is_sent_before_what_it_promises_is_on_disk() -> None:
    net = Network(4)
    ask_all(net, payloads(5))
    for _ in range(10):
        for host in net.hosts.values():
            ready = host.core.ready()
            if ready is not None:
                assert ready.at_once == ()
                if any(isinstance(out.message, Vote | Propose) for out in ready.after_persisting):
                    assert ready.hard_state is not None
                net._do(host, ready)
                host.core.advance()
        net.tick()


@pytest.mark.parametrize("seed", range(8))
def test_a_member_that_crashed_before_its_write_contradicts_nobody(seed: int) -> None:
    net = Network(4, seed=seed)
    wanted = payloads(24)
    ask_all(net, wanted)
    for _ in range(12):
        for _ in range(1 + net.chance.randint(0, 6)):
            net.tick()
        victim = net.chance.choice(list(net.hosts))
        host = net[victim]
        host.core.tick()
        host.core.ready()  # what it asks for is lost with the crash: neither on disk nor sent
        net.restart(victim)
    net[1].core.propose(b"last")
    net.run(lambda: all(b"last" in host.commands for host in net.hosts.values()))
    net.agree()
    nobody_is_accused(net)


def test_real_signatures_do_the_same() -> None:
    secrets = {member: Ed25519PrivateKey.from_private_bytes(bytes([member]) * 32) for member in range(1, 5)}
    public = {member: secret.public_key() for member, secret in secrets.items()}
    net = Network(4, keys=lambda me: Ed25519Keys(secrets[me], public))
    net.crash(net[1].core.leader)
    net[1].core.propose(b"signed")
    net.run(lambda: everywhere(net, [b"signed"]))
    assert not Ed25519Keys(secrets[1], public).verify(2, b"x", secrets[1].sign(b"x"))
    assert not Ed25519Keys(secrets[1], public).verify(9, b"x", secrets[1].sign(b"x"))
    assert not Ed25519Keys(secrets[1], public).verify(1, b"x", b"short")


def test_messages_survive_the_wire() -> None:
    from actors.consensus.bft.messages import BftMessage

    net = Network(4)
    kinds: set[type] = set()

    def check(sender: int, to: int, message: BftMessage) -> bool:
        kinds.add(type(message))
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=BftMessage) == message
        return False

    net.drops = check
    ask_all(net, payloads(40))
    net.crash(4)
    for _ in range(60):
        net.tick()
    net.restart(4)
    net.run(lambda: net[4].core.commit == net[1].core.commit > 0)
    assert {Propose, Vote, Status, Fetch} <= kinds
