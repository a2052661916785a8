"""The control state machine: a committed entry in, a result and events out. No clock, no I/O, no chance.

Every member applies the same entries in the same order and has the same state after each, whatever they hold: a command
that is damaged, stale, not allowed or not yet known is refused, by everybody alike, and never raises.
"""

from typing import assert_never

import msgspec

from actors.control import (
    audit,
    author_rules,
    cluster_rules,
    guest_rules,
    lease_rules,
    member_rules,
    move_rules,
    sessions,
    signing,
)
from actors.control.commands import (
    AnyCommand,
    CloseSession,
    ClusterCommand,
    GuestCommand,
    LeaseCommand,
    LoggedCommand,
    MoveCommand,
    OpenSession,
    Signed,
    Upgrade,
)
from actors.control.decision import UNTOLD, Asked, Change, Electorate, Event, Outcome, Refusal, Refused
from actors.control.envelope import COMMAND_BYTES_MAX, Envelope
from actors.control.model import VERSION, Audit, Cluster, ControlState, Result
from actors.errors import SetupMissing

ENVELOPE_BYTES_MAX = COMMAND_BYTES_MAX + 1024
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_NO_COMMAND = "the body is no command of these rules"
_envelopes = msgspec.msgpack.Decoder(Envelope)
_commands: msgspec.msgpack.Decoder[LoggedCommand] = msgspec.msgpack.Decoder(LoggedCommand)


class Applied(msgspec.Struct, frozen=True):
    """What one entry did. `audit` is to be kept outside: the state forgets it after a while."""

    result: Result
    events: tuple[Event, ...] = ()
    audit: Audit | None = None


def skip(state: ControlState, index: int) -> None:
    """Take note of an entry that is no command (a new term, a change of members)."""
    _in_order(state, index)
    state.applied = index


def apply(state: ControlState, index: int, entry: bytes, among: Electorate = UNTOLD) -> Applied:
    """Apply the entry at `index`, the one after `state.applied`, on which `among` agreed.

    Raises:
        SetupMissing: newer rules were put in force, which this member once said it knows but does not; it must stop
            here, since it could not but get another state than the others.
        ValueError: `index` is not the next one: the caller's mistake.
    """
    _in_order(state, index)
    try:
        opened = signing.opened(state, _envelope(state, entry), among)
        envelope = opened.envelope
        repeated = sessions.earlier(state, envelope) if envelope.session else None
    except Refused as no:
        state.applied = index
        return Applied(Result(index=index, code=no.code, detail=no.detail))
    if repeated is not None:
        state.applied = index
        return Applied(repeated)
    applied = _fresh(state, index, opened, among)
    state.applied = index
    # The session may have gone with this very command.
    if envelope.session and str(envelope.session) in state.sessions:
        sessions.answered(state, envelope, applied.result)
    return applied


def exclude(state: ControlState, index: int, evidence: bytes) -> Applied:
    """Apply an `EVIDENCE` entry, with which the members excluded one of them for a lie.

    Raises:
        ValueError: `index` is not the next one: the caller's mistake.
    """
    _in_order(state, index)
    state.applied = index
    found = member_rules.excluded(state, evidence)
    if found is None:
        return Applied(Result(index=index))
    command, change = found
    _write(state, change)
    state.revision = index
    envelope = Envelope(version=command.SINCE, by="members", body=msgspec.msgpack.encode(command))
    entry = audit.record(state, index, envelope, command, f"member {command.number} lied: {command.lie}")
    return Applied(Result(index=index), (Event(index, change.table, change.key, change.record),), entry)


def _in_order(state: ControlState, index: int) -> None:
    if index != state.applied + 1:
        raise ValueError(f"entry {index} can't follow entry {state.applied}")


def _envelope(state: ControlState, entry: bytes) -> Envelope:
    if len(entry) > ENVELOPE_BYTES_MAX:
        raise Refused(Refusal.MALFORMED, f"{len(entry)} bytes are more than {ENVELOPE_BYTES_MAX}")
    try:
        envelope = _envelopes.decode(entry)
    except _BAD:
        raise Refused(Refusal.MALFORMED, "the entry is no envelope") from None
    # Before the body is looked at, so that a member which does not know the command says the same as one which does.
    if envelope.version > state.cluster.version:
        raise Refused(
            Refusal.TOO_NEW, f"it needs version {envelope.version} of the rules; {state.cluster.version} is in force"
        )
    return envelope


def _fresh(state: ControlState, index: int, opened: signing.Opened, among: Electorate) -> Applied:
    """A command that was not seen before."""
    envelope = opened.envelope
    try:
        command = opened.command or _commands.decode(envelope.body)
    except _BAD:
        # What a decoder says in words may change with its version: it is no part of the answer.
        return _refused(index, Refused(Refusal.MALFORMED, _NO_COMMAND))
    try:
        if envelope.version < command.SINCE or isinstance(command, Signed):
            # To members that know older rules only it is no command at all: then it is none to anybody.
            known = state.cluster.version >= command.SINCE
            raise Refused(
                Refusal.MALFORMED, f"that command is of version {command.SINCE} of the rules" if known else _NO_COMMAND
            )
        asked = Asked(index, envelope.by, envelope.at_ms, among, opened.author)
        if signing.must_be_signed(state, among):
            author_rules.may_say(state, command, asked)
        outcome = _decide(state, command, asked, envelope.number)
    except Refused as no:
        return _refused(index, no)
    if isinstance(command, Upgrade) and command.to > VERSION:
        raise SetupMissing(what=f"a NovaCron that knows version {command.to} of the control state's rules")
    for change in outcome.changes:
        _write(state, change)
        if change.table == "authors":
            _key_changed(state, change, index)
    if outcome.changes:
        state.revision = index
    events = tuple(Event(index, change.table, change.key, change.record) for change in outcome.changes)
    told = command.AUDITED and outcome.tells
    entry = audit.record(state, index, envelope, command, outcome.detail) if told else None
    return Applied(Result(index=index, detail=outcome.detail, number=outcome.number), events, entry)


def _refused(index: int, no: Refused) -> Applied:
    return Applied(Result(index=index, code=no.code, detail=no.detail))


def _decide(state: ControlState, command: AnyCommand, asked: Asked, number: int) -> Outcome:
    match command:
        case OpenSession():
            sessions.opened(state, asked, number)
            return Outcome(number=asked.index)
        case CloseSession():
            sessions.closed(state, command.closes, asked.by)
            return Outcome(number=command.closes)
        case _:
            pass
    if isinstance(command, ClusterCommand):
        return cluster_rules.decide(state, command, asked)
    if isinstance(command, LeaseCommand):
        return lease_rules.decide(state, command, asked)
    if isinstance(command, GuestCommand):
        return guest_rules.decide(state, command, asked)
    if isinstance(command, MoveCommand):
        return move_rules.decide(state, command, asked)
    assert_never(command)


def _key_changed(state: ControlState, change: Change, index: int) -> None:
    """No session is opened any more by what the node signed before, with whatever key."""
    if change.record is None:
        state.openings.pop(change.key, None)
    else:
        state.openings[change.key] = index - 1


def _write(state: ControlState, change: Change) -> None:
    if change.table == "cluster":
        assert isinstance(change.record, Cluster), "there is always a cluster"
        state.cluster = change.record
        return
    table = getattr(state, change.table)
    if change.record is None:
        table.pop(change.key, None)
    else:
        table[change.key] = change.record
