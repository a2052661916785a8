"""How many members of n lie at most, and how many make a decision.

Two quorums of ⌈(n + f + 1) / 2⌉ share at least f + 1 members, so at least one honest one; with n = 3f + 1 they are
2f + 1. Written for any n, because a member that is excluded leaves 3f behind.
"""


def liars(members: int) -> int:
    """f: how many of `members` may lie without harm."""
    return (members - 1) // 3


def quorum(members: int) -> int:
    """How many members make a certificate."""
    return (members + liars(members)) // 2 + 1


def honest_one(members: int) -> int:
    """How many members must say a thing so that an honest one says it: f + 1."""
    return liars(members) + 1
