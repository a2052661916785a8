"""The handshake on a fresh connection: HELLO from the dialler, WELCOME or REFUSE from the other. Pure.

Payloads are msgpack maps, so that version N + 1 may add fields and version N ignores them.
"""

from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from actors.config.schema import Topology
from actors.errors import StreamCorrupt
from actors.transport.frames import VERSION, Frame, FrameType, encode

SESSION_BYTES = 16
_WINDOW_MIN_BYTES = 1 << 14
_WINDOW_MAX_BYTES = 1 << 30


class Refusal(StrEnum):
    """Why a HELLO was refused."""

    VERSION = "version"
    IDENTITY = "identity"
    SESSION_UNKNOWN = "session-unknown"


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """`node` would join (`resume`) or begin session `session` with node `to`; it buffers `window_bytes` a channel.

    `group`: the key agreement that TLS chose, as only the dialling side can see; for people.
    """

    session: bytes
    node: str
    to: str
    resume: bool
    window_bytes: int
    group: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The connection is part of the session from here on. The frame's version is the agreed one."""

    node: str
    window_bytes: int


class Refuse(msgspec.Struct, frozen=True, kw_only=True):
    """The connection will be closed. `code` is a `Refusal`, or a later version's."""

    code: str
    reason: str


_Message = TypeVar("_Message", Hello, Welcome, Refuse)
_KINDS: dict[type[Hello] | type[Welcome] | type[Refuse], FrameType] = {
    Hello: FrameType.HELLO,
    Welcome: FrameType.WELCOME,
    Refuse: FrameType.REFUSE,
}


def encode_message(message: Hello | Welcome | Refuse, version: int = VERSION) -> bytes:
    """The frame that carries `message`."""
    return encode(Frame(_KINDS[type(message)], payload=msgspec.msgpack.encode(message)), version)


def decode_message(frame: Frame, kind: type[_Message]) -> _Message:
    """The message in `frame`.

    Raises:
        StreamCorrupt: another frame, or not such a message.
    """
    if frame.type is not _KINDS[kind]:
        raise StreamCorrupt(reason=f"{frame.type.name} frame where {_KINDS[kind].name} was due")
    try:
        message = msgspec.msgpack.decode(frame.payload, type=kind)
    except ValueError as error:  # msgspec's own, or a string that is not UTF-8
        raise StreamCorrupt(reason=f"{kind.__name__}: {error}") from error
    if isinstance(message, Hello) and len(message.session) != SESSION_BYTES:
        raise StreamCorrupt(reason=f"session id of {len(message.session)} bytes")
    if not isinstance(message, Refuse) and not _WINDOW_MIN_BYTES <= message.window_bytes <= _WINDOW_MAX_BYTES:
        raise StreamCorrupt(reason=f"window of {message.window_bytes} bytes")
    return message


def agreed_version(own: int, theirs: int) -> int | None:
    """The version two nodes speak: the lower of theirs when they are at most one apart (N and N−1), else None."""
    if own < 1 or theirs < 1 or abs(own - theirs) > 1:
        return None
    return min(own, theirs)


def identity_problem(topology: Topology, node: str, site: str, claimed: str) -> str:
    """What is wrong with a peer: its certificate says `node` of `site`, its HELLO `claimed`; '' if nothing."""
    if claimed != node:
        return f"it calls itself {claimed!r}, its certificate says {node!r}"
    entry = topology.site_of(node)
    if entry is None:
        return f"node {node!r} does not stand in the topology"
    if entry.name != site:
        return f"its certificate says site {site!r}, the topology says {entry.name!r}"
    return ""


def judge_hello(
    hello: Hello, theirs: int, own_node: str, topology: Topology, certificate: tuple[str, str]
) -> tuple[int, Refuse | None]:
    """Whether a HELLO of version `theirs` may join: (agreed version, None) or (version to answer in, the refusal)."""
    version = agreed_version(VERSION, theirs)
    if version is None:
        reason = f"version {theirs}; this node speaks {VERSION} and {max(1, VERSION - 1)}: upgrade the older one"
        return VERSION, Refuse(code=Refusal.VERSION, reason=reason)
    problem = identity_problem(topology, certificate[0], certificate[1], hello.node)
    if not problem and hello.to != own_node:
        problem = f"it looks for {hello.to!r}, this is {own_node!r}"
    if not problem and hello.node == own_node:
        problem = "it is this node itself"
    if problem:
        return version, Refuse(code=Refusal.IDENTITY, reason=problem)
    return version, None
