"""Entries from the leader to the others: batched, pipelined, or a snapshot (§3.5, §5, §10.2 of the thesis)."""

from msgspec import structs

from actors.consensus.raft import quorum, read
from actors.consensus.raft.log import Log
from actors.consensus.raft.members import decode
from actors.consensus.raft.messages import Append, AppendReply, Install, TimeoutNow
from actors.consensus.raft.progress import Mode, Progress
from actors.consensus.raft.state import STAMP_TICK, Role, State
from actors.consensus.ready import NOBODY, Entry, Kind, Member, Send


def begin(state: State) -> None:
    """Start a term with an entry of its own: only with it are older ones committed."""
    put(state, Kind.NOOP, b"")
    state.ask_now = True


def put(state: State, kind: Kind, payload: bytes) -> Entry:
    """Append an entry to the leader's log; `flush` sends it on."""
    entry = Entry(state.log.last + 1, state.term, kind, payload)
    state.log.append((entry,))
    state.stirred = True
    state.uncommitted_bytes += len(payload)
    if kind is Kind.MEMBERSHIP:
        state.note_members()
        count_copies(state)
    return entry


def tick(state: State) -> None:
    """One tick of a leader: heartbeats are due, or an heir took too long."""
    state.stamp, state.stamp_sent = (state.now + 1) * STAMP_TICK, False
    if (state.now - state.leading_since) % state.config.heartbeat_ticks == 0:
        state.ask_now = state.stirred = True
    if state.heir != NOBODY and state.now - state.heir_since >= state.config.election_ticks:
        state.heir = NOBODY


def flush(state: State) -> None:
    """Send to each member what it should have; to all, if that is due."""
    for member, progress in state.progress.items():
        _send(state, member, progress, state.ask_now)
    state.ask_now = False


def _send(state: State, member: Member, progress: Progress, ask: bool) -> None:
    log, config = state.log, state.config
    if progress.mode is Mode.SNAPSHOT:
        if ask and state.now - progress.snapshot_at >= config.snapshot_ticks:
            progress.snapshot_lost()
        elif ask:
            _append(state, member, progress, 0, ())  # Everybody has entry 0.
    while progress.mode is not Mode.SNAPSHOT:
        behind = progress.next <= log.last
        may = behind and progress.may_send(config.inflight)
        if not (may or ask or (progress.commit_sent < log.commit and progress.mode is Mode.REPLICATE)):
            return
        if progress.next <= log.base.index:
            _install(state, member, progress)
            return
        last = min(log.last, progress.next + config.append_entries - 1)
        again = ask and behind and progress.mode is Mode.PROBE
        entries = log.slice(progress.next, last, config.append_bytes) if may or again else ()
        _append(state, member, progress, progress.next - 1, entries)
        if not entries:
            return
        progress.sent(entries[-1].index)
        ask = False


def _append(state: State, member: Member, progress: Progress, prev: int, entries: tuple[Entry, ...]) -> None:
    prev_term = state.log.term(prev) if prev else 0
    assert prev_term is not None, "what came before is not known"
    progress.commit_sent = state.log.commit
    state.stamp_sent = True
    message = Append(state.term, prev, prev_term, entries, state.log.commit, state.stamp)
    state.at_once.append(Send(member, message))


def _install(state: State, member: Member, progress: Progress) -> None:
    snapshot = state.log.base
    progress.snapshot_sent(snapshot.index, state.now)
    state.stamp_sent = True
    state.at_once.append(Send(member, Install(state.term, snapshot, state.stamp)))


def on_append(state: State, sender: Member, message: Append) -> None:
    """A leader's entries, or its heartbeat."""
    if not _obey(state, sender, message.term, message.stamp):
        return
    log, rules = state.log, state.rules
    if message.prev_index < log.commit:
        # What is committed is the same everywhere; what lies beyond comes again.
        state.reply(sender, AppendReply(state.term, True, log.commit, message.stamp))
        return
    if not rules.matches(log.term(message.prev_index), message.prev_term):
        index, index_term = part(log, message.prev_index, message.prev_term)
        refusal = AppendReply(state.term, False, index, message.stamp, message.prev_index, index_term)
        state.reply(sender, refusal)
        return
    for at, entry in enumerate(message.entries):
        if not rules.keeps(log.term(entry.index), entry.term):
            log.append(message.entries[at:])
            break
    checked = message.prev_index + len(message.entries)
    log.commit_to(rules.commit_told(message.commit, checked))
    state.reply(sender, AppendReply(state.term, True, checked, message.stamp))


def on_install(state: State, sender: Member, message: Install) -> None:
    """A leader's snapshot, whose bytes the caller has."""
    if not _obey(state, sender, message.term, message.stamp):
        return
    log, snapshot = state.log, message.snapshot
    if log.term(snapshot.index) == snapshot.term:
        log.commit_to(snapshot.index)
    elif snapshot.index > log.commit:
        log.restore(structs.replace(snapshot, term=state.rules.snapshot_term(snapshot.term)))
    state.reply(sender, AppendReply(state.term, True, log.commit, message.stamp))


def _obey(state: State, leader: Member, term: int, stamp: int) -> bool:
    """Follow the leader of `term`, unless the term has passed: then say so."""
    if state.rules.is_stale(term, state.term):
        state.reply(leader, AppendReply(state.term, False, 0, stamp))
        return False
    assert state.role is not Role.LEADER or term != state.term, "two leaders of one term"
    if term != state.term or state.role is not Role.FOLLOWER or state.leader != leader:
        state.follow(term, leader)
    state.heard_at = state.timer_at = state.now
    return True


def part(log: Log, index: int, term: int) -> tuple[int, int]:
    """The last entry up to `index` of at most `term`, and its term: all entries after it differ from the asker's.

    Both sides skip so, and thus a whole term of entries that only one of them has costs one message.
    """
    index = min(index, log.last)
    while index > log.base.index and (log.term(index) or 0) > term:
        index -= 1
    return index, log.term(index) or 0


def on_append_reply(state: State, sender: Member, message: AppendReply) -> None:
    """A follower answered."""
    if message.term > state.term:
        state.follow(message.term, NOBODY)
        return
    progress = state.progress.get(sender)
    if state.role is not Role.LEADER or state.rules.is_stale(message.term, state.term) or progress is None:
        return
    progress.heard = max(progress.heard, message.stamp)
    state.stirred = True
    if not message.ok:
        follow, _ = part(state.log, message.index, message.index_term)
        progress.refused(message.prev_index, follow + 1)
    else:
        assert message.index <= state.log.last, "a follower has committed what its leader hasn't"
        if progress.confirmed(message.index):
            count_copies(state)
    if state.role is Role.LEADER:
        read.confirm(state)
        hand_over(state)


def count_copies(state: State) -> None:
    """Commit what a majority has on disk."""
    log = state.log
    index = quorum.reached(state.membership.voters, state.matched, state.rules)
    if index <= log.commit or not state.rules.may_commit(log.term(index) or 0, state.term):
        return
    before = log.commit
    log.commit_to(index)
    state.stirred = True
    if state.uncommitted_bytes:
        done = log.slice(before + 1, index, state.config.uncommitted_bytes)
        state.uncommitted_bytes = max(state.uncommitted_bytes - sum(len(entry.payload) for entry in done), 0)
    if state.me not in log.members.at(index).voters:
        flush(state)  # Tells the others that it is gone.
        state.follow(state.term, NOBODY)
        return
    read.confirm(state)


def hand_over(state: State) -> None:
    """Let the heir follow up as soon as it has the whole log (§3.10)."""
    if state.heir != NOBODY and state.progress[state.heir].match == state.log.last and not state.heir_told:
        state.heir_told = state.lease_given_up = True
        state.at_once.append(Send(state.heir, TimeoutNow(state.term)))


def is_well_formed(message: Append) -> bool:
    """Whether a message is one that any leader could send: what isn't must not get into the log."""
    before = message.prev_term
    for index, entry in enumerate(message.entries, message.prev_index + 1):
        if entry.index != index or not before <= entry.term <= message.term:
            return False
        if entry.kind is Kind.MEMBERSHIP and decode(entry.payload) is None:
            return False
        before = entry.term
    return message.prev_index >= 0
