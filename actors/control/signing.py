"""Whose word a command is: what its author signs, and who that was.

The signature covers who signs, who asks, the command's place among the client's (session and number), its time and its
bytes. So nobody can say it in another's name, change it, or have it take effect twice. What a node signs outside a
session is only what may be repeated, or (`OpenSession`) has a number that is used once.
"""

from collections.abc import Callable
from functools import lru_cache

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from actors.control.commands import (
    AnyCommand,
    AttestExpiry,
    EnrolNode,
    LoggedCommand,
    OpenSession,
    Signed,
    VouchNode,
    seal,
)
from actors.control.decision import Electorate, Refusal, Refused
from actors.control.envelope import Envelope
from actors.control.model import ControlState

SIGNED_SINCE = Signed.SINCE
"""The version of the rules from which on commands are signed by their authors, and must be in BFT."""
_TRUSTED_SINCE = 6
"""From this version on Raft's members, who trust each other, do not look at what a node has signed: whichever of them
took the command saw the node's certificate, and a look takes up to a third of what an entry costs."""
_PURPOSE = "novacron: a command to the control state"
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_commands: msgspec.msgpack.Decoder[LoggedCommand] = msgspec.msgpack.Decoder(LoggedCommand)


class Opened(msgspec.Struct, frozen=True):
    """An envelope and what is known of its author.

    `envelope`: as if the command in it were not signed; `by` is then what the signature proves. `command`: None where
    the body was not looked at yet. `author`: the node that signed, '' for none.
    """

    envelope: Envelope
    command: AnyCommand | None = None
    author: str = ""


def signed(
    command: AnyCommand,
    signer: str,
    sign: Callable[[bytes], bytes],
    *,
    by: str,
    session: int = 0,
    number: int = 0,
    at_ms: int = 0,
) -> Signed:
    """`command`, signed by `signer` (`node:NAME` or `member:NUMBER`) for this very place and time."""
    body = msgspec.msgpack.encode(command)
    statement = _statement(signer, by, session, number, at_ms, body)
    return Signed(signer=signer, signature=sign(statement).hex(), body=body)


def seal_signed(
    command: AnyCommand,
    signer: str,
    sign: Callable[[bytes], bytes],
    *,
    by: str,
    session: int = 0,
    number: int = 0,
    at_ms: int = 0,
) -> bytes:
    """The bytes of one entry of the log, with a signed command."""
    made = signed(command, signer, sign, by=by, session=session, number=number, at_ms=at_ms)
    return seal(made, by=by, session=session, number=number, at_ms=at_ms)


def opened(state: ControlState, envelope: Envelope, among: Electorate) -> Opened:
    """Look who is the author of what is in `envelope`, before anything is done or kept of it.

    Raises:
        Refused: it is not its author's; or it is nobody's, and `among` may be members that lie.
    """
    strict = must_be_signed(state, among)
    if envelope.version < SIGNED_SINCE and not strict:
        return Opened(envelope)
    try:
        command = _commands.decode(envelope.body)
    except _BAD:
        if strict:
            raise Refused(Refusal.MALFORMED, "the body is no command of these rules") from None
        return Opened(envelope)
    if isinstance(command, Signed):
        return _by_its_author(state, envelope, command, among)
    if strict:
        _signs_itself(state, envelope, command)
    return Opened(envelope, command)


def shows_key(asked: EnrolNode, outer: Signed, *, by: str, at_ms: int) -> bool:
    """Whether `outer`, outside a session, is signed with the very key that is said in it."""
    statement = _statement(outer.signer, by, 0, 0, at_ms, outer.body)
    return outer.signer == f"node:{asked.node}" and is_by(asked.key, outer.signature, statement)


def must_be_signed(state: ControlState, among: Electorate) -> bool:
    """Whether a command counts only with its author's signature."""
    return among.bft and state.cluster.version >= SIGNED_SINCE


def is_by(key: str, signature: str, statement: bytes) -> bool:
    """Whether the owner of `key` (Ed25519, in hexadecimal like `signature`) signed `statement`."""
    try:
        _key(key).verify(bytes.fromhex(signature), statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def _by_its_author(state: ControlState, envelope: Envelope, outer: Signed, among: Electorate) -> Opened:
    try:
        command = _commands.decode(outer.body)
    except _BAD:
        raise Refused(Refusal.MALFORMED, "the signed body is no command of these rules") from None
    if isinstance(command, Signed) or envelope.version != max(Signed.SINCE, command.SINCE):
        raise Refused(Refusal.MALFORMED, "a signed command is in an envelope of its own version")
    kind, _, name = outer.signer.partition(":")
    key, by, author = "", "", ""
    if kind == "node":
        _has_a_place(envelope, command)
        key, author = _node_key(state, name, command), name
        # The operator that a node speaks for is one of that node's.
        by = f"{envelope.by}@{name}" if envelope.by.startswith("operator:") else f"node:{name}"
    elif kind == "member" and (known := state.members.get(name)) is not None:
        key, by = known.key, f"member:{known.node}"
    if not key:
        raise Refused(Refusal.NO_KEY, f"{outer.signer[:100]} has not said its key yet: it does so by itself")
    if envelope.by not in (by, by.partition("@")[0]):
        raise Refused(Refusal.NOT_YOURS, f"{outer.signer} can't ask as {envelope.by}")
    at, number = envelope.at_ms, envelope.number
    trusted = not among.bft and state.cluster.version >= _TRUSTED_SINCE and not isinstance(command, EnrolNode)
    statement = _statement(outer.signer, envelope.by, envelope.session, number, at, outer.body)
    if not trusted and not is_by(key, outer.signature, statement):
        raise Refused(Refusal.FORGED, f"{outer.signer} did not sign that, or signs with another key now")
    return Opened(replace(envelope, by=by, body=outer.body), command, author)


def _node_key(state: ControlState, name: str, command: AnyCommand) -> str:
    # Who says a key signs with it: so it has it.
    if isinstance(command, EnrolNode):
        return command.key if command.node == name else ""
    known = state.authors.get(name)
    return known.key if known is not None else ""


def _has_a_place(envelope: Envelope, command: AnyCommand) -> None:
    outside = isinstance(command, EnrolNode | OpenSession)
    if outside == bool(envelope.session):
        raise Refused(Refusal.MALFORMED, "a node signs its commands in a session, and no other than these outside one")


def _signs_itself(state: ControlState, envelope: Envelope, command: AnyCommand) -> None:
    """Refuse what carries no signature at all."""
    if not isinstance(command, AttestExpiry | VouchNode):
        raise Refused(
            Refusal.UNSIGNED,
            "members agree in BFT, where one that lies could say this in another's name: it takes the signature of the"
            " node that asks, which a NovaCron of today gives by itself",
        )
    known = state.members.get(str(command.member))
    if envelope.session or known is None or envelope.by != f"member:{known.node}":
        raise Refused(Refusal.NOT_YOURS, f"{envelope.by} is not member {command.member}")


def _statement(signer: str, by: str, session: int, number: int, at_ms: int, body: bytes) -> bytes:
    return msgspec.msgpack.encode((_PURPOSE, signer, by, session, number, at_ms, body))


@lru_cache(maxsize=2048)
def _key(key: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
