"""The systems under test: how their members are started, who leads, and one client's connection."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import msgspec

from actors.errors import SetupMissing
from actors.security.authority import create_authority, issue
from benchmarks.deciding.member import FOLLOWS, LEADS, LENGTH, Order

_STEP_S = 20.0


class Client(Protocol):
    """One connection to one member."""

    async def put(self, key: str, value: str) -> bool:
        """Have one value agreed on; false: it was not."""


class System(Protocol):
    """`count` members on the loopback; member n of them listens at `ports[n]` and is reached at `reach[n]`."""

    name: str

    def start(self, number: int) -> None:
        """Start a member."""

    async def connect(self, number: int) -> Client:
        """Connect a client to a member."""

    async def leads(self, number: int) -> bool:
        """Whether that member says that it leads."""

    async def in_touch(self, number: int) -> bool:
        """Whether that member is up and knows a leader."""


class _Processes:
    def __init__(self, folder: Path, ports: list[int], reach: list[int], clients: list[int]) -> None:
        self.folder, self.ports, self.reach, self.clients = folder, ports, reach, clients
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def _run(self, number: int, argv: list[str], extra: dict[str, str]) -> None:
        with (self.folder / f"{number}.log").open("ab") as log:
            self.running[number] = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **extra})

    def kill(self, number: int) -> None:
        """Kill -9 a member."""
        process = self.running.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait(_STEP_S)

    def end(self) -> None:
        """Kill all."""
        for number in list(self.running):
            self.kill(number)


class NovaCron(_Processes):
    """Members of the control state."""

    name = "novacron"

    mode = "raft"

    def __init__(self, folder: Path, ports: list[int], reach: list[int], clients: list[int]) -> None:
        super().__init__(folder, ports, reach, clients)
        create_authority(folder / "ca")
        for number in range(len(ports)):
            self._write(number)

    def _write(self, number: int) -> None:
        node, folder = f"m{number}", self.folder / str(number)
        for name in ("state", "run"):
            (folder / name).mkdir(parents=True)
        identity = issue(self.folder / "ca", node, node)
        places = [self.ports[each] if each == number else self.reach[each] for each in range(len(self.ports))]
        sites = [
            {"name": f"m{each}", "nodes": [{"name": f"m{each}", "address": "127.0.0.1", "port": port}]}
            for each, port in enumerate(places)
        ]
        security = {"ca": identity.ca, "certificate": identity.certificate, "key": identity.key}
        config: dict[str, object] = {
            "node": {"name": node, "state_dir": str(folder / "state"), "run_dir": str(folder / "run")},
            "topology": {"sites": sites},
            "transport": {"streams": 1, "streams_max": 1},
            # As etcd has it by default: a heartbeat of 100 ms, elections after 1 to 2 s.
            "consensus": {
                "mode": self.mode,
                "members": [f"m{each}" for each in range(len(places))],
                "heartbeat_ms": 100,
                "election_ms": 1001,
            },
            "security": {name: str(path) for name, path in security.items()},
        }
        order = Order(config=config, client_port=self.clients[number])
        (folder / "order.json").write_bytes(msgspec.json.encode(order))

    def start(self, number: int) -> None:
        """See `System`."""
        argv = [sys.executable, "-m", "benchmarks.deciding.member", str(self.folder / str(number) / "order.json")]
        self._run(number, argv, {"OMP_NUM_THREADS": "1"})

    async def connect(self, number: int) -> "_MemberClient":
        """See `System`."""
        return _MemberClient(*await asyncio.open_connection("127.0.0.1", self.clients[number]))

    async def leads(self, number: int) -> bool:
        """See `System`."""
        return await self._standing(number) == LEADS

    async def in_touch(self, number: int) -> bool:
        """See `System`."""
        return await self._standing(number) in (LEADS, FOLLOWS)

    async def _standing(self, number: int) -> object:
        client = await self.connect(number)
        try:
            return await client.ask("", "")
        finally:
            client.close()


class NovaCronBft(NovaCron):
    """The same members, agreeing in BFT."""

    mode = "bft"


class _MemberClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def put(self, key: str, value: str) -> bool:
        """See `Client`."""
        return bool(await self.ask(key, value))

    async def ask(self, key: str, value: str) -> object:
        """One question."""
        raw = msgspec.msgpack.encode((key, value))
        self._writer.write(LENGTH.pack(len(raw)) + raw)
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        return msgspec.msgpack.decode(await self._reader.readexactly(length))

    def close(self) -> None:
        """End it."""
        self._writer.close()


class Etcd(_Processes):
    """etcd as Debian has it, with its defaults: a sync before each acknowledgement."""

    name = "etcd"
    mode = "raft"

    def __init__(self, folder: Path, ports: list[int], reach: list[int], clients: list[int]) -> None:
        super().__init__(folder, ports, reach, clients)
        if shutil.which("etcd") is None:
            raise SetupMissing(what="etcd (`apt-get install etcd-server`) for the comparison")

    def start(self, number: int) -> None:
        """See `System`."""
        everybody = ",".join(f"m{each}=http://127.0.0.1:{port}" for each, port in enumerate(self.reach))
        client = f"http://127.0.0.1:{self.clients[number]}"
        argv = [
            "etcd", "--name", f"m{number}", "--data-dir", str(self.folder / str(number)),
            "--listen-peer-urls", f"http://127.0.0.1:{self.ports[number]}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.reach[number]}",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", everybody,
            "--log-level", "error",
        ]  # fmt: skip
        self._run(number, argv, {})

    async def connect(self, number: int) -> "_EtcdClient":
        """See `System`."""
        return _EtcdClient(*await asyncio.open_connection("127.0.0.1", self.clients[number]))

    async def leads(self, number: int) -> bool:
        """See `System`."""
        said = await self._status(number)
        return bool(said.get("leader")) and said["leader"] == said["header"]["member_id"]

    async def in_touch(self, number: int) -> bool:
        """See `System`."""
        return bool((await self._status(number)).get("leader"))

    async def _status(self, number: int) -> dict[str, Any]:
        client = await self.connect(number)
        try:
            return await client.ask("/v3/maintenance/status", {})
        finally:
            client.close()


class _EtcdClient:
    """Its JSON gateway over one connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def put(self, key: str, value: str) -> bool:
        """See `Client`."""
        body = {name: base64.b64encode(text.encode()).decode() for name, text in (("key", key), ("value", value))}
        return "header" in await self.ask("/v3/kv/put", body)

    async def ask(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        """One request."""
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(raw)}\r\n\r\n"
        self._writer.write(head.encode() + raw)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        found: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        return found

    def close(self) -> None:
        """End it."""
        self._writer.close()


SYSTEMS: dict[str, type[NovaCron] | type[Etcd]] = {"novacron": NovaCron, "novacron-bft": NovaCronBft, "etcd": Etcd}
