"""What Raft's members say to each other."""

import msgspec

from actors.consensus.ready import Entry, Snapshot


class Append(msgspec.Struct, frozen=True, tag=1, array_like=True, gc=False):
    """A leader's entries after (`prev_index`, `prev_term`); without entries it is a heartbeat.

    `stamp` says when the leader sent it, in the leader's own count; replies repeat it.
    """

    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    stamp: int


class AppendReply(msgspec.Struct, frozen=True, tag=2, array_like=True, gc=False):
    """If `ok`, all entries up to `index` are on disk as the leader has them.

    If not, there is no entry `prev_index` of that term here (0: `term` is newer than the leader's), and the leader's
    log can't agree with this one after `index`, unless with an entry of at most `index_term`.
    """

    term: int
    ok: bool
    index: int
    stamp: int
    prev_index: int = 0
    index_term: int = 0


class Install(msgspec.Struct, frozen=True, tag=3, array_like=True, gc=False):
    """A leader's snapshot, for a member whose next entry the leader has no more. Answered by an `AppendReply`."""

    term: int
    snapshot: Snapshot
    stamp: int


class Vote(msgspec.Struct, frozen=True, tag=4, array_like=True, gc=False):
    """Asks for a vote in `term`, or (`pre`) whether there would be one.

    `forced`: the leader itself asked for this election, so nobody need wait until it is silent.
    """

    term: int
    last_index: int
    last_term: int
    pre: bool = False
    forced: bool = False


class VoteReply(msgspec.Struct, frozen=True, tag=5, array_like=True, gc=False):
    """`term` is the one voted in if granted, else the voter's own."""

    term: int
    granted: bool
    pre: bool = False


class TimeoutNow(msgspec.Struct, frozen=True, tag=6, array_like=True, gc=False):
    """The leader wants its receiver, which has the whole log, to be the leader."""

    term: int


Message = Append | AppendReply | Install | Vote | VoteReply | TimeoutNow
