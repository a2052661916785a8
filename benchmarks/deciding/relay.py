"""A line with a delay: a TCP relay that hands every byte on so much later, in order, at any rate."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 1 << 18


@asynccontextmanager
async def relay(port: int, to_port: int, one_way_s: float) -> AsyncIterator[None]:
    """Listen on `port` and lead to `to_port`, both on the loopback; what each side sends arrives `one_way_s` later."""
    tasks: set[asyncio.Task[None]] = set()

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a callback of a server runs in a task"
        tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_late(reader, far_writer, one_way_s))
                group.create_task(_late(far_reader, writer, one_way_s))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            return
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(joined, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way_s: float) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def hand_on() -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    onward = asyncio.create_task(hand_on())
    try:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                waiting.put_nowait((loop.time() + one_way_s, data))
        waiting.put_nowait((loop.time() + one_way_s, b""))
        await onward
    finally:
        onward.cancel()
