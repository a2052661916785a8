"""A TCP relay inside the test's process: a link that can be cut, frozen, throttled, and lose single connections."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from actors.transport.sockets import accept_all

_CHUNK_BYTES = 16384


class Relay:
    """Relays every connection to ``127.0.0.1:target_port``.

    `bytes_per_s` (0: no limit) holds for each direction as a whole; small socket buffers keep little inside the relay.
    """

    def __init__(self, target_port: int, bytes_per_s: int = 0) -> None:
        self.target_port = target_port
        self.bytes_per_s = bytes_per_s
        self.carried_bytes = {"there": 0, "back": 0}
        self.port = 0
        self.source = ""
        """Address that its connections to the target come from."""
        self._is_cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: list[tuple[socket.socket, socket.socket, asyncio.Task[None]]] = []
        self._turn = {"there": asyncio.Lock(), "back": asyncio.Lock()}

    @property
    def connections(self) -> int:
        """How many connections it carries."""
        return len(self._pairs)

    def kill_one(self) -> None:
        """Reset one connection towards both ends (RST, not an orderly end)."""
        self._kill(self._pairs[0])

    def cut(self) -> None:
        """Reset all connections and reset new ones, until `mend`."""
        self._is_cut = True
        for pair in list(self._pairs):
            self._kill(pair)

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    def freeze(self) -> None:
        """Carry nothing, silently, until `thaw`; connections stay."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Carry again."""
        self._flowing.set()

    def take(self, near: socket.socket, _: str) -> None:
        """A connection came in."""
        if self._is_cut:
            _reset(near)
            return
        far = socket.socket()
        for end in (near, far):
            end.setblocking(False)
            if self.bytes_per_s:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        task = asyncio.create_task(self._carry(near, far))
        pair = (near, far, task)
        self._pairs.append(pair)
        task.add_done_callback(lambda _: self._kill(pair))

    async def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            if self.source:
                far.bind((self.source, 0))
            await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self.target_port))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(near, far, "there"))
                group.create_task(self._pump(far, near, "back"))

    async def _pump(self, source: socket.socket, target: socket.socket, way: str) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await loop.sock_recv(source, _CHUNK_BYTES):
                await self._flowing.wait()
                if self.bytes_per_s:
                    async with self._turn[way]:
                        await asyncio.sleep(len(data) / self.bytes_per_s)
                await loop.sock_sendall(target, data)
                self.carried_bytes[way] += len(data)
            target.shutdown(socket.SHUT_WR)

    def _kill(self, pair: tuple[socket.socket, socket.socket, "asyncio.Task[None]"]) -> None:
        if pair in self._pairs:
            self._pairs.remove(pair)
            pair[2].cancel()
            _reset(pair[0])
            _reset(pair[1])


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


@asynccontextmanager
async def relay_to(target_port: int, bytes_per_s: int = 0) -> AsyncIterator[Relay]:
    """A running relay; `Relay.port` is where it listens."""
    relay = Relay(target_port, bytes_per_s)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    relay.port = listener.getsockname()[1]
    task = asyncio.create_task(accept_all(listener, relay.take))
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()
        relay.cut()
