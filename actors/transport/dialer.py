"""The dialling side: one connection at a time for a new session, and as many as wanted for one that lives."""

import asyncio
import os
import random
import socket
import ssl

import msgspec
import structlog

from actors.config.schema import Config
from actors.errors import LinkDown, NovaCronError, PeerRefused, StreamCorrupt
from actors.security.groups import chosen_group
from actors.transport.credentials import Credentials
from actors.transport.frames import VERSION, FrameParser, FrameType
from actors.transport.handshake import (
    SESSION_BYTES,
    Hello,
    Refusal,
    Refuse,
    Welcome,
    agreed_version,
    decode_message,
    encode_message,
)
from actors.transport.peer_session import PeerSession
from actors.transport.server import HANDSHAKE_S, read_handshake
from actors.transport.sockets import reason_of, tls_handshake, tls_send, tune

log = structlog.get_logger()
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MOST_S = 2.0
_AT_ONCE = 16


class Dialled(msgspec.Struct, frozen=True):
    """A connection whose handshake is done."""

    tls: ssl.SSLSocket
    parser: FrameParser
    version: int
    window_bytes: int
    group: str


class SessionUnknown(Exception):
    """The peer does not know the session: its transport has restarted, or gave it up. Stays inside the transport."""


class Dialer:
    """Dials peers at the address that the topology gives."""

    def __init__(self, config: Config, credentials: Credentials) -> None:
        self._config = config
        self._credentials = credentials
        self._fresh: dict[str, bytes] = {}
        self._greeted: set[str] = set()
        self._tickets: dict[str, tuple[ssl.SSLContext, ssl.SSLSession]] = {}

    def fresh_session(self, peer: str) -> bytes:
        """Id of the next session to `peer`.

        It stays the same until one was begun, so that a late HELLO of a failed attempt joins that session instead of
        replacing it.
        """
        return self._fresh.setdefault(peer, os.urandom(SESSION_BYTES))

    def begun(self, peer: str) -> None:
        """The session of `fresh_session` exists."""
        self._fresh.pop(peer, None)

    def yields_to(self, peer: str) -> bool:
        """Whether an own attempt to begin a session gives way to the one that `peer` begins just now.

        When each has greeted the other before it heard, one of them has to stand, and both must know which: each would
        end its own for the other's, and at the next attempt again. It is that of the lesser name.
        """
        return peer not in self._greeted or peer < self._config.node.name

    async def dial(self, peer: str, session: bytes, *, resume: bool) -> Dialled:
        """One attempt, at most `HANDSHAKE_S` long.

        Raises:
            LinkDown: nobody answers there, or not as a node would.
            PeerRefused: the wrong node answers, or it refuses this one.
            SessionUnknown: only with `resume`.
        """
        own = self._config.node.name
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                connection = await self._connect(peer)
                return await self._greet(connection, peer, session, resume=resume)
        except TimeoutError as error:
            raise LinkDown(node=own, peer=peer, reason=f"no answer within {HANDSHAKE_S:g} s") from error
        except OSError as error:
            raise LinkDown(node=own, peer=peer, reason=reason_of(error)) from error
        except StreamCorrupt as error:
            raise LinkDown(node=own, peer=peer, reason=str(error)) from error
        finally:
            if not resume:
                self._greeted.discard(peer)

    async def keep(self, session: PeerSession) -> None:
        """Keep `session` at its wanted number of connections until it is over.

        The side that was dialled lets the other redial; only when that has not happened for `dead_after_s` it tries one
        connection itself. Behind NAT that fails and harms nothing; elsewhere it finds out at once that the peer's
        transport has restarted and forgotten the session.
        """
        settings = self._config.transport
        backoff_s = _BACKOFF_FIRST_S
        while not session.is_over:
            wanted = session.streams_wanted if session.initiator else int(not session.is_up)
            missing = min(wanted - len(session.connections), _AT_ONCE)
            if missing <= 0:
                await session.change()
                if not session.initiator and not session.is_up:
                    await asyncio.sleep(settings.dead_after_s)
                continue
            attempts = [self._add(session) for _ in range(missing)]
            if all(await asyncio.gather(*attempts)):
                backoff_s = _BACKOFF_FIRST_S
                continue
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  spreads redials, guards nothing
            backoff_s = min(2 * backoff_s, _BACKOFF_MOST_S)

    async def _add(self, session: PeerSession) -> bool:
        """One more connection; true if it came."""
        try:
            dialled = await self.dial(session.peer, session.id, resume=True)
        except SessionUnknown:
            session.give_up(f"{session.peer} does not know the session any more")
            return False
        except NovaCronError as error:
            session.why_down = str(error.fields.get("reason", error))
            return False
        enough = session.initiator and len(session.connections) >= session.streams_wanted
        if session.is_over or enough or dialled.version != session.version:
            dialled.tls.close()
            return False
        session.attach(dialled.tls, dialled.parser, dialled.group)
        return True

    async def _connect(self, peer: str) -> socket.socket:
        member = self._config.topology.member(peer)
        assert member is not None, "peers are checked before they are dialled"
        # Asked anew each time: a peer that moves is found where its name leads now.
        found = await asyncio.get_running_loop().getaddrinfo(member.address, member.port, type=socket.SOCK_STREAM)
        failure = OSError(f"{member.address} has no address")
        for family, kind, protocol, _, address in found:
            connection = socket.socket(family, kind, protocol)
            try:
                tune(connection, self._config.transport)
                async with asyncio.timeout(HANDSHAKE_S / len(found)):
                    await asyncio.get_running_loop().sock_connect(connection, address)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure

    async def _greet(self, connection: socket.socket, peer: str, session: bytes, *, resume: bool) -> Dialled:
        own = self._config.node.name
        tls = self._wrap(connection, peer)
        try:
            group = chosen_group(await tls_handshake(tls))
            found = self._credentials.peer_of(tls)
            site = self._config.topology.site_of(peer)
            if site is None or (found.node, found.site) != (peer, site.name):
                raise PeerRefused(peer=peer, reason=f"its address leads to {found.node} of {found.site}")
            window_bytes = self._config.transport.channel_window_bytes
            hello = Hello(session=session, node=own, to=peer, resume=resume, window_bytes=window_bytes, group=group)
            if not resume:
                self._greeted.add(peer)
            await tls_send(tls, encode_message(hello))
            parser = FrameParser()
            frame = await read_handshake(tls, parser)
            version = parser.handshake_version
            if frame.type is FrameType.REFUSE:
                _raise_refusal(peer, decode_message(frame, Refuse), resume=resume)
            welcome = decode_message(frame, Welcome)
            if agreed_version(VERSION, version) != version:
                raise PeerRefused(peer=peer, reason=f"it answers in version {version}, this node speaks {VERSION}")
            parser.agree(version)
        except BaseException as error:
            if isinstance(error, PeerRefused | ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                # It may be the ticket that is wrong.
                self._tickets.pop(peer, None)
            tls.close()
            raise
        ticket = tls.session
        if ticket is not None and ticket.has_ticket:
            self._tickets[peer] = (tls.context, ticket)
        return Dialled(tls, parser, version, welcome.window_bytes, group)

    def _wrap(self, connection: socket.socket, peer: str) -> ssl.SSLSocket:
        """TLS over `connection`, with the ticket of an earlier one if there is any: then no certificates are sent."""
        context = self._credentials.client
        owner, ticket = self._tickets.get(peer, (None, None))
        fitting = ticket if owner is context else None
        return context.wrap_socket(connection, do_handshake_on_connect=False, session=fitting)


def _raise_refusal(peer: str, refuse: Refuse, *, resume: bool) -> None:
    if refuse.code == Refusal.SESSION_UNKNOWN and resume:
        raise SessionUnknown(refuse.reason)
    raise PeerRefused(peer=peer, reason=f"it says: {refuse.reason[:300]}")
