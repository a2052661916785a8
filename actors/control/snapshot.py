"""The state as canonical bytes: equal states give equal bytes, so members compare digests.

Layout: `NCS1` | u16 version of the rules | u64 length | 32 bytes BLAKE2b of all of these and the payload | payload, big
endian. The payload is the state in msgpack with maps and sets in order.
"""

import struct
from hashlib import blake2b

import msgspec

from actors.control import invariants
from actors.control.model import VERSION, ControlState
from actors.errors import SetupMissing, StateCorrupt

MAGIC = b"NCS1"
BYTES_MAX = 512 << 20
_HEAD = struct.Struct("!4sHQ")
_DIGEST_BYTES = 32
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(ControlState)


def encode(state: ControlState) -> bytes:
    """The snapshot of `state`; O(its size)."""
    payload = _encoder.encode(state)
    head = _HEAD.pack(MAGIC, state.cluster.version, len(payload))
    return b"".join((head, _digest(head, payload), payload))


def digest_of(snapshot: bytes) -> bytes:
    """The 32 bytes that two members compare; `snapshot` is what `encode` gave."""
    return snapshot[_HEAD.size : _HEAD.size + _DIGEST_BYTES]


def decode(snapshot: bytes, where: str = "a snapshot") -> ControlState:
    """The state in `snapshot`, which may come from anywhere; `where` names that in errors.

    Raises:
        StateCorrupt: it is too long, cut short, altered, or breaks an invariant.
        SetupMissing: it is of rules that this code does not know.
    """
    start = _HEAD.size + _DIGEST_BYTES
    if len(snapshot) < start:
        raise StateCorrupt(where=where, reason=f"{len(snapshot)} bytes are too few")
    head = snapshot[: _HEAD.size]
    magic, version, length = _HEAD.unpack(head)
    if magic != MAGIC:
        raise StateCorrupt(where=where, reason="it does not begin like one")
    if length > BYTES_MAX or length != len(snapshot) - start:
        raise StateCorrupt(where=where, reason=f"it says {length} bytes and has {len(snapshot) - start}")
    payload = snapshot[start:]
    if _digest(head, payload) != digest_of(snapshot):
        raise StateCorrupt(where=where, reason="the digest is wrong")
    if version > VERSION:
        raise SetupMissing(what=f"a NovaCron that knows version {version} of the control state's rules")
    try:
        state = _decoder.decode(payload)
    except _BAD as error:
        raise StateCorrupt(where=where, reason=f"the payload is no state: {error}") from None
    if faults := invariants.faults(state):
        raise StateCorrupt(where=where, reason=faults[0])
    return state


def _digest(head: bytes, payload: bytes) -> bytes:
    return blake2b(head + payload, digest_size=_DIGEST_BYTES).digest()
