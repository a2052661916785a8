"""Seeded random mutation: what the tests run when no coverage guides them."""

import random
from collections.abc import Iterator, Sequence

INTERESTING = (
    0,
    1,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    4095,
    4096,
    32767,
    65535,
    1 << 18,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 62,
)


def mutations(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endless inputs made from `seeds`; the same for the same `seed`."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _mutate(chance, data, seeds)
        yield bytes(data)


def _mutate(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(8):
        case 0 if data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[at % len(data)] = chance.randrange(256)
        case 2:
            data[at:at] = chance.randbytes(chance.choice((1, 4, 40)))
        case 3:
            del data[at : at + chance.choice((1, 4, 40, 4000))]
        case 4:
            data[at:at] = data[at : at + chance.choice((4, 40, 4000))]
        case 5:
            size = chance.choice((1, 2, 4, 8))
            value = (chance.choice(INTERESTING) + chance.randint(-1, 1)) % (1 << 8 * size)
            data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
        case 6:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        case _:
            del data[at:]
