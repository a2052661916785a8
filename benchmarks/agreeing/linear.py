"""Whether a history of one register is linearizable.

Wing and Gong's search (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of what was tried (Testing
for Linearizability, 2017). Registers are independent, so each is checked alone.
"""

from collections.abc import Iterable

from benchmarks.agreeing.history import Fate, Operation
from benchmarks.agreeing.machine import What

_NEVER = 1 << 62


def broken_keys(history: Iterable[Operation]) -> list[int]:
    """The registers whose operations fit no order in which each took effect between its call and its answer."""
    by_key: dict[int, list[Operation]] = {}
    for operation in history:
        useless = operation.what is What.GET and operation.fate is not Fate.DONE
        if operation.fate is not Fate.LOST and not useless:
            by_key.setdefault(operation.key, []).append(operation)
    return [key for key, operations in by_key.items() if not is_linearizable(operations)]


def is_linearizable(operations: list[Operation]) -> bool:
    """Whether the operations of one register, which begins with 0, fit an order."""
    calls = sorted(operations, key=lambda operation: operation.asked_us)
    ends = [call.done_us if call.fate is Fate.DONE else _NEVER for call in calls]
    needed = sum(1 << at for at, call in enumerate(calls) if call.fate is Fate.DONE)
    tried: set[tuple[int, int]] = set()
    todo: list[tuple[int, int]] = [(0, 0)]
    while todo:
        done, value = todo.pop()
        if done & needed == needed:
            return True
        if (done, value) in tried:
            continue
        tried.add((done, value))
        first_end = _NEVER
        possible: list[tuple[int, int]] = []
        at = _first_clear(done)
        while at < len(calls) and calls[at].asked_us <= first_end:
            if not done >> at & 1:
                first_end = min(first_end, ends[at])
                after = _after(calls[at], value)
                if after is not None:
                    possible.append((done | 1 << at, after))
            at += 1
        todo += reversed(possible)
    return False


def _first_clear(done: int) -> int:
    return (~done & done + 1).bit_length() - 1


def _after(call: Operation, value: int) -> int | None:
    """The register's value if the call takes effect now; None if it can't with what the client was told."""
    if call.what is What.GET:
        return value if call.result == value else None
    if call.what is What.PUT:
        return call.value
    happens = value == call.expected
    if call.fate is Fate.DONE and happens != bool(call.result):
        return None
    return call.value if happens else value
