"""The shell around a member's consensus core: drives it by its `Ready` contract. No threads, clock or sockets.

Whoever owns one calls `pump` after everything that it told the shell. `pump` gives a `Job` when something is to be made
durable: `run` blocks (in a thread, while the shell goes on taking messages, ticks and proposals), `finished` is called
after it. So one write to disk serves all that came in during the one before. Times are milliseconds of CLOCK_BOOTTIME.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.consensus.bft.messages import Install as BftInstall
from actors.consensus.bft.messages import Status
from actors.consensus.bft.settings import BftSettings
from actors.consensus.chain import Chain, ChainReady, Cores, Protocol
from actors.consensus.raft.config import Config
from actors.consensus.raft.core import Raft
from actors.consensus.raft.members import encode as encode_members
from actors.consensus.raft.messages import Install as RaftInstall
from actors.consensus.ready import NOBODY, Accepted, Evidence, Kind, Member, Membership, Send, Snapshot
from actors.control import snapshot, wire
from actors.control.handing import Giving, Post, Taking
from actors.control.keys import MemberKeys
from actors.control.model import ControlState, Result
from actors.control.outlook import Outlook
from actors.control.parcels import AskEntry, AskIndex, AskState, Carry, EntryIs, IndexIs, Parcel, StateIs
from actors.control.replica import Replica
from actors.control.shelf import Beginning, Shelf, Volume
from actors.control.store import ControlStore
from actors.control.waiting import Decided, Seen, Undecided, Waiting

COMPACT_ENTRIES = 4096
COMPACT_BYTES = 16 << 20
_TICKS_AT_ONCE = 100


class Job(msgspec.Struct, frozen=True):
    """What is to be made durable now: `run` blocks, and raises `Failed` when the disk refuses."""

    run: Callable[[], None]
    publish: Callable[[float], None]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a member is told once. `bft.chain` names the cluster; ticks are `tick_ms` long.

    `compact_entries`: so many applied entries of Raft's are kept before a snapshot stands for them.
    """

    raft: Config
    bft: BftSettings
    tick_ms: float
    compact_entries: int = COMPACT_ENTRIES


class Shell(Outlook):
    """One member.

    Args:
        me: its number.
        shelf: its disk; what is in it decides where it goes on.
        secret: what it signs with.
        seed: fixes its election timeouts, another one for each member and start.
        post: sends to another member, or drops.
        report: told of members that were proven to lie.
    """

    def __init__(
        self,
        me: Member,
        shelf: Shelf,
        settings: Settings,
        secret: Ed25519PrivateKey,
        *,
        seed: int,
        now_ms: float,
        post: Post,
        report: Callable[[Evidence], None] = lambda _: None,
    ) -> None:
        self.me, self.shelf = me, shelf
        self._settings, self._post, self._report = settings, post, report
        newest = shelf.newest
        begins = newest.log.snapshot()
        self.replica = Replica(newest.store.state(), begins.index, now_ms)
        cores = Cores(me, settings.raft, settings.bft, MemberKeys(secret, self._key_of), seed)
        self.core = Chain(shelf, cores, applied=begins.index)
        self._ticked_ms = now_ms
        self._busy = False
        # No number of an earlier life comes again: a late answer to it would be taken for one to a new question.
        self._next = seed % (1 << 30) << 32
        self._waiting = Waiting()
        self._images: dict[tuple[int, bytes], tuple[bytes, ControlState | None]] = {}
        """Snapshots' bytes by index and digest: fetched ones with their state, and checkpoints of this member's own."""
        self._stable: Snapshot | None = None
        self._wants_snapshot = False
        self._giving = Giving(self._state_of, post)
        self._takings: dict[Member, Taking] = {}
        self.heard_ms: dict[Member, float] = {}
        """When each other member was last heard of."""
        self.told: dict[Member, int] = {}
        """In BFT: up to which entry each other member last said that it has committed."""
        self.writes = 0

    def make_snapshot(self) -> None:
        """Have the state stand for the log soon, however short that is (in Raft)."""
        self._wants_snapshot = True

    def change(self, members: Membership) -> bool:
        """Have `members` take part from here on; false: not now. Only Raft's leader can."""
        assert self.trusts, "in BFT f + 1 members would have to ask"
        return isinstance(self.core.propose(encode_members(members), Kind.MEMBERSHIP), Accepted)

    def hand_over(self, heir: Member) -> None:
        """Let another voter lead, if this member leads in Raft."""
        core = self.core.core
        if isinstance(core, Raft):
            core.transfer(heir)

    def _key_of(self, member: Member) -> str:
        known = self.replica.state.members.get(str(member))
        return known.key if known is not None else ""

    # -- what comes in ------------------------------------------------------------------------------------------------

    def pass_time(self, now_ms: float) -> int:
        """Give the core the ticks that are due; how many those were."""
        due = int((now_ms - self._ticked_ms) / self._settings.tick_ms)
        if due <= 0:
            return 0
        self._ticked_ms += due * self._settings.tick_ms
        # After a stop of this process some are enough for everything that a tick can bring about.
        for _ in range(min(due, _TICKS_AT_ONCE)):
            self.core.tick()
        self._giving.tick(now_ms)
        for taking in self._takings.values():
            taking.tick(now_ms)
        return due

    def receive(self, sender: Member, parcel: Parcel, now_ms: float) -> None:
        """Take what `sender`, whose identity was checked, has sent."""
        self.heard_ms[sender] = now_ms
        match parcel:
            case Carry():
                self._carried(sender, parcel, now_ms)
            case AskIndex(number) if self.trusts:
                self._read(now_ms, lambda index: self._tell(sender, IndexIs(number, index)), applied=False)
            case AskIndex(number):
                self._tell(sender, IndexIs(number, 0))
            case IndexIs(number, index):
                self._waiting.index_told(number, index, self.replica.state.applied)
            case AskEntry(number, entry) if self.trusts:
                self._propose(entry, lambda answer: self._tell(sender, _entry_is(number, answer)))
            case AskEntry(number):
                # Nobody signs here for what another member says that it was asked.
                self._tell(sender, EntryIs(number, None, doubt=False, why="every member proposes by itself in BFT"))
            case EntryIs(number, result, doubt, why):
                self._waiting.told(number, result if result is not None else Undecided(why, doubt))
            case AskState():
                self._giving.asked(sender, parcel, now_ms)
            case StateIs():
                self._arrived(sender, parcel, now_ms)

    def _carried(self, sender: Member, parcel: Carry, now_ms: float) -> None:
        kept = dict(self.shelf.parts())
        tagged = wire.unpacked(parcel, kept.get(parcel.part))
        if tagged is None:
            return
        message = tagged.message
        if isinstance(message, Status):
            self.told[sender] = message.committed
        late = isinstance(message, RaftInstall) and message.term < self.core.term
        fetches = isinstance(message, RaftInstall | BftInstall) and tagged.part == self.core.part and not late
        if fetches and message.snapshot.index > self.replica.state.applied:
            self._takings.setdefault(sender, Taking(sender, self._post)).begin(tagged, now_ms)
        else:
            self.core.step(sender, tagged)

    def submit(self, entry: bytes, decided: Decided) -> int:
        """Have `entry` agreed on, in Raft by way of the leader; the key for `forget`. `decided` may never be told."""
        self._next += 1
        leader = self.core.leader
        if leader == self.me or not self.trusts:
            self._propose(entry, decided)
        elif leader == NOBODY:
            decided(Undecided("no leader is known here"))
        else:
            self._waiting.passed_on(self._next, decided)
            if not self._post(leader, AskEntry(self._next, entry)):
                self._waiting.forget(self._next)
                decided(Undecided("the leader can't be reached from here"))
        return self._next

    def read(self, now_ms: float, seen: Seen) -> int:
        """Tell `seen` once the state here shows all that is committed by now; the key for `forget`."""
        self._next += 1
        leader = self.core.leader
        if leader == self.me or not self.trusts:
            self._read(now_ms, seen, applied=True)
        elif leader == NOBODY:
            seen(0)
        else:
            self._waiting.asks(self._next, seen)
            if not self._post(leader, AskIndex(self._next)):
                self._waiting.forget(self._next)
                seen(0)
        return self._next

    def forget(self, key: int) -> None:
        """Whoever asked under `key` waits no longer."""
        self._waiting.forget(key)

    # -- what is to be done -------------------------------------------------------------------------------------------

    def pump(self, now_ms: float) -> Job | None:
        """Do what the core asks for, until it asks for nothing or something is to be made durable."""
        while not self._busy:
            ready = self.core.ready()
            if ready is None:
                return self._compaction()
            self._send(ready.at_once)
            if ready.begins is not None:
                return self._beginning(ready, ready.begins)
            if ready.writes:
                return self._writing(ready)
            self._finish(ready, now_ms)
        return None

    def finished(self, job: Job, now_ms: float) -> None:
        """What `job` wrote is on disk."""
        self._busy = False
        self.writes += 1
        job.publish(now_ms)

    def _writing(self, ready: ChainReady) -> Job:
        self._busy = True
        volume = self.shelf.volume(ready.part)
        named = ready.snapshot
        image = self._images[named.index, named.digest] if named is not None else (b"", None)

        def publish(now_ms: float) -> None:
            volume.log.write(ready)
            if image[1] is not None:
                volume.kept_bytes = 0
                self._restored(image[1], now_ms)
            volume.kept_bytes += sum(len(entry.payload) for entry in ready.entries)
            self._finish(ready, now_ms)

        return Job(lambda: volume.store.write(ready, image[0]), publish)

    def _beginning(self, ready: ChainReady, protocol: Protocol) -> Job:
        """Begin a part on the state as it is now."""
        assert ready.snapshot is not None, "a part begins on a state"
        assert ready.hard_state is not None, "a part goes on with the terms before it"
        assert ready.snapshot.index == self.replica.state.applied, "a part begins where the one before ended"
        self._busy = True
        state = snapshot.encode(self.replica.state)
        named = msgspec.structs.replace(ready.snapshot, digest=snapshot.digest_of(state))
        begins = Beginning(named, state, ready.hard_state, tuple(self.replica.trail))
        made: list[ControlStore] = []

        def publish(_: float) -> None:
            self.shelf.add(ready.part, made[0])
            self.replica.trail = []
            self._images, self._stable = {}, None
            self.told = {}
            self.core.advance()
            self._waiting.over()

        return Job(lambda: made.append(self.shelf.begin(ready.part, protocol, begins)), publish)

    def _finish(self, ready: ChainReady, now_ms: float) -> None:
        self._send(ready.after_persisting)
        for entry in ready.committed:
            self._waiting.applied(entry, self.replica.apply(entry, now_ms, self.among_at(entry.index)))
        for read in ready.reads:
            self._waiting.confirmed(read)
        if ready.committed:
            self._waiting.has_applied(self.replica.state.applied)
        for evidence in ready.evidence:
            self._report(evidence)
        if ready.checkpoint:
            made = snapshot.encode(self.replica.state)
            self._images[ready.checkpoint, snapshot.digest_of(made)] = (made, None)
            self.core.checkpointed(ready.checkpoint, snapshot.digest_of(made))
        if ready.stable is not None and ready.part == self.core.part:
            self._stable = ready.stable
        self.shelf.forget(ready.forgets)
        self.core.advance()

    def _restored(self, state: ControlState, now_ms: float) -> None:
        self.replica.restore(state, now_ms)
        self._images = {named: image for named, image in self._images.items() if named[0] > state.applied}
        self._waiting.overtaken(state.applied)
        self._waiting.has_applied(state.applied)

    def _compaction(self) -> Job | None:
        volume = self.shelf.newest
        if volume.protocol is Protocol.BFT:
            stable, self._stable = self._stable, None
            image = self._images.get((stable.index, stable.digest)) if stable is not None else None
            if stable is None or image is None or stable.index <= volume.log.snapshot().index:
                return None
            self._images = {named: kept for named, kept in self._images.items() if named[0] > stable.index}
            return self._compacting(volume, stable, image[0])
        applied = self.replica.state.applied
        kept = applied - volume.log.snapshot().index
        many = kept >= self._settings.compact_entries or volume.kept_bytes > COMPACT_BYTES or self._wants_snapshot
        few = not (kept and many)
        # Nothing may stand for a `SWITCH`: members that lag need it.
        if few or self.core.sealed:
            return None
        self._wants_snapshot = False
        made = snapshot.encode(self.replica.state)
        members = self.core.membership_at(applied)
        named = Snapshot(applied, volume.log.term(applied), members, snapshot.digest_of(made))
        return self._compacting(volume, named, made)

    def _compacting(self, volume: Volume, named: Snapshot, state: bytes) -> Job:
        self._busy = True
        trail = tuple(entry for entry in self.replica.trail if entry.index <= named.index)

        def publish(_: float) -> None:
            volume.log.compact(named)
            del self.replica.trail[: len(trail)]
            last = volume.log.last()
            later = volume.log.entries(named.index + 1, last) if last > named.index else ()
            volume.kept_bytes = sum(len(entry.payload) for entry in later)

        return Job(lambda: volume.store.compact(named, state, trail), publish)

    # -- within -------------------------------------------------------------------------------------------------------

    def _propose(self, entry: bytes, decided: Decided) -> None:
        if self._waiting.joins(entry, decided):
            return
        answer = self.core.propose(entry)
        if isinstance(answer, Accepted):
            self._waiting.proposed(entry, answer, decided)
        else:
            decided(Undecided(f"member {self.me} does not take it: {answer.why.value}"))

    def _read(self, now_ms: float, seen: Seen, *, applied: bool) -> None:
        """Ask the core. `applied`: tell only once the state here is as far."""
        # A leader's right to answer by itself is counted in ticks: none may be owed.
        self.pass_time(now_ms)
        self._next += 1
        context = self._next.to_bytes(8)
        then = self._waiting.once_applied
        told = (lambda index: then(index, self.replica.state.applied, seen)) if applied else seen
        self._waiting.confirms(context, told)
        if self.core.read(context) is not None:
            self._waiting.unconfirmed(context)
            seen(0)

    def _arrived(self, sender: Member, parcel: StateIs, now_ms: float) -> None:
        taking = self._takings.get(sender)
        taken = taking.told(parcel, now_ms) if taking is not None else None
        if taken is not None:
            install, image, state = taken
            named = install.message.snapshot
            self._images[named.index, named.digest] = (image, state)
            self.core.step(sender, install)
            if self.core.commit < named.index:
                # The core does not believe it.
                del self._images[named.index, named.digest]

    def _state_of(self, index: int) -> bytes | None:
        """A snapshot's bytes: of one that is on disk, or about to be."""
        checkpoints = (image for (at, _), (image, state) in self._images.items() if at == index and state is None)
        return next(checkpoints, None) or self.shelf.state_at(index)

    def _tell(self, member: Member, parcel: Parcel) -> None:
        self._post(member, parcel)

    def _send(self, sends: "Iterable[Send[Any]]") -> None:
        for send in sends:
            for parcel in wire.packed(send.message):
                self._post(send.to, parcel)


def _entry_is(number: int, answer: Result | Undecided) -> EntryIs:
    if isinstance(answer, Undecided):
        return EntryIs(number, None, answer.doubt, answer.why)
    return EntryIs(number, answer)
