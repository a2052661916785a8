"""Members in one process: real shells and stores, a network and a clock that the test moves."""

from collections import deque
from pathlib import Path

from actors.consensus.bft.settings import BftSettings
from actors.consensus.chain import Protocol, switch_to
from actors.consensus.raft.config import Config
from actors.consensus.ready import Evidence, Kind, Membership, Snapshot
from actors.control.commands import EnrolMember, JoinNode, SetPolicy, Upgrade, seal
from actors.control.keys import public_of, secret_in
from actors.control.model import Result
from actors.control.parcels import Frames, Parcel, frame
from actors.control.shelf import Shelf
from actors.control.shell import Settings, Shell
from actors.control.waiting import Undecided

TICK_MS = 100.0
FOUNDING = b"test"


class Group:
    """`count` members; `cut` holds the ordered pairs that don't hear each other."""

    def __init__(self, folder: Path, count: int = 3, compact_entries: int = 4096) -> None:
        self.folder, self.compact_entries = folder, compact_entries
        self.numbers = tuple(range(1, count + 1))
        self.now_ms = 1_000.0
        self.cut: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.frames = Frames()
        self.mail: deque[tuple[int, int, Parcel]] = deque()
        self.stores: dict[int, Shelf] = {}
        self.caught: list[Evidence] = []
        self.shells: dict[int, Shell] = {}
        self.lives = 0
        for number in self.numbers:
            self.start(number)

    def start(self, number: int) -> None:
        """Start a member from its disk."""
        self.lives += 1
        founding = Snapshot(index=1, term=0, membership=Membership(self.numbers))
        folder = self.folder / str(number)
        self.stores[number] = Shelf(folder, founding)
        settings = Settings(
            raft=Config(election_ticks=10, heartbeat_ticks=1, snapshot_ticks=20),
            bft=BftSettings(
                chain=FOUNDING, beat=2, timeout=10, batch=16, checkpoint=min(self.compact_entries, 256), window=1024
            ),
            tick_ms=TICK_MS,
            compact_entries=self.compact_entries,
        )
        self.shells[number] = Shell(
            number,
            self.stores[number],
            settings,
            secret_in(folder),
            seed=self.lives * 7919,
            now_ms=self.now_ms,
            post=lambda to, parcel: self._post(number, to, parcel),
            report=self.caught.append,
        )
        self.down.discard(number)

    def kill(self, number: int) -> None:
        """End a member as a crash does: what it had under way is gone."""
        self.down.add(number)
        self.stores[number].close()
        del self.shells[number]
        self.mail = deque(each for each in self.mail if number not in each[:2])

    def split(self, *numbers: int) -> None:
        """Cut these members off from the others."""
        others = set(self.numbers) - set(numbers)
        self.cut |= {(a, b) for a in numbers for b in others} | {(b, a) for a in numbers for b in others}

    def switch(self, protocol: Protocol) -> None:
        """Have the log go on in another protocol, as members do that all want it."""
        parts = {number: shell.core.part for number, shell in self.shells.items()}

        def done() -> bool:
            for number, shell in self.shells.items():
                if shell.core.part == parts[number] and not shell.core.sealed:
                    shell.core.propose(switch_to(protocol), Kind.SWITCH)
            return all(shell.core.protocol is protocol for shell in self.shells.values())

        self.run(until=done)

    def enrol(self) -> None:
        """Put the newest rules in force, and have every member say its key."""
        for number in self.numbers:
            self.ask(number, JoinNode(node=f"m{number}", site=f"s{number}", speaks=2), "operator:ann")
        self.ask(1, Upgrade(to=2), "operator:ann")
        for number in self.numbers:
            key = public_of(secret_in(self.folder / str(number)))
            command = EnrolMember(number=number, node=f"m{number}", site=f"s{number}", key=key)
            self.ask(number, command, f"member:m{number}")

    def ask(self, number: int, command, by: str) -> None:
        """Have a command agreed on."""
        while True:
            asked = Asked()
            self.shells[number].submit(seal(command, by=by), asked.told)
            self.run(until=lambda asked=asked: asked.answer is not None)
            if isinstance(asked.answer, Result):
                assert asked.answer.accepted, asked.answer
                return
            self._step()

    def heal(self) -> None:
        """Let everybody hear everybody."""
        self.cut.clear()

    def run(self, *, until, seconds: float = 60.0):
        """Let time pass until `until()` is true."""
        end = self.now_ms + seconds * 1000
        while not (found := until()):
            assert self.now_ms < end, "it never came true"
            self._step()
        return found

    def leader(self, among=None) -> int:
        """The leader that a majority obeys now, 0 if there is none."""
        up = [shell for number, shell in self.shells.items() if among is None or number in among]
        leads = [shell for shell in up if shell.leads]
        newest = max(leads, key=lambda shell: shell.core.term, default=None)
        if newest is None:
            return 0
        followers = [shell for shell in up if (shell.core.leader, shell.core.term) == (newest.me, newest.core.term)]
        return newest.me if len(followers) > len(self.numbers) // 2 else 0

    def submit(self, number: int, name: str, value: str = "x") -> "Asked":
        """Ask a member for a policy."""
        asked = Asked()
        entry = seal(SetPolicy(name=name, value=value), by="operator:ann")
        asked.key = self.shells[number].submit(entry, asked.told)
        return asked

    def agree(self, number: int, name: str, value: str = "x") -> Result:
        """Ask until it is agreed on."""
        while True:
            asked = self.submit(number, name, value)
            self.run(until=lambda asked=asked: asked.answer is not None)
            if isinstance(asked.answer, Result):
                return asked.answer
            self._step()

    def policies(self, number: int) -> dict[str, str]:
        """What a member has applied."""
        return {name: policy.value for name, policy in self.shells[number].replica.state.policies.items()}

    def _post(self, sender: int, to: int, parcel: Parcel) -> bool:
        if (sender, to) in self.cut or to in self.down:
            return False
        (sheet,) = self.frames.feed(frame(FOUNDING, parcel))
        self.mail.append((sender, to, sheet.parcel))
        return True

    def _step(self) -> None:
        self.now_ms += 20
        for shell in list(self.shells.values()):
            shell.pass_time(self.now_ms)
        for _ in range(len(self.mail)):
            sender, to, parcel = self.mail.popleft()
            if to in self.shells and (sender, to) not in self.cut:
                self.shells[to].receive(sender, parcel, self.now_ms)
        for shell in list(self.shells.values()):
            while (job := shell.pump(self.now_ms)) is not None:
                job.run()
                shell.finished(job, self.now_ms)


class Asked:
    """Somebody who waits for an answer."""

    def __init__(self) -> None:
        self.answer: Result | Undecided | int | None = None
        self.key = 0

    def told(self, answer) -> None:
        assert self.answer is None, "answered twice"
        self.answer = answer
