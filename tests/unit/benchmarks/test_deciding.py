"""Real members as the live benchmark runs them."""

import asyncio

from benchmarks.deciding import run
from benchmarks.deciding.relay import relay
from benchmarks.deciding.run import row


async def test_a_row_of_real_members_has_commits_and_a_failover(monkeypatch) -> None:
    monkeypatch.setattr(run, "CLIENTS", 4)
    found = await row("novacron", 3, 2.0, 0.3)
    assert (found["system"], found["members"], found["rtt_ms"]) == ("novacron", 3, 2.0)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["commits_per_s"] > 0
    assert found["failover_s"] > 0


async def test_a_relay_hands_on_everything_in_order_and_no_sooner() -> None:
    arrived: asyncio.Future[tuple[float, bytes]] = asyncio.get_running_loop().create_future()

    async def take(reader, writer) -> None:
        first = await reader.readexactly(1)
        at = asyncio.get_running_loop().time()
        arrived.set_result((at, first + await reader.read()))
        writer.close()

    ports = run._free(2)
    server = await asyncio.start_server(take, "127.0.0.1", ports[0])
    async with relay(ports[1], ports[0], 0.05):
        _, writer = await asyncio.open_connection("127.0.0.1", ports[1])
        sent = asyncio.get_running_loop().time()
        for each in range(100):
            writer.write(bytes([each]))
        writer.write_eof()
        at, data = await asyncio.wait_for(arrived, 20)
        writer.close()
    server.close()
    assert data == bytes(range(100))
    assert at - sent >= 0.05
