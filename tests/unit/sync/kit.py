"""Replicas that write at random, and exchanges between two of them."""

import random

from actors.sync.engine import Exchange
from actors.sync.facts import Facts

NOW_MS = 1_800_000_000_000


def write(facts: Facts, rng: random.Random, keys: int, now_ms: int = NOW_MS):
    """One random write; its delta."""
    number = rng.randrange(keys)
    element = rng.choice("xyz")
    return rng.choice(
        [
            lambda: facts.put(f"register/{number}", rng.randbytes(8), now_ms),
            lambda: facts.put(f"register/{number}", None, now_ms),
            lambda: facts.sample(f"series/{number}", rng.randbytes(4), now_ms),
            lambda: facts.count(f"counter/{number}", rng.randint(-3, 3)),
            lambda: facts.add(f"set/{number}", element),
            lambda: facts.discard(f"set/{number}", element),
        ]
    )()


def everything(facts: Facts):
    return facts.at(place for place, _ in facts.places(""))


def exchange(a: Facts, b: Facts, now_ms: int = NOW_MS) -> tuple[int, int]:
    """One exchange, begun by `a`, to its end: bytes and messages."""
    ends = {"a": Exchange(a), "b": Exchange(b)}
    waiting = [("b", ends["a"].begin())]
    total = count = 0
    while waiting:
        to, message = waiting.pop(0)
        total, count = total + len(message), count + 1
        assert count < 5000, "it never ends"
        other = "a" if to == "b" else "b"
        waiting += [(other, answer) for answer in ends[to].receive(message, now_ms)]
    return total, count
