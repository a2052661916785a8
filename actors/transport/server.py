"""The one port: takes in connections, and spends as little as possible on those that are not a peer's."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

import structlog

from actors.config.schema import Config
from actors.errors import NovaCronError, PeerRefused, StreamCorrupt
from actors.transport.credentials import Credentials
from actors.transport.frames import Frame, FrameParser
from actors.transport.handshake import Hello, Refuse, Welcome, decode_message, encode_message, judge_hello
from actors.transport.peer_session import PeerSession
from actors.transport.sockets import accept_all, listen, reason_of, tls_handshake, tls_receive, tls_send, tune

log = structlog.get_logger()
HANDSHAKE_S = 5.0
UNKNOWN_MAX = 64
"""Connections at most that have not yet shown who they are."""
_LOG_EVERY_S = 10.0
_BIND_S = 10.0

Admit = Callable[[Hello, str, str, int], PeerSession | Refuse]
"""(HELLO, node, site, agreed version) → the session it joins or begins, or the refusal."""


async def read_handshake(tls: ssl.SSLSocket, parser: FrameParser) -> Frame:
    """The first frame of a connection. The caller sets the deadline.

    Raises:
        StreamCorrupt: what came is no frame.
        OSError: the connection ended.
    """
    while True:
        count = await tls_receive(tls, parser.space())
        if not count:
            raise ConnectionResetError("closed during the handshake")
        parser.filled(count)
        frame = next(parser.frames(), None)
        if frame is not None:
            return frame


class Server:
    """Listens, greets, and hands peers to `admit`."""

    def __init__(self, config: Config, credentials: Credentials, admit: Admit) -> None:
        self._config = config
        self._credentials = credentials
        self._admit = admit
        self._greeting: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._logged_at = -_LOG_EVERY_S
        self._unlogged = 0
        self.refused_peers = 0

    async def start(self) -> None:
        """Begin to serve the configured port.

        Raises:
            Failed: the port can't be had.
        """
        member = self._config.topology.member(self._config.node.name)
        assert member is not None, "validated with the configuration"
        self._listener = await listen(member.port, _BIND_S)
        self._task = asyncio.create_task(accept_all(self._listener, self._take))
        log.info("transport listens", port=member.port)

    async def stop(self) -> None:
        """Cease to listen; sessions are their owner's."""
        tasks = [*self._greeting, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    def _take(self, connection: socket.socket, address: str) -> None:
        if len(self._greeting) >= UNKNOWN_MAX:
            connection.close()
            self._refused(address, f"{UNKNOWN_MAX} others are still unknown")
            return
        task = asyncio.create_task(self._greet(connection, address))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket, address: str) -> None:
        try:
            tune(connection, self._config.transport)
            tls = self._credentials.server.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            connection.close()
            self._refused(address, reason_of(error))
            return
        admitted = False
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await tls_handshake(tls)
                admitted = await self._hear(tls)
        except TimeoutError:
            self._refused(address, f"no handshake within {HANDSHAKE_S:g} s")
        except OSError as error:
            self._refused(address, reason_of(error))
        except NovaCronError as error:
            self._refused(address, str(error))
        finally:
            if not admitted:
                tls.close()

    async def _hear(self, tls: ssl.SSLSocket) -> bool:
        """True once the connection belongs to a session."""
        node, site = self._credentials.peer_of(tls)
        parser = FrameParser()
        frame = await read_handshake(tls, parser)
        theirs = parser.handshake_version
        hello = decode_message(frame, Hello)
        own = self._config.node.name
        version, refusal = judge_hello(hello, theirs, own, self._config.topology, (node, site))
        if refusal is not None:
            await tls_send(tls, encode_message(refusal, version))
            raise PeerRefused(peer=node, reason=refusal.reason)
        answer = self._admit(hello, node, site, version)
        if isinstance(answer, Refuse):
            # A session that a restart has ended: no stranger, so it is not counted as one.
            await tls_send(tls, encode_message(answer, version))
            log.info("session unknown", peer=node, reason=answer.reason)
            return False
        window_bytes = self._config.transport.channel_window_bytes
        await tls_send(tls, encode_message(Welcome(node=own, window_bytes=window_bytes), version))
        parser.agree(version)
        if answer.is_over:
            raise StreamCorrupt(reason="the session ended during the handshake")
        answer.attach(tls, parser, hello.group)
        return True

    def _refused(self, address: str, reason: str) -> None:
        """Count it; log it at most every ten seconds, or garbage would fill the disk."""
        self.refused_peers += 1
        now = time.monotonic()
        if now - self._logged_at < _LOG_EVERY_S:
            self._unlogged += 1
            return
        log.warning("peer refused", address=address, reason=reason[:300], others_meanwhile=self._unlogged)
        self._logged_at, self._unlogged = now, 0
