"""A node's word in the benchmark: its key, and the sessions of its clients, as `StateClient` has them in a node."""

import asyncio
import itertools
from pathlib import Path

from actors.config.schema import Consensus
from actors.control.commands import EnrolNode, OpenSession, SetPolicy
from actors.control.distances import Distances
from actors.control.driver import Driver
from actors.control.keys import AUTHOR_FILE, public_of, secret_in
from actors.control.shell import Shell
from actors.control.signing import seal_signed
from actors.control.switching import Switching
from actors.errors import NoMajority

SESSIONS = 5
"""At one member, shared by its clients: the state machine remembers 32 answers of each."""
_ENROL_S, _DEADLINE_S, _PAUSE_S = 1.0, 10.0, 0.1


class Patient(Switching):
    """Wants no other protocol before the keys of `nodes` nodes are known: here nobody vouches for them in BFT."""

    def __init__(self, settings: Consensus, distances: Distances, nodes: int) -> None:
        super().__init__(settings, distances)
        self._nodes = nodes

    def look(self, shell: Shell, now_ms: float) -> None:
        """See `Switching`."""
        if len(shell.replica.state.authors) >= self._nodes:
            super().look(shell, now_ms)


class Word:
    """That of the node `name`, at its own member."""

    def __init__(self, driver: Driver, name: str, folder: Path) -> None:
        self._driver, self._by = driver, f"node:{name}"
        self._secret = secret_in(folder, AUTHOR_FILE)
        self._enrol = EnrolNode(node=name, key=public_of(self._secret))
        self._sessions: list[Session] = []
        self._turn = itertools.count()

    @property
    def ready(self) -> bool:
        """Whether the sessions are open."""
        return len(self._sessions) == SESSIONS

    def taken(self) -> "Session":
        """The session for one more client, once they are open."""
        return self._sessions[next(self._turn) % SESSIONS]

    async def open(self) -> None:
        """Enrol, and open the sessions."""
        while not self.ready:
            by = f"operator:bench-{len(self._sessions)}"
            if opened := await self._opened(by):
                self._sessions.append(Session(self._driver, self, by, opened))
            else:
                await asyncio.sleep(_PAUSE_S)

    async def _opened(self, by: str) -> int:
        try:
            known = await self._driver.submit(self.sealed(self._enrol, self._by), "a key", _ENROL_S)
            if not known.accepted:
                return 0
            opening = self.sealed(OpenSession(), by, number=known.number)
            answer = await self._driver.submit(opening, "a session", _DEADLINE_S)
        except NoMajority:
            return 0
        return answer.number

    def sealed(self, command: EnrolNode | OpenSession | SetPolicy, by: str, session: int = 0, number: int = 0) -> bytes:
        """An entry with a command that this node signs."""
        return seal_signed(command, self._by, self._secret.sign, by=by, session=session, number=number)


class Session:
    """Some clients'."""

    def __init__(self, driver: Driver, word: Word, by: str, number: int) -> None:
        self._driver, self._word, self._by, self._number = driver, word, by, number
        self._next = itertools.count(1)

    async def put(self, name: str, value: str) -> bool:
        """Whether the policy was set."""
        order = SetPolicy(name=name, value=value)
        entry = self._word.sealed(order, self._by, self._number, next(self._next))
        try:
            return (await self._driver.submit(entry, "a command", _DEADLINE_S)).accepted
        except NoMajority:
            return False
