"""Session tickets, key agreement, and certificates that change under running sessions; real TLS, real certificates."""

import asyncio
import random
import shutil
import socket
import ssl
import time
from types import SimpleNamespace

import pytest

from actors.config.schema import Security
from actors.security.authority import create_authority, issue, rotate
from actors.transport import credentials as credentials_module
from actors.transport import hub as hub_module
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.sockets import tls_handshake
from tests.kits.byte_stream import read_all
from tests.kits.relay import Relay, relay_to
from tests.unit.transport.nodes import Lab, running, session_of, until
from tests.unit.transport.test_links import PATIENT, channel_pair

HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)


@pytest.fixture(autouse=True)
def patient(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.transport = PATIENT
    monkeypatch.setattr(hub_module, "_CREDENTIALS_S", 0.05)


def own_folder(lab: Lab, node: str) -> Hub:
    """A hub whose credentials lie in a folder of its own, as on a host."""
    config = lab.config(node)
    folder = lab.folder / node
    folder.mkdir()
    for path in (config.security.ca, config.security.certificate, config.security.key):
        shutil.copy(path, folder / path.name)
    return Hub(config, Credentials.load(files_of(lab, node)), None)  # type: ignore[arg-type]


def files_of(lab: Lab, node: str) -> Security:
    folder = lab.folder / node
    return Security(ca=folder / "ca.pem", certificate=folder / f"{node}.pem", key=folder / f"{node}.key")


def install(lab: Lab, node: str, *names: str) -> None:
    """Copy files of the authority to the node's folder, each renamed into its place."""
    for name in names or (f"{node}.key", f"{node}.pem", "ca.pem"):
        beside = lab.folder / node / f".{name}"
        shutil.copy(lab.folder / "ca" / name, beside)
        beside.replace(lab.folder / node / name)


def serials(hub: Hub, peer: str) -> set[object]:
    """Serial numbers of the certificates that the peer has shown on the connections there are."""
    (session,) = hub._peers[peer].sessions
    return {(c._tls.getpeercert() or {}).get("serialNumber") for c in session.connections.values()}


def shows_anew(hub: Hub, peer: str, before: set[object]) -> bool:
    """True once every connection that `hub` has with the peer shows another certificate than `before`."""
    now = serials(hub, peer)
    return bool(now) and now.isdisjoint(before)


async def redial(a: Hub, relay: Relay) -> None:
    """Lose every connection and wait until as many are there again."""
    session = session_of(a, "b")
    streams, before = len(session.connections), session.reconnects
    relay.cut()
    await until(lambda: not session.is_up)
    relay.mend()
    await until(lambda: len(session.connections) == streams and session.reconnects >= before + streams)


async def test_redials_use_tickets_and_still_know_the_peer(lab: Lab) -> None:
    async with relay_to(lab.ports["b"]) as relay:
        lab.reach["a"] = 1
        b = lab.hub("b")
        lab.reach["b"] = relay.port
        a = lab.hub("a")
        async with running(a, b):
            await a.connect("b", 2)
            first = serials(b, "a")
            await redial(a, relay)
            assert [link.tls_resumed for link in a.links(0) if link.peer == "b"] == [2]
            assert [link.tls_resumed for link in b.links(0) if link.peer == "a"] == [2]
            assert serials(b, "a") == first != {None}
            await redial(a, relay)
            assert a.links(0)[0].tls_resumed == 2, "a resumed connection brings the next ticket"


async def test_a_ticket_does_not_let_an_expired_certificate_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with relay_to(lab.ports["b"]) as relay:
        lab.reach["a"] = 1
        b = lab.hub("b")
        lab.reach["b"] = relay.port
        a = lab.hub("a")
        async with running(a, b):
            await a.connect("b", 1)
            later = time.time() + 900 * 86400
            monkeypatch.setattr("actors.security.tls.time", SimpleNamespace(time=lambda: later))
            relay.cut()
            await until(lambda: not session_of(a, "b").is_up)
            relay.mend()
            await until(lambda: "valid until" in session_of(a, "b").why_down)
            assert not session_of(b, "a").is_up


async def test_both_ends_of_a_link_tell_the_key_agreement(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        state = await a.connect("b", 0)
        assert state.tls_groups == ["X25519MLKEM768" if HYBRID else "x25519"]
        assert [link.tls_groups for link in b.links(0) if link.peer == "a"] == [state.tls_groups]


@pytest.mark.parametrize("changed", ["a", "b"])
async def test_a_new_certificate_is_taken_up_while_a_transfer_runs(lab: Lab, changed: str) -> None:
    lab.reach["a"] = 1
    b = own_folder(lab, "b")
    async with relay_to(lab.ports["b"], 4_000_000) as relay:
        lab.reach["b"] = relay.port
        a = own_folder(lab, "a")
        async with running(a, b):
            await a.connect("b", 3)
            near, far = await channel_pair(a, b)
            session, other = session_of(a, "b"), "b" if changed == "a" else "a"
            watching = {"a": a, "b": b}[other]
            before = serials(watching, changed)
            data = random.Random(9).randbytes(4_000_000)
            reading = asyncio.create_task(read_all(far))
            sending = asyncio.create_task(near.send(data))
            await until(lambda: relay.carried_bytes["there"] > 500_000)
            issue(lab.folder / "ca", changed, lab.sites[changed])
            install(lab, changed)
            await until(lambda: shows_anew(watching, changed, before))
            await sending
            near.end()
            assert await reading == data
            assert session_of(a, "b") is session
            await until(lambda: len(session.connections) == 3)


async def test_a_new_authority_replaces_the_old_one_node_by_node(lab: Lab) -> None:
    a, b = own_folder(lab, "a"), own_folder(lab, "b")
    async with running(a, b):
        await a.connect("b", 2)
        session = session_of(a, "b")
        rotate(lab.folder / "ca")
        for node, hub in (("a", a), ("b", b)):
            install(lab, node, "ca.pem")
            await until(lambda hub=hub: hub._credentials._seen == hub_stamp(hub))
        for node, hub in (("a", b), ("b", a)):
            await until(lambda hub=hub, node=node: serials(hub, node))
            before = serials(hub, node)
            issue(lab.folder / "ca", node, lab.sites[node])
            install(lab, node)
            await until(lambda hub=hub, node=node, before=before: shows_anew(hub, node, before))
        assert session_of(a, "b") is session
        await until(lambda: len(session.connections) == 2)
        # Whoever trusts the new authority only finds that both nodes are its own by now.
        new = lab.folder / "a" / "ca.pem"
        new.write_bytes(new.read_bytes().partition(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
        connection = socket.create_connection(("127.0.0.1", lab.ports["b"]))
        connection.setblocking(False)
        tls = Credentials.load(files_of(lab, "a")).client.wrap_socket(connection, do_handshake_on_connect=False)
        async with asyncio.timeout(10):
            await tls_handshake(tls)
        tls.close()


def hub_stamp(hub: Hub) -> object:
    """What the hub's files look like now."""
    return credentials_module._files(hub._credentials._security)


async def test_unusable_files_leave_the_old_ones_in_force_and_are_said_once(
    lab: Lab, said: list[dict[str, object]]
) -> None:
    a, b = own_folder(lab, "a"), own_folder(lab, "b")
    async with running(a, b):
        await a.connect("b", 0)
        (lab.folder / "a" / "a.pem").write_text("half of a certi")
        await until(lambda: [line for line in said if line["event"] == "credentials unusable, the old ones stay"])
        issue(lab.folder / "ca", "a", "rome")
        before = serials(b, "a")
        install(lab, "a", "a.key")
        await until(lambda: a._credentials._complained == hub_stamp(a))
        assert (await a.connect("b", 0)).state == "up"
        install(lab, "a", "a.pem")
        await until(lambda: shows_anew(b, "a", before))
        assert len([line for line in said if line["event"] == "credentials unusable, the old ones stay"]) == 2


async def test_a_ticket_of_one_authority_is_nothing_to_another(lab: Lab) -> None:
    """The acceptor's new context does not take the old one's tickets: the dialler is checked against the new files."""
    # The acceptor would wait for a second one that its peer retires just then, and the test with it.
    lab.transport = PATIENT.model_copy(update={"streams": 1, "streams_max": 1})
    a, b = own_folder(lab, "a"), own_folder(lab, "b")
    async with running(a, b):
        await a.connect("b", 1)
        create_authority(lab.folder / "other")
        strange = issue(lab.folder / "other", "b", "paris")
        for path, name in ((strange.key, "b.key"), (strange.certificate, "b.pem"), (strange.ca, "ca.pem")):
            path.replace(lab.folder / "b" / name)
        await until(lambda: not session_of(a, "b").is_up and "CERTIFICATE" in session_of(a, "b").why_down)
