"""What somebody asks a member for, and in whose name: looked at first, so that an error comes at once."""

from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.calls.messages import Caller
from actors.config.schema import Config
from actors.consensus.ready import Member
from actors.control.attest import vouched
from actors.control.commands import AnyCommand, EnrolNode, LoggedCommand, Signed, plain, seal
from actors.control.decision import Electorate, Refusal
from actors.control.messages import Submit
from actors.control.model import ControlState
from actors.control.signing import must_be_signed, shows_key
from actors.errors import BodyInvalid, StateRefused

_commands: msgspec.msgpack.Decoder[LoggedCommand] = msgspec.msgpack.Decoder(LoggedCommand)


class Me(NamedTuple):
    """The member that is asked."""

    number: Member
    config: Config
    secret: Ed25519PrivateKey


def entry_for(request: Submit, caller: Caller, state: ControlState, among: Electorate, me: Me) -> tuple[bytes, str]:
    """The entry to propose for `request`, and what it is; `state` and `among` as they are here now.

    Raises:
        StateRefused: `caller` can't ask in that name, or has to sign.
        BodyInvalid: it is no command.
    """
    outer, command = _asked(request, caller)
    if outer is command and must_be_signed(state, among):
        raise StateRefused(refusal=str(Refusal.UNSIGNED), detail="in BFT it takes the signature of the node that asks")
    known = state.authors[caller.node].key if caller.node in state.authors else ""
    if isinstance(command, EnrolNode) and among.bft and command.key != known:
        entry = _vouching(request, outer, command, known, me)
    else:
        by, at_ms = request.by, request.at_ms
        entry = seal(outer, by=by, session=request.session, number=request.number, at_ms=at_ms)
    return entry, type(command).__name__


def _asked(request: Submit, caller: Caller) -> tuple[LoggedCommand, AnyCommand]:
    """The command as it came, and what is asked for in it: the same, or what is signed."""
    try:
        command = _commands.decode(request.command)
        inner = plain(command.body) if isinstance(command, Signed) else command
    except (ValueError, RecursionError, OverflowError) as error:
        raise BodyInvalid(detail=f"no command: {error}") from error
    node, by = f"node:{caller.node}", request.by
    signer = command.signer if isinstance(command, Signed) else node
    if by.startswith("member:") or (by.startswith("node:") and by != node) or "@" in by or signer != node:
        raise StateRefused(refusal=str(Refusal.NOT_YOURS), detail=f"{caller.node} can't ask as {by[:100]}")
    return command, inner


def _vouching(request: Submit, outer: LoggedCommand, inner: EnrolNode, known: str, me: Me) -> bytes:
    """This member's word for the node that calls, whose certificate it has seen: nobody has to take it for enough."""
    site = me.config.topology.site_of(inner.node)
    if not isinstance(outer, Signed) or not shows_key(inner, outer, by=request.by, at_ms=request.at_ms):
        raise StateRefused(refusal=str(Refusal.FORGED), detail=f"{inner.node} does not sign with that key")
    if site is None:
        raise StateRefused(refusal=str(Refusal.UNKNOWN), detail=f"{inner.node} is in no site that is configured here")
    sign = me.secret.sign
    word = vouched(node=inner.node, site=site.name, key=inner.key, after=known, member=me.number, sign=sign)
    return seal(word, by=f"member:{me.config.node.name}", at_ms=request.at_ms)
