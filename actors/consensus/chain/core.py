"""One member's side of a log that goes on from Raft to BFT and back: a `Core` over the cores of its parts.

When a part's `SWITCH` entry is committed and handed out, the next part begins on the state after it. The core of the
part before goes on answering, so that whoever lags gets as far by itself, until every member was heard in a later part.
"""

from typing import Any

from actors.consensus.bft import BftCore
from actors.consensus.chain.cores import Cores
from actors.consensus.chain.parts import ChainReady, Protocol, Shelf, Tagged, switched_to
from actors.consensus.chain.rules import RULES, Rules
from actors.consensus.raft import Raft
from actors.consensus.ready import (
    Accepted,
    HardState,
    Kind,
    Member,
    Membership,
    Ready,
    Refused,
    Send,
    Snapshot,
    Why,
)
from actors.consensus.storage import Storage

_ASK_TICKS = 10
_PARTS_MAX = 4
"""Nobody asks for a switch while so many parts are kept: a member must catch up first, or be taken out."""


class _Part:
    """A part that is kept. `handed` is the last entry that was handed out."""

    def __init__(self, number: int, protocol: Protocol, storage: Storage, core: Raft | BftCore, handed: int) -> None:
        self.number, self.protocol, self.storage, self.core = number, protocol, storage, core
        self.first = storage.snapshot().membership
        self.handed = handed


class Chain:
    """See `Core`; its `Ready` is a `ChainReady`. It begins with what `shelf` holds.

    `applied` is the last entry that the state machine has durably applied; a BFT part hands out again what comes after
    its snapshot all the same.
    """

    def __init__(self, shelf: Shelf, cores: Cores, applied: int = 0, rules: Rules = RULES) -> None:
        self._shelf, self._cores, self._rules = shelf, cores, rules
        self._parts: list[_Part] = []
        kept = shelf.parts()
        assert kept, "a member without a log"
        for at, (number, protocol) in enumerate(kept):
            over = at + 1 < len(kept)
            # What comes first in the next part is what this one ended with, or something after it.
            done = _switch_at(shelf.storage_of(number)) if over else applied
            self._open(number, protocol, done)
        self._given: ChainReady | None = None
        self._giver: _Part | None = None
        self._now = 0
        self._reached: dict[Member, int] = {}
        self._told: dict[Member, int] = {}
        self._greetings: list[Send[Tagged]] = []
        self._forgotten: list[int] = []

    def _open(self, number: int, protocol: Protocol, applied: int) -> None:
        storage = self._shelf.storage_of(number)
        handed = max(storage.snapshot().index, applied)
        core = self._cores.open(number, protocol, storage, handed, self._rules)
        self._parts.append(_Part(number, protocol, storage, core, handed))

    @property
    def me(self) -> Member:
        """See `Core`."""
        return self._cores.me

    @property
    def part(self) -> int:
        """Number of the newest part."""
        return self._parts[-1].number

    @property
    def protocol(self) -> Protocol:
        """What the newest part is agreed on with."""
        return self._parts[-1].protocol

    @property
    def core(self) -> Raft | BftCore:
        """The newest part's core."""
        return self._parts[-1].core

    @property
    def term(self) -> int:
        """See `Core`."""
        return self.core.term

    @property
    def leader(self) -> Member:
        """See `Core`."""
        return self.core.leader

    @property
    def membership(self) -> Membership:
        """See `Core`."""
        return self.core.membership

    def membership_at(self, index: int) -> Membership:
        """See `Core`; `index` lies in the newest part."""
        return self.core.membership_at(index)

    @property
    def commit(self) -> int:
        """See `Core`."""
        return self.core.sealed or self.core.commit

    @property
    def sealed(self) -> int:
        """See `Core`: as a whole the log never ends; this is not 0 only until the next part has begun."""
        return self.core.sealed

    def step(self, sender: Member, message: Tagged) -> None:
        """See `Core`. Who is behind is told so, once a tick at most."""
        said, newest = message.part, self._parts[-1]
        self._reached[sender] = max(said, self._reached.get(sender, 0))
        if said < newest.number and self._told.get(sender) != self._now:
            self._told[sender] = self._now
            self._greetings.append(Send(sender, Tagged(newest.number, None)))
        for part in self._parts:
            if message.message is not None and self._rules.concerns(said, part.number):
                part.core.step(sender, message.message)

    def tick(self) -> None:
        """See `Core`."""
        self._now += 1
        for part in self._parts:
            part.core.tick()
        self._forget()

    def _forget(self) -> None:
        """Let old parts go that nobody is in any more; ask who hasn't said so far enough from time to time."""
        while len(self._parts) > 1 and not self.core.sealed:
            oldest = self._parts[0]
            behind = [member for member in self._last_members(oldest) if self._reached.get(member, 0) <= oldest.number]
            if not self._rules.may_forget(len(behind)):
                if self._now % _ASK_TICKS == 0:
                    self._greetings += [Send(member, Tagged(oldest.number, None)) for member in behind]
                return
            self._forgotten.append(oldest.number)
            del self._parts[0]

    def _last_members(self, ended: _Part) -> list[Member]:
        """The other members as of its `SWITCH` that are still in; who joined later began in a later part."""
        then, now = ended.core.membership_at(ended.core.sealed), self.core.membership_at(self.core.commit)
        return sorted({*then.voters, *then.learners} & {*now.voters, *now.learners} - {self.me})

    def propose(self, payload: bytes, kind: Kind = Kind.COMMAND) -> Accepted | Refused:
        """See `Core`. A `SWITCH`'s payload is `switch_to` of the other protocol."""
        core = self.core
        if not self._rules.serves(core.sealed):
            return Refused(Why.CHANGING, core.leader)
        if kind is Kind.SWITCH:
            wanted = switched_to(payload)
            if wanted is None or wanted is self.protocol:
                return Refused(Why.INVALID, core.leader)
            if len(self._parts) >= _PARTS_MAX:
                return Refused(Why.BUSY, core.leader)
        return core.propose(payload, kind)

    def read(self, context: bytes) -> Refused | None:
        """See `Core`."""
        core = self.core
        return core.read(context) if self._rules.serves(core.sealed) else Refused(Why.CHANGING, core.leader)

    def checkpointed(self, index: int, digest: bytes) -> None:
        """See `BftCore.checkpointed`: the answer to `Ready.checkpoint`, which only a BFT part asks for."""
        core = self.core
        assert isinstance(core, BftCore), "Raft asks for no digests"
        core.checkpointed(index, digest)

    def ready(self) -> ChainReady | None:
        """See `Core`."""
        assert self._given is None, "advance() was not called"
        newest = self._parts[-1]
        for part in reversed(self._parts):
            ready = part.core.ready()
            if ready is not None:
                self._giver, self._given = part, self._tagged(part, ready)
                return self._given
            if part is newest and self._rules.is_over(newest.core.sealed, newest.handed):
                self._given = self._next(newest)
                return self._given
        if self._greetings or self._forgotten:
            greetings, forgets = tuple(self._greetings), tuple(self._forgotten)
            self._greetings, self._forgotten = [], []
            self._given = ChainReady(part=newest.number, after_persisting=greetings, forgets=forgets)
        return self._given

    def _next(self, ended: _Part) -> ChainReady:
        """The part after `ended`: every member comes to the same one."""
        core, rules = ended.core, self._rules
        entry = ended.storage.entries(core.sealed, core.sealed)[0]
        membership = rules.first_members(core.membership_at(entry.index), ended.first)
        term = rules.first_term(entry.term)
        return ChainReady(
            part=ended.number + 1,
            begins=switched_to(entry.payload) or ended.protocol,
            snapshot=Snapshot(entry.index, term, membership),
            hard_state=HardState(term=term, commit=entry.index),
        )

    def _tagged(self, part: _Part, ready: Ready[Any]) -> ChainReady:
        def tag(sends: tuple[Send[Any], ...]) -> tuple[Send[Tagged], ...]:
            return tuple(Send(send.to, Tagged(part.number, send.message)) for send in sends)

        live = part is self._parts[-1]
        hands_out = self._rules.hands_out(over=not live)
        if live:
            part.handed = max(part.handed, ready.snapshot.index if ready.snapshot else 0)
            part.handed = ready.committed[-1].index if ready.committed else part.handed
        return ChainReady(
            part=part.number,
            at_once=tag(ready.at_once),
            snapshot=ready.snapshot,
            entries=ready.entries,
            hard_state=ready.hard_state,
            after_persisting=tag(ready.after_persisting),
            committed=ready.committed if hands_out else (),
            reads=ready.reads if self._rules.serves(part.core.sealed) else (),
            evidence=ready.evidence,
            checkpoint=ready.checkpoint if live else 0,
            stable=ready.stable,
        )

    def advance(self) -> None:
        """See `Core`."""
        assert self._given is not None, "ready() was not called"
        given, giver = self._given, self._giver
        self._given = self._giver = None
        if giver is not None:
            giver.core.advance()
        elif given.begins is not None:
            assert given.snapshot is not None, "a part begins on a state"
            self._open(given.part, given.begins, given.snapshot.index)


def _switch_at(storage: Storage) -> int:
    """Where a part that is over ended: its one `SWITCH` entry."""
    first, last = storage.snapshot().index + 1, storage.last()
    found = [entry.index for entry in storage.entries(first, last) if entry.kind is Kind.SWITCH]
    assert found, "a part that is over has lost its SWITCH"
    return found[0]
