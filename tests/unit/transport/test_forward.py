"""Forwards with real UNIX sockets at both ends."""

import asyncio
import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.errors import BadRequest, Conflict, NodeUnknown
from actors.transport.hub import Hub
from actors.transport.messages import Carried, Expose, Forward
from tests.unit.transport.nodes import Lab, running, session_of, until


class Listener:
    """A program behind an exposed socket: hands out its accepted connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(10):
            return await self.connections.get()


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Listener]:
    listener = Listener(path)
    server = await asyncio.start_unix_server(lambda r, w: listener.connections.put_nowait((r, w)), path)
    async with server:
        yield listener


def orders(folder: Path, tag: str = "job-1") -> tuple[Forward, Expose]:
    forward = Forward(tag=tag, listen_path=str(folder / f"{tag}.in"), peer="b", service=f"ram:{tag}")
    return forward, Expose(tag=tag, service=f"ram:{tag}", connect_path=str(folder / "far"), peer="a")


@asynccontextmanager
async def forwarded(lab: Lab) -> AsyncIterator[tuple[Hub, Hub, Forward, Listener]]:
    a, b = lab.hub("a"), lab.hub("b")
    forward, expose = orders(lab.folder)
    async with running(a, b), listening(lab.folder / "far") as far:
        b.expose(expose)
        a.forward(forward)
        yield a, b, forward, far


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What is left until the end; a reset counts as one."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_bytes_cross_both_ways_and_a_half_close_is_passed_on(lab: Lab) -> None:
    async with forwarded(lab) as (_, _, forward, far):
        reader, writer = await asyncio.open_unix_connection(forward.listen_path)
        question, answer = random.Random(1).randbytes(2_000_000), random.Random(2).randbytes(1_000_000)
        writer.write(question)
        writer.write_eof()
        far_reader, far_writer = await far.accept()
        assert await ended(far_reader) == question
        far_writer.write(answer)
        far_writer.close()
        assert await ended(reader) == answer


async def test_what_crosses_the_sockets_of_a_job_is_counted_until_it_is_closed(lab: Lab) -> None:
    async with forwarded(lab) as (a, b, forward, far):
        before = time.time()
        for _ in range(2):  # connections of one service are counted together
            reader, writer = await asyncio.open_unix_connection(forward.listen_path)
            writer.write(bytes(100_000))
            writer.write_eof()
            far_reader, far_writer = await far.accept()
            assert len(await ended(far_reader)) == 100_000
            far_writer.write(bytes(3))
            far_writer.close()
            assert len(await ended(reader)) == 3
        here, there = (hub.forwards.carried("job-1", "ram:job-1") for hub in (a, b))
        assert (here.taken_bytes, here.given_bytes) == (200_000, 6)
        assert (there.taken_bytes, there.given_bytes) == (6, 200_000)
        assert before <= here.taken_at <= time.time()
        assert before <= there.given_at <= time.time()
        assert a.forwards.carried("job-1", "nbd:job-1") == Carried()
        a.close("job-1")
        assert a.forwards.carried("job-1", "ram:job-1") == Carried()


async def test_the_last_bytes_of_a_closed_socket_still_arrive(lab: Lab) -> None:
    """QEMU writes its last section and closes at once, whatever the other side has sent meanwhile."""
    async with forwarded(lab) as (_, _, forward, far):
        _, writer = await asyncio.open_unix_connection(forward.listen_path)
        writer.write(b"first")
        await writer.drain()
        far_reader, far_writer = await far.accept()
        assert await far_reader.readexactly(5) == b"first"
        far_writer.write(b"never read" * 1000)
        data = random.Random(3).randbytes(3_000_000)
        writer.write(data)
        await writer.drain()
        writer.close()
        assert await ended(far_reader) == data


async def test_a_dead_writer_takes_the_far_end_with_it(lab: Lab) -> None:
    async with forwarded(lab) as (a, b, forward, far):
        local = socket.socket(socket.AF_UNIX)
        local.connect(forward.listen_path)
        local.send(b"some")
        far_reader, far_writer = await far.accept()
        assert await far_reader.readexactly(4) == b"some"
        local.close()  # as the kernel does for a killed process
        assert await ended(far_reader) == b""
        await _write_fails(far_writer)
        await until(lambda: _channels(a, "b") == _channels(b, "a") == [0])


async def test_a_dead_reader_takes_the_busy_writer_with_it(lab: Lab) -> None:
    async with forwarded(lab) as (a, b, forward, far):
        _, writer = await asyncio.open_unix_connection(forward.listen_path)
        writing = asyncio.create_task(_write_for_ever(writer))
        _, far_writer = await far.accept()
        far_writer.transport.abort()
        async with asyncio.timeout(10):
            await writing  # ends with the broken pipe
        await until(lambda: _channels(a, "b") == _channels(b, "a") == [0])


async def _write_for_ever(writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(bytes(65536))
            await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        return


async def _write_fails(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(10):
        await _write_for_ever(writer)


def _channels(hub: Hub, peer: str) -> list[int]:
    return session_of(hub, peer)._engine.channels


async def test_close_ends_listeners_exposures_and_channels_of_its_tag_only(lab: Lab) -> None:
    async with forwarded(lab) as (a, b, forward, far):
        other, other_exposed = orders(lab.folder, "job-2")
        a.forward(other)
        b.expose(other_exposed)
        reader, writer = await asyncio.open_unix_connection(forward.listen_path)
        reader_2, writer_2 = await asyncio.open_unix_connection(other.listen_path)
        writer.write(b"1")
        writer_2.write(b"2")
        ends = {await (pair := await far.accept())[0].readexactly(1): pair for _ in range(2)}
        for _ in range(2):
            a.forwards.close("job-1")
            b.forwards.close("job-1")
        assert await ended(reader) == b""
        assert await ended(ends[b"1"][0]) == b""
        assert Path(forward.listen_path).name not in os.listdir(lab.folder)  # noqa: PTH208  nothing is left there
        ends[b"2"][1].write(b"still here")
        assert await reader_2.readexactly(10) == b"still here"
        a.forward(forward)  # a second attempt works at once
        b.expose(orders(lab.folder)[1])
        _, writer = await asyncio.open_unix_connection(forward.listen_path)
        writer.write(b"again")
        assert await (await far.accept())[0].readexactly(5) == b"again"


async def test_a_service_is_open_only_to_the_peer_it_is_exposed_to(lab: Lab) -> None:
    c = lab.hub("c")
    async with forwarded(lab) as (_, _, _, far), running(c):
        stolen, _ = orders(lab.folder)
        path = str(lab.folder / "stolen")
        c.forward(Forward(tag="x", listen_path=path, peer="b", service=stolen.service))
        reader, _ = await asyncio.open_unix_connection(path)
        assert await ended(reader) == b""
        assert far.connections.empty()


async def test_a_missing_far_socket_closes_the_near_one(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    forward, expose = orders(lab.folder)
    async with running(a, b):
        b.expose(expose)
        a.forward(forward)
        reader, _ = await asyncio.open_unix_connection(forward.listen_path)
        assert await ended(reader) == b""


async def test_a_link_that_is_down_closes_the_near_socket(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.transport.forwards.OPEN_S", 0.3)
    a = lab.hub("a")
    forward, _ = orders(lab.folder)
    async with running(a):
        a.forward(forward)
        reader, _ = await asyncio.open_unix_connection(forward.listen_path)
        assert await ended(reader) == b""


async def test_the_same_order_twice_is_one_and_another_at_its_place_is_refused(lab: Lab) -> None:
    a = lab.hub("a")
    forward, _ = orders(lab.folder)
    async with running(a):
        a.forward(forward)
        a.forward(forward)
        with pytest.raises(Conflict):
            a.forward(Forward(tag="z", listen_path=forward.listen_path, peer="b", service="other"))
        with pytest.raises(NodeUnknown):
            a.forward(Forward(tag="z", listen_path="/x", peer="nobody", service="s"))
        with pytest.raises(BadRequest):
            a.forward(Forward(tag="z", listen_path=str(lab.folder / "no" / "such" / "dir"), peer="b", service="s"))
        with pytest.raises(BadRequest):
            a.forward(Forward(tag="z", listen_path=str(lab.folder / ("x" * 200)), peer="b", service="s"))
        moved = Expose(tag="z", service="s", connect_path="/one", peer="b")
        a.expose(moved)
        a.expose(moved)
        with pytest.raises(Conflict):
            a.expose(Expose(tag="z", service="s", connect_path="/two", peer="b"))


async def test_a_socket_left_by_a_crash_is_replaced_but_no_other_file(lab: Lab) -> None:
    a = lab.hub("a")
    forward, _ = orders(lab.folder)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(forward.listen_path)
    async with running(a):
        a.forward(forward)
        precious = lab.folder / "disk.img"
        precious.write_bytes(struct.pack("I", 7))
        with pytest.raises(BadRequest):
            a.forward(Forward(tag="z", listen_path=str(precious), peer="b", service="s"))
        assert precious.read_bytes() == struct.pack("I", 7)
