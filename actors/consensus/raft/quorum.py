"""What a majority has."""

from collections.abc import Callable, Collection

from actors.consensus.raft.rules import Rules
from actors.consensus.ready import Member


def reached(voters: Collection[Member], of: Callable[[Member], int], rules: Rules) -> int:
    """The greatest number that a quorum of `voters` has reached; `of` gives each one's."""
    assert voters, "nobody decides"
    ordered = sorted(map(of, voters), reverse=True)
    return ordered[rules.quorum(len(ordered)) - 1]


def verdict(voters: Collection[Member], votes: dict[Member, bool], rules: Rules) -> bool | None:
    """True: won; False: can't be won any more; None: open."""
    needed = rules.quorum(len(voters))
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= needed:
        return True
    return False if refused > len(voters) - needed else None
