"""The shell around a member's consensus core: drives it by its `Ready` contract. No threads, clock or sockets.

Whoever owns one calls `pump` after everything that it told the shell. `pump` gives a `Job` when something is to be made
durable: `run` blocks (in a thread, while the shell goes on taking messages, ticks and proposals), `finished` is called
after it. So one write to disk serves all that came in during the one before. Times are milliseconds of CLOCK_BOOTTIME.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from actors.consensus.raft.config import Config
from actors.consensus.raft.core import Raft
from actors.consensus.raft.messages import Install
from actors.consensus.ready import NOBODY, Accepted, Entry, Member, Ready, Send, Snapshot
from actors.consensus.storage import MemoryStorage
from actors.control import snapshot
from actors.control.handing import Giving, Post, Taking
from actors.control.model import ControlState, Result
from actors.control.parcels import AskEntry, AskIndex, AskState, Carry, EntryIs, IndexIs, Parcel, StateIs
from actors.control.replica import Replica
from actors.control.store import ControlStore

COMPACT_ENTRIES = 4096
COMPACT_BYTES = 16 << 20
ENTRY_BYTES_MAX = 1 << 20
_TICKS_AT_ONCE = 100


class Undecided(msgspec.Struct, frozen=True):
    """An entry was not agreed on; `doubt`: or it is not known whether it was, or still will be."""

    why: str
    doubt: bool = False


Decided = Callable[[Result | Undecided], None]
Seen = Callable[[int], None]
"""Told once the state here has all that was committed when it was asked; with 0 when nobody could tell."""


class Job(msgspec.Struct, frozen=True):
    """What is to be made durable now: `run` blocks, and raises `Failed` when the disk refuses."""

    run: Callable[[], None]
    publish: Callable[[float], None]


class Shell:
    """One member.

    Args:
        me: its number.
        store: its disk; what is in it decides where it goes on.
        config: of the core; ticks are `tick_ms` long.
        seed: fixes its election timeouts, another one for each member and start.
        post: sends to another member, or drops.
        compact_entries: so many applied entries are kept before a snapshot stands for them.
    """

    def __init__(
        self,
        me: Member,
        store: ControlStore,
        config: Config,
        *,
        tick_ms: float,
        seed: int,
        now_ms: float,
        post: Post,
        compact_entries: int = COMPACT_ENTRIES,
    ) -> None:
        self.me = me
        self._store, self._tick_ms, self._post, self._compact_entries = store, tick_ms, post, compact_entries
        begins = store.snapshot()
        # The core reads only what is published here, on the shell's own thread, never what a write has half changed.
        kept = store.entries(begins.index + 1, store.last()) if store.last() > begins.index else ()
        self._disk = MemoryStorage.loaded(store.hard_state(), begins, kept)
        self._kept_bytes = sum(len(entry.payload) for entry in kept)
        self.replica = Replica(store.state(), begins.index, now_ms)
        self.core = Raft(me, self._disk, config, seed, applied=begins.index)
        self._ticked_ms = now_ms
        self._busy = False
        # No number of an earlier life comes again: a late answer to it would be taken for one to a new question.
        self._next = seed % (1 << 30) << 32
        self._placed: dict[int, list[tuple[int, Decided]]] = {}
        self._passed: dict[int, Decided] = {}
        self._asked: dict[int, Seen] = {}
        self._confirming: dict[bytes, Seen] = {}
        self._until_applied: list[tuple[int, Seen]] = []
        self._images: dict[int, tuple[bytes, ControlState]] = {}
        self._giving = Giving(self._state_of, post)
        self._taking = Taking(post)
        self.heard_ms: dict[Member, float] = {}
        """When each other member was last heard of."""
        self.writes = 0

    @property
    def snapshot_index(self) -> int:
        """The entry up to which a snapshot stands for the log."""
        return self._disk.snapshot().index

    # -- what comes in ------------------------------------------------------------------------------------------------

    def pass_time(self, now_ms: float) -> int:
        """Give the core the ticks that are due; how many those were."""
        due = int((now_ms - self._ticked_ms) / self._tick_ms)
        if due <= 0:
            return 0
        self._ticked_ms += due * self._tick_ms
        # After a stop of this process some are enough for everything that a tick can bring about.
        for _ in range(min(due, _TICKS_AT_ONCE)):
            self.core.tick()
        self._giving.tick(now_ms)
        self._taking.tick(now_ms)
        return due

    def receive(self, sender: Member, parcel: Parcel, now_ms: float) -> None:
        """Take what `sender`, whose identity was checked, has sent."""
        self.heard_ms[sender] = now_ms
        match parcel:
            case Carry(Install() as install):
                if install.snapshot.index > self.replica.state.applied and install.term >= self.core.term:
                    self._taking.begin(sender, install, now_ms)
                else:
                    self.core.step(sender, install)
            case Carry(message):
                self.core.step(sender, message)
            case AskIndex(number):
                self._read(now_ms, lambda index: self._tell(sender, IndexIs(number, index)), applied=False)
            case IndexIs(number, index):
                seen = self._asked.pop(number, None)
                if seen is not None:
                    self._once_applied(index, seen)
            case AskEntry(number, entry):
                self._propose(entry, lambda answer: self._tell(sender, _entry_is(number, answer)))
            case EntryIs(number, result, doubt, why):
                decided = self._passed.pop(number, None)
                if decided is not None:
                    decided(result if result is not None else Undecided(why, doubt))
            case AskState():
                self._giving.asked(sender, parcel, now_ms)
            case StateIs():
                self._arrived(sender, parcel, now_ms)

    def submit(self, entry: bytes, decided: Decided) -> int:
        """Have `entry` agreed on, by way of the leader; the key for `forget`. `decided` may never be told."""
        self._next += 1
        leader = self.core.leader
        if leader == self.me:
            self._propose(entry, decided)
        elif leader == NOBODY:
            decided(Undecided("no leader is known here"))
        else:
            self._passed[self._next] = decided
            if not self._post(leader, AskEntry(self._next, entry)):
                del self._passed[self._next]
                decided(Undecided("the leader can't be reached from here"))
        return self._next

    def read(self, now_ms: float, seen: Seen) -> int:
        """Tell `seen` once the state here shows all that is committed by now; the key for `forget`."""
        self._next += 1
        leader = self.core.leader
        if leader == self.me:
            self._read(now_ms, seen, applied=True)
        elif leader == NOBODY:
            seen(0)
        else:
            self._asked[self._next] = seen
            if not self._post(leader, AskIndex(self._next)):
                del self._asked[self._next]
                seen(0)
        return self._next

    def forget(self, key: int) -> None:
        """Whoever asked under `key` waits no longer."""
        self._passed.pop(key, None)
        self._asked.pop(key, None)

    # -- what is to be done -------------------------------------------------------------------------------------------

    def pump(self, now_ms: float) -> Job | None:
        """Do what the core asks for, until it asks for nothing or something is to be made durable."""
        while not self._busy:
            ready = self.core.ready()
            if ready is None:
                return self._compaction()
            self._send(ready.at_once)
            if ready.writes:
                return self._writing(ready)
            self._finish(ready, now_ms)
        return None

    def finished(self, job: Job, now_ms: float) -> None:
        """What `job` wrote is on disk."""
        self._busy = False
        self.writes += 1
        job.publish(now_ms)

    def _writing(self, ready: Ready[Any]) -> Job:
        self._busy = True
        image = self._images[ready.snapshot.index] if ready.snapshot is not None else None

        def publish(now_ms: float) -> None:
            self._disk.write(ready)
            if image is not None:
                self._restored(image[1], now_ms)
            self._kept_bytes += sum(len(entry.payload) for entry in ready.entries)
            self._finish(ready, now_ms)

        return Job(lambda: self._store.write(ready, image[0] if image is not None else b""), publish)

    def _finish(self, ready: Ready[Any], now_ms: float) -> None:
        self._send(ready.after_persisting)
        for entry in ready.committed:
            self._apply(entry, now_ms)
        for read in ready.reads:
            confirmed = self._confirming.pop(read.context, None)
            if confirmed is not None:
                confirmed(read.index)
        if ready.committed:
            self._answer_reads()
        self.core.advance()

    def _apply(self, entry: Entry, now_ms: float) -> None:
        result = self.replica.apply(entry, now_ms)
        for term, decided in self._placed.pop(entry.index, ()):
            if term == entry.term and result is not None:
                decided(result)
            else:
                decided(Undecided("another leader's entry took its place"))

    def _restored(self, state: ControlState, now_ms: float) -> None:
        self.replica.restore(state, now_ms)
        self._images = {index: image for index, image in self._images.items() if index > state.applied}
        self._kept_bytes = 0
        for index in [index for index in self._placed if index <= state.applied]:
            for _, decided in self._placed.pop(index):
                decided(Undecided("this member was overtaken", doubt=True))
        self._answer_reads()

    def _compaction(self) -> Job | None:
        applied, state = self.replica.state.applied, self.replica.state
        kept = applied - self._disk.snapshot().index
        if kept < self._compact_entries and not (kept and self._kept_bytes > COMPACT_BYTES):
            return None
        self._busy = True
        made = snapshot.encode(state)
        named = Snapshot(
            index=applied,
            term=self._disk.term(applied),
            membership=self.core.membership_at(applied),
            digest=snapshot.digest_of(made),
        )
        trail = tuple(self.replica.trail)

        def publish(_: float) -> None:
            self._disk.compact(named)
            del self.replica.trail[: len(trail)]
            last = self._disk.last()
            later = self._disk.entries(named.index + 1, last) if last > named.index else ()
            self._kept_bytes = sum(len(entry.payload) for entry in later)

        return Job(lambda: self._store.compact(named, made, trail), publish)

    # -- within -------------------------------------------------------------------------------------------------------

    def _propose(self, entry: bytes, decided: Decided) -> None:
        answer = self.core.propose(entry)
        if isinstance(answer, Accepted):
            self._placed.setdefault(answer.index, []).append((answer.term, decided))
        else:
            decided(Undecided(f"member {self.me} does not take it: {answer.why.value}"))

    def _read(self, now_ms: float, seen: Seen, *, applied: bool) -> None:
        """Ask the core. `applied`: tell only once the state here is as far."""
        # A leader's right to answer by itself is counted in ticks: none may be owed.
        self.pass_time(now_ms)
        self._next += 1
        context = self._next.to_bytes(8)
        self._confirming[context] = (lambda index: self._once_applied(index, seen)) if applied else seen
        if self.core.read(context) is not None:
            del self._confirming[context]
            seen(0)

    def _once_applied(self, index: int, seen: Seen) -> None:
        if index <= self.replica.state.applied:
            seen(index)
        else:
            self._until_applied.append((index, seen))

    def _answer_reads(self) -> None:
        applied = self.replica.state.applied
        due = [each for each in self._until_applied if each[0] <= applied]
        self._until_applied = [each for each in self._until_applied if each[0] > applied]
        for index, seen in due:
            seen(index)

    def _arrived(self, sender: Member, parcel: StateIs, now_ms: float) -> None:
        taken = self._taking.told(sender, parcel, now_ms)
        if taken is not None:
            install, image, state = taken
            self._images[install.snapshot.index] = (image, state)
            self.core.step(sender, install)

    def _state_of(self, index: int) -> bytes | None:
        return self._store.state() if self._store.snapshot().index == index else None

    def _tell(self, member: Member, parcel: Parcel) -> None:
        self._post(member, parcel)

    def _send(self, sends: "Iterable[Send[Any]]") -> None:
        for send in sends:
            self._post(send.to, Carry(send.message))


def _entry_is(number: int, answer: Result | Undecided) -> EntryIs:
    if isinstance(answer, Undecided):
        return EntryIs(number, None, answer.doubt, answer.why)
    return EntryIs(number, answer)
