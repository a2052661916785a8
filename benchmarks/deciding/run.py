"""One row: start members, load them, kill the leader."""

import asyncio
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from actors.errors import DeadlineExceeded
from benchmarks.deciding.relay import relay
from benchmarks.deciding.systems import SYSTEMS, Client, Etcd, NovaCron
from benchmarks.report import Row

CLIENTS = 32
_START_S = 60.0
_FAILOVER_S = 60.0
_VALUE = "v" * 256


async def row(system: str, count: int, rtt_ms: float, seconds: float, failovers: int = 1) -> Row:
    """Commits per second and their latency with 32 clients at the leader, then the time without one after kill -9:
    the median and the longest of so many `failovers`.

    Raises:
        SetupMissing: the rival is not installed.
        DeadlineExceeded: no leader came up.
    """
    ports, reach, clients = _free(count), _free(count), _free(count)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="novacron-bench-")))
        if rtt_ms:
            for at in range(count):
                await stack.enter_async_context(relay(reach[at], ports[at], rtt_ms / 2000))
        group = SYSTEMS[system](folder, ports, reach if rtt_ms else ports, clients)
        stack.callback(group.end)
        for number in range(count):
            group.start(number)
        leader = await _until_all_follow(group, count)
        took = await _load(group, leader, seconds)
        samples = [await _failover(group, leader, count)]
        for _ in range(failovers - 1):
            # The killed one comes back first: with four members only one may be missing.
            group.start(leader)
            leader = await _until_all_follow(group, count)
            samples.append(await _failover(group, leader, count))
    took.sort()
    return {
        "system": group.name,
        "mode": group.mode,
        "members": count,
        "rtt_ms": rtt_ms,
        "commits_per_s": round(len(took) / seconds, 1),
        "p50_ms": round(took[len(took) // 2] * 1000, 2),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
        "failover_s": round(sorted(samples)[len(samples) // 2], 2),
        "failover_max_s": round(max(samples), 2),
    }


async def _load(group: NovaCron | Etcd, leader: int, seconds: float) -> list[float]:
    """Every commit's latency, after a second of warming up."""
    begin = time.monotonic() + 1.0
    took: list[float] = []

    async def ask(client: Client, key: str) -> None:
        while (sent := time.monotonic()) < begin + seconds:
            if await client.put(key, _VALUE) and sent >= begin:
                took.append(time.monotonic() - sent)

    connected = [await group.connect(leader) for _ in range(CLIENTS)]
    await asyncio.gather(*(ask(client, f"key-{at}") for at, client in enumerate(connected)))
    return took


async def _failover(group: NovaCron | Etcd, leader: int, count: int) -> float:
    """From kill -9 of the leader until another one has committed something."""
    rest = [number for number in range(count) if number != leader]
    group.kill(leader)
    began = time.monotonic()
    # In BFT every member takes commands, and only what somebody asks for makes the others give a primary up.
    heir = rest[0] if group.mode == "bft" else await _until_leads(group, rest, _FAILOVER_S)
    client = await group.connect(heir)
    await _until(lambda: client.put("after", "x"), "a commit at the new leader", _FAILOVER_S)
    return time.monotonic() - began


async def _until_all_follow(group: NovaCron | Etcd, count: int) -> int:
    """The leader, once every member knows one: a member that still starts would be waited for after the kill."""

    async def look() -> bool:
        try:
            return all([await group.in_touch(number) for number in range(count)])
        except (OSError, asyncio.IncompleteReadError):
            return False

    await _until(look, f"every member of {group.name}", _START_S)
    return await _until_leads(group, range(count), _START_S)


async def _until_leads(group: NovaCron | Etcd, among: "range | list[int]", deadline_s: float) -> int:
    async def look() -> int:
        for number in among:
            try:
                if await group.leads(number):
                    return number + 1
            except (OSError, asyncio.IncompleteReadError):
                continue
        return 0

    return int(await _until(look, f"a leader of {group.name}", deadline_s)) - 1


async def _until(ask: Callable[[], Awaitable[int]], what: str, deadline_s: float) -> int:
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                if answer := await ask():
                    return answer
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise DeadlineExceeded(what=what, deadline_s=deadline_s) from error


def _free(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
