"""Seeded runs of three shells with real stores: crashes, cuts, lost and late messages."""

import random

import pytest

from actors.control import snapshot
from actors.control.model import Result
from tests.unit.control.members import Asked, Group


class Chaos:
    """One seed."""

    def __init__(self, folder, seed: int) -> None:
        self.rng = random.Random(seed)
        self.group = Group(folder, compact_entries=self.rng.choice([15, 60, 4096]))
        self.asked: dict[str, Asked] = {}
        self.reads = 0
        self.count = 0

    def act(self) -> None:
        """Do one thing to the group, and ask for something."""
        group, rng = self.group, self.rng
        up = sorted(group.shells)
        what = rng.random()
        if what < 0.004 and up:
            group.kill(rng.choice(up))
        elif what < 0.03 and group.down:
            group.start(rng.choice(sorted(group.down)))
        elif what < 0.034:
            group.split(rng.choice(group.numbers))
        elif what < 0.06:
            group.heal()
        elif what < 0.16 and group.mail:
            group.mail.rotate(rng.randrange(len(group.mail)))
            for _ in range(rng.randrange(3)):
                if group.mail:
                    group.mail.popleft()
        elif what < 0.38 and up and self.count < 250:  # there can be 256
            self.count += 1
            name = f"p{self.count}"
            self.asked[name] = group.submit(rng.choice(up), name)
        elif what < 0.6 and up:
            self._read(rng.choice(up))
        group._step()

    def _read(self, number: int) -> None:
        """Whatever was acknowledged before it was asked must be in what it shows."""
        before = self.acknowledged()

        def seen(index: int) -> None:
            if index:
                self.reads += 1
                assert before <= self.group.policies(number).keys(), "an acknowledged write is not there"

        self.group.shells[number].read(self.group.now_ms, seen)

    def acknowledged(self) -> set[str]:
        """Names of policies that are known to be set."""
        return {
            name for name, asked in self.asked.items() if isinstance(asked.answer, Result) and asked.answer.accepted
        }


@pytest.mark.parametrize("seed", range(1, 9))
def test_nothing_acknowledged_is_lost_and_all_end_with_the_same_state(tmp_path, seed) -> None:
    chaos = Chaos(tmp_path, seed)
    for _ in range(1000):
        chaos.act()
    group = chaos.group
    group.heal()
    for number in sorted(group.down):
        group.start(number)
    group.run(until=group.leader)
    group.agree(1, "last")
    group.run(until=lambda: all("last" in group.policies(number) for number in group.numbers))
    group.run(until=lambda: len({shell.replica.state.applied for shell in group.shells.values()}) == 1)
    assert len({snapshot.encode(shell.replica.state) for shell in group.shells.values()}) == 1
    assert chaos.acknowledged() <= group.policies(1).keys()
    assert chaos.acknowledged()
    for store in group.stores.values():
        store.close()
