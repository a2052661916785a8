"""Everything of one node's transport in one place: sessions by peer, the port, forwards, peer calls, measurements."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

import structlog

from actors.calls.messages import Caller
from actors.config.schema import Config
from actors.errors import BadRequest, LinkDown, NodeUnknown, PeerRefused, StreamCorrupt
from actors.flags.file import Switches
from actors.transport.calls import Dispatch, PeerCalls
from actors.transport.caps import AS_CONFIGURED, Caps
from actors.transport.credentials import Credentials
from actors.transport.dialer import Dialer
from actors.transport.forwards import Forwards
from actors.transport.handshake import Hello, Refusal, Refuse
from actors.transport.history import KEPT_S, Setting
from actors.transport.messages import (
    Expose,
    Forward,
    HistoryQuery,
    LinkPeriod,
    LinkSample,
    LinkState,
    PeerCall,
    SteerLink,
)
from actors.transport.modes import Switch
from actors.transport.peer import Peer
from actors.transport.peer_session import PeerSession
from actors.transport.recorder import Recorder
from actors.transport.server import Server

log = structlog.get_logger()
CONNECT_S = 10.0
_STREAMS_S = 2.0
_STREAMS_MAX = 256
_RETRY_S = 0.2
_SAMPLE_S = 1.0
_ROWS_MAX = 10_000
_CREDENTIALS_S = 2.0


class Hub:
    """The transport of this node.

    Args:
        dispatch: runs the calls of peers on this node's services.
    """

    def __init__(self, config: Config, credentials: Credentials, dispatch: Dispatch) -> None:
        self._config = config
        self._node = config.node.name
        self._dispatch = dispatch
        self._credentials = credentials
        self._switches = Switches(self._node, config.node.state_dir)
        self._dialer = Dialer(config, credentials)
        self._server = Server(config, credentials, self._admit)
        self.forwards = Forwards(self.session_to)
        self._peers = {
            member.name: Peer(config.transport, member.name, site.name)
            for site in config.topology.sites
            for member in site.nodes
            if member.name != self._node
        }
        self._recorder = Recorder(config.node.state_dir)
        self._caps = Caps(config.transport, {name: peer.site for name, peer in self._peers.items()})
        self._caps.refresh(datetime.now())
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Serve the port and measure.

        Raises:
            Failed: the port can't be had.
        """
        for setting in self._recorder.open():
            if setting.peer in self._peers:  # another topology may hold now
                if setting.mode is not None:
                    self._peers[setting.peer].steering.force(setting.mode, time.time())
                if setting.cap_mbit is not None:
                    self._caps.cap_link(setting.peer, setting.cap_mbit, datetime.now())
        await self._server.start()
        self._run(self._measure())
        self._run(self._renew())

    async def stop(self) -> None:
        """End every session, so that peers need not wait for it; none is begun after that."""
        self._stopped = True
        await self._server.stop()
        self.forwards.close_all()
        for peer in self._peers.values():
            if peer.beginning is not None:
                peer.beginning.cancel()
            for session in list(peer.sessions):
                session.close(f"{self._node} stops")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._recorder.close()

    async def session_to(self, peer: str, deadline_s: float) -> PeerSession:
        """A session with `peer` that is up; dialled if there is none.

        Raises:
            NodeUnknown: no such peer in the topology.
            LinkDown: none within `deadline_s` seconds, or this end has stopped.
            PeerRefused: the peer refused this node, or is another one than expected.
        """
        entry = self._peer(peer)
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    session = entry.session()
                    if self._stopped:
                        # A peer would take its session for that of the node's next life.
                        raise LinkDown(node=self._node, peer=peer, reason="this node's transport has stopped")
                    if session is None:
                        await self._begin(peer, entry)
                    elif session.is_up:
                        return session
                    else:
                        entry.why_down = session.why_down
                        await session.change()
        except TimeoutError as error:
            raise LinkDown(node=self._node, peer=peer, reason=entry.why_down) from error

    async def connect(self, peer: str, streams: int) -> LinkState:
        """Have a session with `peer`, with `streams` connections unless 0; waits a little for them, not for ever.

        Raises:
            BadRequest: a number of streams that can't be.
            NodeUnknown, LinkDown, PeerRefused: see `session_to`.
        """
        if not 0 <= streams <= _STREAMS_MAX:
            raise BadRequest(detail=f"{streams} streams; 1 to {_STREAMS_MAX} are possible, 0 leaves them as they are")
        session = await self.session_to(peer, CONNECT_S)
        if streams:
            self._want_streams(peer, session, self._peers[peer].steering.start_from(streams))
        try:
            async with asyncio.timeout(_STREAMS_S):
                while session.is_up and len(session.connections) != session.streams_wanted:
                    await session.change()
        except TimeoutError:
            log.info("fewer streams than wanted", peer=peer, streams=len(session.connections))
        return self._state(peer, after=time.time())

    async def steer(self, order: SteerLink) -> LinkState:
        """Force the mode of a link or cap it, or take either back.

        Raises:
            NodeUnknown: no such peer in the topology.
            BadRequest: a cap that can't be.
            Failed: it holds, but only until a restart.
        """
        entry = self._peer(order.peer)
        if order.cap_mbit is not None:
            if not (order.cap_mbit >= 0 or order.cap_mbit == AS_CONFIGURED):
                raise BadRequest(
                    detail=f"a cap of {order.cap_mbit} Mbit/s; 0 lifts it, {AS_CONFIGURED:g} is as configured"
                )
            self._caps.cap_link(order.peer, order.cap_mbit, datetime.now())
        if order.mode is not None:
            mode = None if order.mode == "auto" else order.mode
            self._switched(order.peer, entry, entry.steering.force(mode, time.time()))
        live_mode = entry.steering.detector.forced
        await self._recorder.remember(Setting(order.peer, live_mode, self._caps.live_mbit(order.peer)))
        return self._state(order.peer, after=time.time())

    async def history(self, query: HistoryQuery) -> list[LinkPeriod]:
        """What a link measured, over restarts.

        Raises:
            NodeUnknown: no such peer in the topology.
            BadRequest: no such span.
            Failed: the file can't be read.
        """
        self._peer(query.peer)
        if query.span_s not in KEPT_S:
            raise BadRequest(detail=f"a span of {query.span_s} s; there are {', '.join(str(each) for each in KEPT_S)}")
        return await self._recorder.rows(query.peer, query.after, query.span_s, max(1, min(query.most, _ROWS_MAX)))

    def raise_job(self, tag: str, *, raised: bool) -> None:
        """Let what is sent for `tag` go before all other guests' memory and disks, on every link, or no longer."""
        for entry in self._peers.values():
            for session in entry.sessions:
                session.raise_job(tag, raised=raised)

    def close(self, tag: str) -> None:
        """End what carries `tag`, and what was ordered for it."""
        self.forwards.close(tag)
        self._caps.cap_job(tag, 0)
        self.raise_job(tag, raised=False)

    async def call(self, order: PeerCall) -> bytes:
        """Call a service of a peer; the answer is an encoded `Reply`.

        Raises:
            NodeUnknown, LinkDown, PeerRefused: see `session_to`.
            DeadlineExceeded: no answer in time.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + order.deadline_s
        session = await self.session_to(order.peer, order.deadline_s)
        calls = self._peers[order.peer].calls[session.id]
        return await calls.call(order.service, order.method, order.body, max(0.0, until - loop.time()))

    def forward(self, order: Forward) -> None:
        """See `Forwards.forward`; raises NodeUnknown too."""
        self._peer(order.peer)
        self.forwards.forward(order)
        if order.job_bytes_per_s:
            self._caps.cap_job(order.tag, order.job_bytes_per_s)

    def expose(self, order: Expose) -> None:
        """See `Forwards.expose`; raises NodeUnknown too."""
        self._peer(order.peer)
        self.forwards.expose(order)

    def links(self, after: float) -> list[LinkState]:
        """The link to every peer that has or had a session, and to every node of another site."""
        known = [
            name
            for name, peer in self._peers.items()
            if peer.site != self._config.site.name or peer.sessions or peer.meter.samples(0.0)
        ]
        return [self._state(name, after) for name in known]

    # --- inside

    def _peer(self, peer: str) -> Peer:
        entry = self._peers.get(peer)
        if entry is None:
            raise NodeUnknown(node=peer)
        return entry

    async def _begin(self, peer: str, entry: Peer) -> None:
        """Wait for one attempt, shared by all who want the peer; `_admit` may end it when the peer comes by itself."""
        if entry.beginning is None or not entry.begins:
            entry.refusal = None
            entry.beginning = asyncio.create_task(self._attempt(peer, entry))
        await asyncio.wait({entry.beginning})
        if entry.refusal is not None:
            raise entry.refusal

    async def _attempt(self, peer: str, entry: Peer) -> None:
        try:
            session = self._dialer.fresh_session(peer)
            dialled = await self._dialer.dial(peer, session, resume=False)
            self._dialer.begun(peer)
            live = self._add(peer, session, dialled.version, dialled.window_bytes, initiator=True)
            live.attach(dialled.tls, dialled.parser, dialled.group)
        except PeerRefused as error:
            entry.why_down = str(error)
            entry.refusal = error
        except LinkDown as error:
            entry.why_down = str(error.fields["reason"])
            await asyncio.sleep(_RETRY_S)

    def _admit(self, hello: Hello, node: str, site: str, version: int) -> PeerSession | Refuse:
        assert site == self._peers[node].site, "judged with the HELLO"
        entry = self._peers[node]
        for session in list(entry.sessions):
            if session.id == hello.session:
                if session.version == version:
                    return session
                return Refuse(code=Refusal.VERSION, reason=f"the session speaks version {session.version}")
        if hello.resume:
            return Refuse(code=Refusal.SESSION_UNKNOWN, reason=f"{self._node} does not know this session")
        for session in list(entry.sessions):
            if not session.initiator:  # it dialled that one in an earlier life
                session.give_up(f"{node} began a new session")
        session = self._add(node, hello.session, version, hello.window_bytes, initiator=False)
        if entry.beginning is not None and self._dialer.yields_to(node):
            entry.beginning.cancel()
        return session

    def _add(self, peer: str, session: bytes, version: int, window_bytes: int, *, initiator: bool) -> PeerSession:
        entry = self._peers[peer]
        live = PeerSession(
            session=session,
            peer=peer,
            peer_site=entry.site,
            initiator=initiator,
            version=version,
            peer_window_bytes=window_bytes,
            settings=self._config.transport,
            caps=self._caps,
            meter=entry.meter,
            on_channel=self.forwards.opened_by_peer,
            on_over=self._over,
        )
        caller = Caller(node=peer, site=entry.site, same_site=entry.site == self._config.site.name)
        calls = PeerCalls(
            live.control, self._node, caller, self._dispatch, lambda n: live.want_streams(entry.steering.follow(n))
        )
        self._use_rules(live, entry)
        if initiator:
            live.want_streams(entry.steering.streams)
        entry.sessions.append(live)
        entry.calls[session] = calls
        self._run(_for_session(live, self._dialer.keep(live)))
        self._run(_for_session(live, calls.run()))
        return live

    def _over(self, session: PeerSession, reason: str) -> None:
        entry = self._peers[session.peer]
        entry.sessions.remove(session)
        entry.calls.pop(session.id, None)
        entry.why_down = reason
        entry.past_resent_bytes += session.resent_bytes
        entry.past_reconnects += session.reconnects

    async def _measure(self) -> None:
        fresh_s = 2 * self._config.transport.heartbeat_s
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._caps.refresh(datetime.now())
            for peer, entry in self._peers.items():
                self._simplify(peer, entry)
                if entry.sessions:
                    connections = [c for session in entry.sessions for c in session.connections.values()]
                    used = entry.sessions[0].congestion
                    sample = entry.meter.tick(time.time(), time.monotonic(), connections, fresh_s, used)
                    self._steer(peer, entry, sample)
                    found = entry.steering.detector
                    self._recorder.sample(peer, sample, found.capacity_bytes_per_s, found.mode)
            await self._recorder.flush()

    def _simplify(self, peer: str, entry: Peer) -> None:
        """Follow AMST's rollout flag; what runs goes on."""
        if entry.steering.simplify(plain=not self._switches.on("amst", peer)):
            log.info("link by rollout flag", peer=peer, amst=not entry.steering.plain)
            for session in entry.sessions:
                self._use_rules(session, entry)

    def _steer(self, peer: str, entry: Peer, sample: LinkSample) -> None:
        self._switched(peer, entry, entry.steering.tick(sample))
        session = entry.session()
        if session is not None and session.is_up and session.streams_wanted != entry.steering.streams:
            self._want_streams(peer, session, entry.steering.streams)

    def _want_streams(self, peer: str, session: PeerSession, streams: int) -> None:
        if session.initiator or self._peers[peer].calls[session.id].want_streams(streams):
            session.want_streams(streams)

    @staticmethod
    def _switched(peer: str, entry: Peer, switch: Switch | None) -> None:
        """Have a new mode take effect on everything that runs."""
        if switch is not None:
            log.info("link mode", peer=peer, before=switch.before, after=switch.after, reason=switch.reason)
            for session in entry.sessions:
                Hub._use_rules(session, entry)

    @staticmethod
    def _use_rules(session: PeerSession, entry: Peer) -> None:
        rules = entry.steering.rules
        session.use_congestion(rules.congestion)
        session.use_frames(rules.frame_bytes)

    async def _renew(self) -> None:
        """Take up credentials whose files have changed, and renew the connections that were made with the old ones."""
        while True:
            await asyncio.sleep(_CREDENTIALS_S)
            self._credentials.refresh()
            current = (self._credentials.server, self._credentials.client)
            for entry in self._peers.values():
                for session in list(entry.sessions):
                    await session.renew(current)

    def _state(self, peer: str, after: float) -> LinkState:
        refused, cap = self._server.refused_peers, self._caps.link_bytes_per_s(peer)
        return self._peers[peer].state(self._node, self._config.site.name, after, refused=refused, cap=cap)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the transport has failed", exc_info=error)


async def _for_session(session: PeerSession, work: Coroutine[Any, Any, None]) -> None:
    """Work that a session can't do without: it ends with it, or nobody would know why its peer no longer answers."""
    try:
        await work
    except StreamCorrupt as error:
        log.error("session given up", peer=session.peer, reason=str(error))
        session.close(str(error))
    except Exception as error:
        log.exception("session failed", peer=session.peer)
        session.give_up(f"internal error: {error!r}")
