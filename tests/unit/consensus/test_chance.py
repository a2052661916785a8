"""Chance from a seed."""

from actors.consensus.chance import Chance


def test_it_is_splitmix64() -> None:
    """First outputs of the published algorithm for seed 1234567."""
    chance = Chance(1234567)
    assert [chance.below(1 << 64) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_the_bound_is_kept_and_every_number_comes() -> None:
    chance = Chance(7)
    assert {chance.below(10) for _ in range(1000)} == set(range(10))
