"""A member's links to the others: one channel each way through this node's transport, joined to UNIX sockets here.

What a member sends goes into `to-NODE.sock`, which the transport leads to the peer's `from-NODE.sock` over the session
between the two nodes. The peer's name is its certificate's: the transport joins nobody else to that socket. Ray is
asked only when a link begins. What can't be sent is dropped; the core copes.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from actors.consensus.ready import Member
from actors.control.parcels import Frames, Parcel, frame
from actors.errors import NovaCronError, StreamCorrupt

log = structlog.get_logger()
QUEUE_MAX_BYTES = 8 << 20
_READ_BYTES = 256 << 10
_RETRY_S = (0.2, 0.5, 1.0, 2.0)
Register = Callable[[str, Path, Path], Awaitable[None]]
"""(peer's node, socket to it, socket from it): have the transport join both."""
Receive = Callable[[Member, Parcel], None]


class Link:
    """One peer: the node of member `member`."""

    def __init__(self, member: Member, node: str, folder: Path) -> None:
        self.member, self.node = member, node
        self.to_path, self.from_path = folder / f"to-{node}.sock", folder / f"from-{node}.sock"
        self.up = False
        """Connected to the transport, that is; whether the transport reaches the peer is its business."""
        self.dropped = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._stirred = asyncio.Event()

    def post(self, data: bytes) -> bool:
        """Queue a frame; false: it was dropped."""
        if not self.up or self._queued_bytes + len(data) > QUEUE_MAX_BYTES:
            self.dropped += 1
            return False
        self._queue.append(data)
        self._queued_bytes += len(data)
        self._stirred.set()
        return True

    async def carry(self) -> None:
        """Carry what is queued until the connection ends."""
        reader, writer = await asyncio.open_unix_connection(str(self.to_path))
        self.up = True
        ended = asyncio.create_task(reader.read(1))
        ended.add_done_callback(lambda _: self._stirred.set())
        try:
            while not ended.done():
                await self._stirred.wait()
                self._stirred.clear()
                while self._queue and not ended.done():
                    data = b"".join(self._queue)
                    self._queue.clear()
                    self._queued_bytes = 0
                    writer.write(data)
                    await writer.drain()
        finally:
            self.up = False
            self._queue.clear()
            self._queued_bytes = 0
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
            writer.close()


class Links:
    """All peers of member `me`.

    Args:
        peers: nodes of the other members by number; `meet` adds to them.
        folder: of the sockets; nobody but this node's processes may enter it.
        founding: names the cluster; what is of another is dropped.
        register: has the transport join the sockets; asked again whenever a connection was lost.
        receive: takes what comes, on the event loop's thread.
    """

    def __init__(
        self,
        me: Member,
        peers: dict[Member, str],
        folder: Path,
        founding: bytes,
        register: Register,
        receive: Receive,
    ) -> None:
        self._me = me
        self._founding, self._register, self._receive, self._folder = founding, register, receive, folder
        self._links = {member: Link(member, node, folder) for member, node in peers.items()}
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []
        self._taken: set[asyncio.StreamWriter] = set()

    def post(self, member: Member, parcel: Parcel) -> bool:
        """Send; false if it was dropped at once."""
        link = self._links.get(member)
        return link is not None and link.up and link.post(frame(self._founding, parcel, self._me, member))

    async def start(self) -> None:
        """Listen for the peers and connect to them, for ever."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        for link in self._links.values():
            await self._begin(link)

    async def meet(self, member: Member, node: str) -> None:
        """Have a link to a member that came later. One whose node was another member before takes that one's link."""
        if member in self._links:
            return
        before = next((link for link in self._links.values() if link.node == node), None)
        if before is not None:
            del self._links[before.member]
            before.member = member
        link = self._links[member] = before or Link(member, node, self._folder)
        if before is None:
            await self._begin(link)

    async def _begin(self, link: Link) -> None:
        self._servers.append(await asyncio.start_unix_server(self._taking(link), str(link.from_path)))
        self._tasks.append(asyncio.create_task(self._keep(link)))

    async def stop(self) -> None:
        """End all of it."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._taken:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, link: Link) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                await self._register(link.node, link.to_path, link.from_path)
                await link.carry()
            except (NovaCronError, OSError) as error:
                if not failures:
                    log.info("member's link is down", peer=link.node, reason=str(error))
            lasted_s = time.monotonic() - begun
            failures = 0 if lasted_s > 2 * _RETRY_S[-1] else failures + 1
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])

    def _taking(self, link: Link) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames = Frames()
            self._taken.add(writer)
            try:
                while data := await reader.read(_READ_BYTES):
                    for sheet in frames.feed(data):
                        meant = sheet.sender in (0, link.member) and sheet.to in (0, self._me)
                        if sheet.founding == self._founding and meant:
                            self._receive(link.member, sheet.parcel)
            except StreamCorrupt as error:
                log.warning("member's link given up", peer=link.node, reason=str(error))
            except OSError as error:
                log.info("member's link ended", peer=link.node, reason=str(error))
            finally:
                self._taken.discard(writer)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        return take
