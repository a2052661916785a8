"""Going on without the majority: an operator's last resort at one member, while its node is stopped.

The member's own log counts as committed, and a part of the log begins on it, in Raft, with this member alone. The
decree that it begins with makes the lineage grow, so that each later epoch is above all that the lost part may have
granted (docs/control.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from actors.config.schema import Config
from actors.consensus.bft.changes import membership_after
from actors.consensus.bft.messages import Change
from actors.consensus.chain import Protocol
from actors.consensus.ready import Entry, HardState, Membership, Snapshot
from actors.control import snapshot
from actors.control.commands import Override, seal
from actors.control.decision import Electorate, Refusal
from actors.control.members import FOUNDERS_FILE, JOINED_FILE, Founder, Joined, has_left, joined, members_of
from actors.control.model import ControlState
from actors.control.ownership import risk_of
from actors.control.replica import Replica
from actors.control.shelf import Beginning, Shelf, parts_in
from actors.errors import Conflict, NotFound, StateCorrupt, StateRefused
from actors.files import write_atomically

log = structlog.get_logger()


class Recovery:
    """What one member's disk holds, and the way on for it alone.

    `risk`: what is risked by going on, the sentence that an operator has to repeat.
    """

    def __init__(self, folder: Path, shelf: Shelf, alone: Founder, lost: tuple[str, ...]) -> None:
        self._folder, self._shelf, self._alone, self._lost = folder, shelf, alone, lost
        store, log = shelf.newest.store, shelf.newest.log
        begins = log.snapshot()
        self._replica = Replica(store.state(), begins.index, 0.0)
        self._members, bft = begins.membership, shelf.newest.protocol is Protocol.BFT
        for entry in log.entries(begins.index + 1, log.last()) if log.last() > begins.index else ():
            changed = membership_after(Change(entry.kind, entry.payload), self._members)
            self._members = changed or self._members
            among = Electorate(self._members.voters, self._members.learners, bft)
            self._replica.apply(entry, 0.0, among)
        self.risk = risk_of(self.state, lost)

    @property
    def state(self) -> ControlState:
        """The state with all that this member's log has."""
        return self._replica.state

    def others(self, founders: tuple[Founder, ...], came: Joined | None) -> list[str]:
        """The nodes of the other members, as of the end of this member's log."""
        known = {each.number: each.node for each in (*founders, *(came.members if came is not None else ()))}
        known |= {seat.number: seat.node for seat in self.state.seats.values()}
        numbers = {*self._members.voters, *self._members.learners}
        return sorted({known[number] for number in numbers & known.keys()} - {self._alone.node})

    def go_on(self, risk: str, reason: str) -> None:
        """Make this member the only one.

        Raises:
            StateRefused: `risk` is not what is risked, or the state knows no such node.
        """
        if risk != self.risk:
            raise StateRefused(refusal=str(Refusal.RISK_CHANGED), detail=self.risk)
        shelf, kept = self._shelf, self._shelf.newest.log
        at, term = kept.last() + 1, max(kept.hard_state().term, kept.term(kept.last())) + 1
        decree = Override(nodes=self._lost, risk=risk, reason=reason, lineage=True)
        payload = seal(decree, by="operator:recovery", at_ms=int(time.time() * 1000))
        # On the state in memory first: only what is accepted is written.
        result = self._replica.apply(Entry(at, term, payload=payload), 0.0)
        if result is not None and not result.accepted:
            raise StateRefused(refusal=result.code, detail=result.detail)
        state = snapshot.encode(self.state)
        named = Snapshot(at, term, Membership((self._alone.number,)), snapshot.digest_of(state))
        begins = Beginning(named, state, HardState(term=term, commit=at), tuple(self._replica.trail))
        before = tuple(number for number, _ in shelf.parts())
        part = before[-1] + 1
        shelf.add(part, shelf.begin(part, Protocol.RAFT, begins))
        shelf.forget(before)
        # After the store: broken off between the two, the node refuses to start and this can be done again.
        write_atomically(self._folder / FOUNDERS_FILE, msgspec.json.encode((self._alone,)), 0o600)
        (self._folder / JOINED_FILE).unlink(missing_ok=True)
        log.warning("this member goes on alone", lost=self._lost, risk=risk, reason=reason, term=term)


@contextmanager
def recovering(folder: Path, config: Config, lost: tuple[str, ...]) -> Iterator[Recovery]:
    """Open this node's member, which must not run, to go on without the members on `lost`.

    Raises:
        Conflict: the configuration names other members than this node, or another founder is not named as lost.
        NotFound: there is no member here.
        StateCorrupt: its disk can't be read.
        Failed: the node still runs.
    """
    me = config.node.name
    now = members_of(config)
    if [each.node for each in now] != [me]:
        raise Conflict(
            detail=f"set consensus.members to [{me}] first, on every node that is left: the control state goes on with"
            " this member alone, and the others must not be asked any more"
        )
    path = folder / FOUNDERS_FILE
    if not path.exists() or not parts_in(folder):
        raise NotFound(what=f"member of the control state on {me}: {folder} has none")
    try:
        then = msgspec.json.decode(path.read_bytes(), type=tuple[Founder, ...])
    except ValueError as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error
    if then == now:
        raise Conflict(detail=f"{me} is the only member already: there is nothing to recover from")
    if why := has_left(folder):
        raise Conflict(detail=f"{why}: it can't speak for the others")
    shelf = Shelf(folder)
    try:
        found = Recovery(folder, shelf, now[0], tuple(sorted(set(lost))))
        others = found.others(then, joined(folder))
        if me in lost or not set(others) <= set(lost):
            raise Conflict(
                detail=f"name every other member as lost: {', '.join(others)}. {me} can't be. Whoever is not lost must"
                " not be given up: start it, and more than half of them go on by themselves"
            )
        yield found
    finally:
        shelf.close()
