"""A link to a node that is a member anew: what its earlier member said, or was told, counts for nobody."""

import asyncio

import msgspec

from actors.control.links import Links
from actors.control.parcels import AskIndex, Frames, frame

FOUNDING = b"founding"


class OldSheet(msgspec.Struct, frozen=True, array_like=True):
    """As programs sent and read it that did not name sender and addressee yet."""

    founding: bytes
    parcel: AskIndex


async def test_only_the_member_that_the_node_is_now_is_heard(tmp_path) -> None:
    heard: list[tuple[int, object]] = []
    last = asyncio.Event()

    def receive(sender, parcel) -> None:
        heard.append((sender, parcel))
        if parcel == AskIndex(5):
            last.set()

    async def register(*_) -> None:
        await asyncio.get_running_loop().create_future()

    links = Links(1, {2: "paris"}, tmp_path, FOUNDING, register, receive)
    await links.start()
    await links.meet(4, "paris")
    assert not links.post(2, AskIndex(0)), "the earlier one is sent nothing"
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "from-paris.sock"))
    for said, (sender, to) in enumerate([(2, 1), (4, 3), (4, 1), (0, 0)]):
        writer.write(frame(FOUNDING, AskIndex(said), sender, to))
    writer.write(frame(b"another", AskIndex(9), 4, 1))
    writer.write(frame(FOUNDING, AskIndex(5), 4, 1))
    async with asyncio.timeout(10):
        await last.wait()
    assert heard == [(4, AskIndex(2)), (4, AskIndex(3)), (4, AskIndex(5))]
    writer.close()
    await links.stop()


def test_programs_of_before_and_after_read_each_other() -> None:
    raw = frame(FOUNDING, AskIndex(7), 4, 1)[4:]
    assert msgspec.msgpack.decode(raw, type=OldSheet).parcel == AskIndex(7)
    old = msgspec.msgpack.encode(OldSheet(FOUNDING, AskIndex(7)))
    (sheet,) = Frames().feed(len(old).to_bytes(4) + old)
    assert (sheet.parcel, sheet.sender, sheet.to) == (AskIndex(7), 0, 0)
