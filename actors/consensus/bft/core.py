"""One member in BFT mode: messages, ticks and proposals in, `Ready` out (see `actors/consensus/core.py`)."""

from collections import deque
from collections.abc import Iterator

from actors.consensus.bft.catching_up import CatchingUp
from actors.consensus.bft.changes import membership_after
from actors.consensus.bft.checkpoints import Checkpoints
from actors.consensus.bft.keys import Keys
from actors.consensus.bft.leading import Leading
from actors.consensus.bft.ledger import Ledger, Node
from actors.consensus.bft.messages import (
    Accuse,
    Ask,
    BftMessage,
    Change,
    Claim,
    Fetch,
    Install,
    Links,
    Propose,
    Request,
    Status,
    Submit,
    Timeout,
    Vote,
    block_id,
)
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.promise import Promise, fresh, pack, unpack
from actors.consensus.bft.requests import Requests
from actors.consensus.bft.rules import RULES, Rules
from actors.consensus.bft.settings import BftSettings
from actors.consensus.bft.state import State
from actors.consensus.bft.views import Views
from actors.consensus.bft.voting import Voting
from actors.consensus.bft.witness import proves
from actors.consensus.ready import Accepted, Entry, Evidence, HardState, Kind, Member, Membership, Ready, Refused, Why
from actors.consensus.storage import Storage


class BftCore:
    """See `Core`. Tolerates f liars among n ≥ 3f + 1 members, any number of crashes, and any network.

    Everything it promises is in `Ready.after_persisting`. It begins with what `storage` holds; entries after the
    snapshot are handed out again.
    """

    def __init__(self, me: Member, keys: Keys, storage: Storage, settings: BftSettings, rules: Rules = RULES) -> None:
        notary = Notary(me, keys, settings.chain, rules)
        ledger = Ledger(storage, settings.chain)
        stored = storage.entries(ledger.base + 1, storage.last()) if storage.last() > ledger.base else ()
        ledger.replay(stored, settings.checkpoint)
        self._state = State(settings, notary, ledger, *_restore(ledger, storage.hard_state()))
        self._voting = Voting(self._state)
        self._views = Views(self._state, self._voting)
        self._leading = Leading(self._state, self._voting)
        self._checkpoints = Checkpoints(self._state)
        self._checkpoints.stable = storage.snapshot() if storage.snapshot().proof else None
        self._catching_up = CatchingUp(self._state, self._voting, self._checkpoints)
        self._requests = Requests(self._state)
        self._unapplied: deque[Entry] = deque(stored)
        self._queued = ledger.last
        self._applied = ledger.base
        self._told_stable = ledger.base
        self._told_evidence = 0
        self._waits_for_advance = False
        self._voting.retry()

    @property
    def me(self) -> Member:
        """See `Core`."""
        return self._state.me

    @property
    def term(self) -> int:
        """The view."""
        return self._state.view

    @property
    def leader(self) -> Member:
        """See `Core`."""
        return self._state.era.leader(self._state.view)

    @property
    def membership(self) -> Membership:
        """See `Core`."""
        return self._state.era.membership

    @property
    def commit(self) -> int:
        """See `Core`."""
        return self._state.ledger.last

    @property
    def sealed(self) -> int:
        """See `Core`."""
        return self._state.ledger.sealed

    def heard(self) -> Iterator[Claim]:
        """What others claimed, as far as it is remembered: what one of them claimed differently elsewhere will out."""
        return self._state.witness.remembers()

    def membership_at(self, index: int) -> Membership:
        """See `Core`."""
        return next(members for first, members in reversed(self._state.ledger.memberships) if first <= index)

    def propose(self, payload: bytes, kind: Kind = Kind.COMMAND) -> Accepted | Refused:
        """See `Core`. A change of members or protocol is only asked for: f + 1 members must propose the same one."""
        state = self._state
        refused = self._refuses(payload, kind)
        if refused is not None:
            return Refused(refused, self.leader)
        if kind is Kind.COMMAND:
            self._requests.make(kind, payload)
        else:
            ask = state.notary.ask(state.era.number, kind, payload)
            state.asks.add(ask, state.era, state.notary)
            state.broadcast(Submit((), (ask,)))
        self._go(None)
        return Accepted(0, state.view)

    def read(self, context: bytes) -> Refused | None:
        """See `Core`. The read is an entry of its own: it costs what a write costs."""
        refused = self._refuses(context, Kind.COMMAND)
        if refused is not None:
            return Refused(refused, self.leader)
        self._requests.make(Kind.NOOP, b"", context)
        self._go(None)
        return None

    def _refuses(self, payload: bytes, kind: Kind) -> Why | None:
        state = self._state
        if len(payload) > state.settings.payload_bytes:
            return Why.TOO_LARGE
        if state.ledger.sealed:
            return Why.CHANGING
        if not state.era.knows(state.me):
            return Why.NOT_LEADER
        if kind is Kind.COMMAND:
            return None if self._requests.room() else Why.BUSY
        if kind not in (Kind.MEMBERSHIP, Kind.SWITCH):
            return Why.INVALID
        return Why.INVALID if membership_after(Change(kind, payload), self.membership) is None else None

    def checkpointed(self, index: int, digest: bytes) -> None:
        """Answer `Ready.checkpoint`: the state machine's state after `index` has this digest.

        Must be deterministic: members that have applied the same entries give the same digest.
        """
        self._checkpoints.taken(index, digest)
        self._go(None)

    def tick(self) -> None:
        """See `Core`."""
        state = self._state
        state.now += 1
        self._views.tick()
        if state.now % state.settings.beat == 0:
            self._beat()
        self._go(None)

    def _beat(self) -> None:
        """Say again what may have got lost."""
        state = self._state
        state.broadcast(self._catching_up.status())
        for member in sorted(state.caught):
            state.broadcast(Accuse(state.caught[member]))
        if not state.active:
            return
        self._leading.repeat()
        voted = state.promise.voted
        if voted is not None and state.promise.voted_rank > state.promise.high.rank:
            state.broadcast(voted)
        self._requests.repeat()
        if state.ledger.path(state.promise.high.ballot.block) is None:
            voters = self.membership.voters
            self._catching_up.fetch(voters[state.now // state.settings.beat % len(voters)])

    def step(self, sender: Member, message: BftMessage) -> None:
        """See `Core`."""
        if not self._same_era(sender, message):
            return
        self._dispatch(sender, message)
        self._go(sender)

    def _same_era(self, sender: Member, message: BftMessage) -> bool:
        """Whether `message` may be looked at now; members of different eras tell each other."""
        era = self._state.era.number
        match message:
            case Propose(link=link):
                said = link.block.era
            case Vote(era=said) | Timeout(era=said):
                pass
            case _:
                return True
        if said > era:
            self._catching_up.fetch(sender)
        elif said < era:
            self._catching_up.tell(sender)
        return bool(said == era)

    def _dispatch(self, sender: Member, message: BftMessage) -> None:
        match message:
            case Propose():
                self._voting.on_propose(message)
            case Vote():
                self._voting.on_vote(message)
            case Timeout():
                if not self._views.on_timeout(message):
                    self._catching_up.tell(sender)
            case Submit(requests=requests, asks=asks):
                self._on_submit(requests, asks)
            case Status():
                self._catching_up.on_status(sender, message)
            case Fetch():
                self._catching_up.on_fetch(sender, message)
            case Links():
                self._catching_up.on_links(sender, message)
            case Install(snapshot=snapshot):
                if self._catching_up.on_install(snapshot):
                    self._unapplied.clear()
                    self._queued = snapshot.index
                    self._requests.skip()
            case Accuse(evidence=evidence):
                if proves(evidence, self._state.notary):
                    self._state.catch(evidence)

    def _on_submit(self, requests: tuple[Request, ...], asks: tuple[Ask, ...]) -> None:
        for request in requests[: self._state.settings.pending]:
            self._requests.take(request)
        for ask in asks[: 2 * len(self.membership.voters)]:
            self._state.asks.add(ask, self._state.era, self._state.notary)

    def _go(self, sender: Member | None) -> None:
        """Do what follows from whatever has changed."""
        state, voting = self._state, self._voting
        while True:
            voting.retry()
            self._settle()
            if not self._leading.propose():
                break
        if voting.lacking:
            voting.lacking = False
            if sender is not None:
                self._catching_up.fetch(sender)
        for evidence in state.evidence[self._told_evidence :]:
            state.broadcast(Accuse(evidence))
        self._told_evidence = len(state.evidence)

    def _settle(self) -> None:
        """Account for blocks that were committed."""
        blocks = self._voting.committed
        self._unapplied.extend(entry for entry in self._state.entries if entry.index > self._queued)
        if self._unapplied:
            self._queued = self._unapplied[-1].index
        if blocks:
            self._voting.committed = []
            self._views.calm(len(blocks))
            for block in blocks:
                self._requests.committed(block)
            if any(block.change is not None for block in blocks):
                self._checkpoints.begin_era()

    def ready(self) -> Ready[BftMessage] | None:
        """See `Core`."""
        assert not self._waits_for_advance, "advance() was not called"
        state = self._state
        self._requests.flush()
        snapshot, self._catching_up.installed = self._catching_up.installed, None
        if snapshot is not None:
            self._applied = self._told_stable = snapshot.index
        committed, checkpoint = self._hand_out()
        stable = self._checkpoints.stable
        if stable is not None and stable.index <= self._told_stable:
            stable = None
        reads = self._requests.answered(self._applied)
        persists = state.dirty or bool(state.entries) or snapshot is not None
        if not (persists or state.outbox or committed or reads or state.evidence or stable):
            return None
        if stable is not None:
            self._told_stable = stable.index
        ready: Ready[BftMessage] = Ready(
            snapshot=snapshot,
            entries=tuple(state.entries),
            hard_state=self._hard_state() if persists else None,
            after_persisting=tuple(state.outbox),
            committed=committed,
            reads=reads,
            evidence=tuple(state.evidence),
            checkpoint=checkpoint,
            stable=stable,
        )
        state.entries, state.outbox, state.evidence, state.dirty = [], [], [], False
        self._told_evidence = 0
        self._waits_for_advance = True
        return ready

    def _hand_out(self) -> tuple[tuple[Entry, ...], int]:
        """Committed entries up to the next checkpoint, and that checkpoint's index, 0 if it isn't reached."""
        committed: list[Entry] = []
        while self._unapplied:
            committed.append(self._unapplied.popleft())
            self._applied = committed[-1].index
            if self._applied in self._state.ledger.dues:
                return tuple(committed), self._applied
        return tuple(committed), 0

    def _hard_state(self) -> HardState:
        state = self._state
        promise, caught = state.notary.rules.remembers(state.promise), tuple(state.caught.values())
        extra = pack(promise, state.ledger.links(), caught)
        return HardState(term=state.view, commit=state.ledger.last, extra=extra)

    def advance(self) -> None:
        """See `Core`."""
        self._waits_for_advance = False


def _restore(ledger: Ledger, hard_state: HardState) -> tuple[Promise, tuple[Evidence, ...]]:
    """What was promised, with the blocks that it is about put back into `ledger`, and who was caught."""
    if not hard_state.extra:
        return fresh(ledger.era), ()
    memory = unpack(hard_state.extra)
    promise = memory.promise
    if promise.era != ledger.era.number:
        return fresh(ledger.era, promise.numbers_below), memory.caught
    for link in memory.links:
        if ledger.knows(link.block.parent):
            ledger.add(Node(block_id(link.block), link))
    return promise, memory.caught
