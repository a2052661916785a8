"""One member as a process of its own, without Ray: ``python -m benchmarks.deciding.member FILE``.

The transport, the links, the shell, the driver and the store are those of a node. A client connects to a port, sends
commands (length, msgpack) and gets their results. FILE is an `Order` in JSON.
"""

import asyncio
import os
import struct
import sys
from pathlib import Path

import msgspec

from actors.calls.messages import Caller
from actors.config.schema import Config
from actors.consensus.ready import NOBODY, Membership, Snapshot
from actors.control.chores import Chores
from actors.control.distances import Distances
from actors.control.driver import Driver, now_ms
from actors.control.keys import secret_in
from actors.control.links import Links
from actors.control.members import founding_of, members_of, settings_of
from actors.control.messages import SERVICE
from actors.control.roster import Roster
from actors.control.shelf import Shelf
from actors.control.shell import Shell
from actors.errors import NovaCronError
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.messages import Expose, Forward
from benchmarks.deciding.word import Patient, Session, Word

LENGTH = struct.Struct("!I")
LEADS, FOLLOWS = "leads", "follows"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a member is told: its configuration, and the port for clients."""

    config: dict[str, object]
    client_port: int


async def _nobody(caller: Caller, service: str, method: str, body: bytes) -> bytes:
    raise NovaCronError(detail=f"{caller.node} calls {service}.{method} ({len(body)} bytes): nothing is served here")


async def member(order: Order) -> None:
    """Run until killed."""
    config = Config.model_validate(order.config)
    hub = Hub(config, Credentials.load(config.security), _nobody)
    await hub.start()
    founders = members_of(config)
    me = next(each for each in founders if each.node == config.node.name)

    async def register(peer: str, to_path: Path, from_path: Path) -> None:
        hub.expose(Expose(tag=SERVICE, service=SERVICE, connect_path=str(from_path), peer=peer))
        hub.forward(Forward(tag=SERVICE, listen_path=str(to_path), peer=peer, service=SERVICE, priority=0))

    def receive(sender: int, parcel: "object") -> None:
        driver.shell.receive(sender, parcel, now_ms())  # type: ignore[arg-type]  # a `Parcel`, as `Links` says
        driver.stir()

    peers = {each.number: each.node for each in founders if each is not me}
    numbers = {each.node: each.number for each in founders}
    founding, folder, settings = founding_of(founders), config.node.state_dir, config.consensus
    links = Links(me.number, peers, config.node.run_dir, founding, register, receive)
    begins = Snapshot(index=1, term=0, membership=Membership(tuple(each.number for each in founders)))
    secret = secret_in(folder)
    shell = Shell(
        me.number,
        Shelf(folder, begins),
        settings_of(config, founding),
        secret,
        seed=int.from_bytes(os.urandom(8)),
        now_ms=now_ms(),
        post=links.post,
    )
    switching = Patient(settings, Distances(me.number, lambda: numbers), len(founders))
    chores = Chores(shell, Roster(me, founders, (), shell), config.topology, secret, switching)
    driver = Driver(shell, settings.heartbeat_ms / 1000, lambda now: chores.look(now, 0))
    await links.start()
    word = Word(driver, me.node, folder)
    opening = asyncio.create_task(word.open())
    server = await asyncio.start_server(_clients(driver, word, settings.mode), "127.0.0.1", order.client_port)
    async with server:
        await driver.run()
    opening.cancel()


def _clients(driver: Driver, word: Word, mode: str):  # type: ignore[no-untyped-def]
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: Session | None = None
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                name, value = msgspec.msgpack.decode(await reader.readexactly(length), type=tuple[str, str])
                answer: bool | str
                if not name:
                    # A view of BFT has a primary from its beginning: whether that one is there only others tell.
                    in_force = word.ready and driver.shell.core.protocol.name.lower() == mode
                    leads, follows = driver.shell.leads, driver.shell.core.leader != NOBODY
                    answer = (LEADS if leads else FOLLOWS if follows else "") if in_force else ""
                else:
                    session = session or (word.taken() if word.ready else None)
                    answer = await session.put(name, value) if session is not None else False
                raw = msgspec.msgpack.encode(answer)
                writer.write(LENGTH.pack(len(raw)) + raw)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return serve


if __name__ == "__main__":
    asyncio.run(member(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)))
