"""Peer calls: typed messages over a session's control channel, with a deadline on each.

A message is its length (4 bytes, big-endian) and its msgpack. Calls and answers of both directions share the channel
and overtake each other freely; `id` pairs them.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from actors.calls.messages import Caller, Reply
from actors.errors import BodyInvalid, Conflict, DeadlineExceeded, LinkDown, NovaCronError, StreamCorrupt
from actors.transport.channel_stream import ByteStream, ChannelReset

log = structlog.get_logger()
MESSAGE_MAX_BYTES = 4 << 20
CALLS_MAX = 256
_OUTBOX_MAX = 16
_LENGTH = struct.Struct(">I")
_DEADLINE_MAX_S = 3600.0

Dispatch = Callable[[Caller, str, str, bytes], Awaitable[bytes]]
"""(caller, service, method, body) → encoded `Reply`; the caller of it keeps the deadline."""


class Call(msgspec.Struct, frozen=True, tag="call", array_like=True):
    """Run `method` of `service` on `body` within `deadline_s`."""

    id: int
    service: str
    method: str
    body: bytes
    deadline_s: float


class Answer(msgspec.Struct, frozen=True, tag="answer", array_like=True):
    """The encoded `Reply` to call `id`."""

    id: int
    reply: bytes


class WantStreams(msgspec.Struct, frozen=True, tag="streams", array_like=True):
    """Asks the side that dialled for this many connections."""

    streams: int


_decoder = msgspec.msgpack.Decoder(Call | Answer | WantStreams)


class PeerCalls:
    """Both directions of calls with one peer.

    Args:
        node: this node's name.
        caller: the peer, as its certificate names it.
        on_want: called with a number of streams that the peer asks for.
    """

    def __init__(
        self, stream: ByteStream, node: str, caller: Caller, dispatch: Dispatch, on_want: Callable[[int], None]
    ) -> None:
        self._stream = stream
        self._node = node
        self._caller = caller
        self._dispatch = dispatch
        self._on_want = on_want
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 1
        self._serving: set[asyncio.Task[None]] = set()
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(_OUTBOX_MAX)
        self._rest = b""

    async def call(self, service: str, method: str, body: bytes, deadline_s: float) -> bytes:
        """Call the peer; the answer is an encoded `Reply`.

        Raises:
            DeadlineExceeded: no answer in time; whether the call took effect is unknown.
            LinkDown: the session ended meanwhile; the same doubt.
            BodyInvalid: the body is over 4 MiB.
        """
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(deadline_s):
                await self._send(Call(number, service, method, body, deadline_s))
                return await future
        except TimeoutError as error:
            what = f"{service}.{method} at {self._caller.node}"
            raise DeadlineExceeded(what=what, deadline_s=round(deadline_s, 3)) from error
        except ChannelReset as error:
            raise LinkDown(node=self._node, peer=self._caller.node, reason=str(error)) from error
        finally:
            self._waiting.pop(number, None)

    def want_streams(self, streams: int) -> bool:
        """Ask the peer, which dialled, for `streams` connections; false if too much waits to be sent: ask again."""
        if self._outbox.full():
            return False
        self._outbox.put_nowait(_packed(WantStreams(streams)))
        return True

    async def run(self) -> None:
        """Take in calls and answers until the session ends; then every waiting call fails.

        Raises:
            StreamCorrupt: the peer sent what is no message.
        """
        reason = "the session ended"
        sender = asyncio.create_task(self._send_on())
        try:
            while True:
                self._received(await self._next_message())
                if len(self._serving) >= 2 * CALLS_MAX:  # it calls and does not read our refusals
                    await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
        except ChannelReset as error:
            reason = str(error)
        finally:
            sender.cancel()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChannelReset(reason))
            for task in list(self._serving):
                task.cancel()

    async def _next_message(self) -> Call | Answer | WantStreams:
        (length,) = _LENGTH.unpack(await self._exactly(_LENGTH.size))
        if not 0 < length <= MESSAGE_MAX_BYTES:
            raise StreamCorrupt(reason=f"message of {length} bytes on the control channel")
        raw = await self._exactly(length)
        try:
            message: Call | Answer | WantStreams = _decoder.decode(raw)
        except ValueError as error:  # msgspec's own, or a string that is not UTF-8
            raise StreamCorrupt(reason=f"control message: {error}") from error
        return message

    async def _exactly(self, count: int) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while have < count:
            parts.append(await self._stream.receive())
            have += len(parts[-1])
        whole = b"".join(parts)
        self._rest = whole[count:]
        return whole[:count]

    def _received(self, message: Call | Answer | WantStreams) -> None:
        if isinstance(message, Answer):
            future = self._waiting.get(message.id)
            if future is not None and not future.done():
                future.set_result(message.reply)
        elif isinstance(message, WantStreams):
            self._on_want(message.streams)
        else:
            task = asyncio.create_task(self._serve(message, admitted=len(self._serving) < CALLS_MAX))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, call: Call, *, admitted: bool) -> None:
        if admitted:
            reply = await self._reply(call)
        else:
            reply = _encode_error(Conflict(detail=f"{self._caller.node} already has {CALLS_MAX} calls under way"))
        if len(reply) > MESSAGE_MAX_BYTES - 64:
            reply = _encode_error(BodyInvalid(detail=f"{call.service}.{call.method} answered {len(reply)} bytes"))
        await self._send(Answer(call.id, reply))

    async def _reply(self, call: Call) -> bytes:
        # Written so that NaN, which is neither, gets the limit too.
        deadline_s = call.deadline_s if 0 <= call.deadline_s <= _DEADLINE_MAX_S else _DEADLINE_MAX_S
        what = f"{call.service}.{call.method}"
        try:
            async with asyncio.timeout(deadline_s):
                return await self._dispatch(self._caller, call.service, call.method, call.body)
        except TimeoutError:
            return _encode_error(DeadlineExceeded(what=what, deadline_s=deadline_s))
        except NovaCronError as error:
            return _encode_error(error)
        except Exception as error:  # a failing dispatch must be an answer, or the caller waits in vain
            log.exception("peer call failed", peer=self._caller.node, what=what)
            return _encode_error(NovaCronError(detail=f"{what}: {error!r}"))

    async def _send(self, message: Call | Answer | WantStreams) -> None:
        await self._outbox.put(_packed(message))

    async def _send_on(self) -> None:
        """The only writer: a caller whose deadline passes must not leave half a message behind."""
        with contextlib.suppress(ChannelReset):
            while True:
                await self._stream.send(await self._outbox.get())


def _packed(message: Call | Answer | WantStreams) -> bytes:
    raw = msgspec.msgpack.encode(message)
    if len(raw) > MESSAGE_MAX_BYTES:
        raise BodyInvalid(detail=f"{len(raw)} bytes are too many for a peer call")
    return _LENGTH.pack(len(raw)) + raw


def _encode_error(error: NovaCronError) -> bytes:
    return msgspec.msgpack.encode(Reply(error=error.code, fields=error.fields))
