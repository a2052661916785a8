"""What of the encoding benchmark needs no QEMU: its command line, its counts, images, and the layers measured."""

from pathlib import Path

import numpy as np
import pytest

from actors.encoding.encoder import Settings
from actors.errors import StreamCorrupt
from actors.hypervisor.messages import DiskSpec, GuestSpec
from benchmarks.coding import hde
from benchmarks.coding.hde import Piece, Request
from benchmarks.coding.machine import arguments, sent_of
from benchmarks.coding.recording import write_image
from benchmarks.coding.run import AFTER, SINGLE
from benchmarks.coding.stream import joined, layout
from tests.unit.benchmarks.test_stream import CONFIGURATION, DEVICES, HEAD, page, part, record, start

SPEC = GuestSpec(
    name="bench-idle",
    memory_mib=512,
    kernel="/k",
    initrd="/i",
    cmdline="nova.kind=memory nova.load=0,0,0",
    disks=[DiskSpec(target="vda", path="/root.raw", format="raw", read_only=True)],
)


def content(seed: int) -> bytes:
    """A page that does not repeat itself."""
    return np.random.default_rng(seed).bytes(4096)


def stream(*pages: bytes) -> bytes:
    """A recorded stream of a guest with these pages."""
    first, *others = pages
    records = [record(0, first, b"pc.ram"), *(record(n << 12, one) for n, one in enumerate(others, 1))]
    ram = HEAD + CONFIGURATION + start({b"pc.ram": len(pages) << 12}) + part(*records, kind=3)
    return ram + DEVICES + bytes([0x7E, 0, 0, 0, 5, 0])


def test_the_sink_waits_and_both_have_the_same_machine() -> None:
    source, sink = (arguments(SPEC, Path("/f"), role, "tcg") for role in ("source", "sink"))
    assert sink[-2:] == ["-incoming", "defer"]
    differ = {one for one in source if one not in sink}
    assert differ == {"file:/f/console.log", "unix:/f/source.qmp,server=on,wait=off"}
    assert "driver=file,filename=/root.raw,node-name=d0,read-only=on,auto-read-only=off" in source
    assert source[source.index("-cpu") :][:2] == ["-cpu", "qemu64"]


def test_what_qemu_counts() -> None:
    found = sent_of(
        {
            "total-time": 1500,
            "ram": {"normal": 10, "duplicate": 5, "transferred": 41_000, "dirty-sync-count": 3},
            "xbzrle-cache": {"pages": 2},
        },
        0.25,
    )
    assert (found.pages, found.wire_bytes, found.rounds, found.seconds, found.cpu_s) == (17, 41_000, 3, 1.5, 0.25)
    assert sent_of({"status": "setup"}, 0.0).pages == 0


def test_an_image_has_every_page_at_its_address(tmp_path: Path) -> None:
    ram = HEAD + start({b"pc.ram": 0x5000}) + part(record(0x1000, page(1), b"pc.ram"), record(0x3000, page(3)))
    (tmp_path / "s").write_bytes(ram + DEVICES)
    write_image(tmp_path / "s", tmp_path / "i")
    assert (tmp_path / "i").read_bytes() == bytes(4096) + page(1) + bytes(4096) + page(3) + bytes(4096)


@pytest.mark.parametrize("name", [*SINGLE, *AFTER])
def test_every_choice_of_layers_can_be_measured(tmp_path: Path, name: str) -> None:
    layers = {**SINGLE, **AFTER}[name]
    before = [content(n) for n in range(8)]
    changed = bytearray(before[3])
    changed[100] ^= 255
    after = [*before[:3], bytes(changed), *before[4:7], content(99)]
    first, second = stream(*before), stream(*after)
    for file, data in (("1", first), ("2", second), ("image", b"".join(before))):
        (tmp_path / file).write_bytes(data)
    pieces = [Piece(str(tmp_path / "2"))]
    if layers.sent:
        ends, goes_on = joined(layout(memoryview(first)))
        pieces = [Piece(str(tmp_path / "1"), 0, ends), Piece(str(tmp_path / "2"), goes_on)]
    found = hde.run(
        Request(
            pieces=pieces,
            guest_bytes=8 * 4096,
            settings=layers.settings(8),
            level=layers.level,
            frames=str(tmp_path / "frames"),
            image=str(tmp_path / "image") if layers.image else "",
            visited=str(tmp_path / "image") if layers.visited else "",
        )
    )
    news = len(new_pages(before, after))
    knows = layers.sent or layers.image or layers.visited
    assert (found.wire_bytes < (news + 1) * 4096) == knows
    assert found.wire_bytes > 0


def new_pages(before: list[bytes], after: list[bytes]) -> list[bytes]:
    """The pages that are new."""
    return [one for one in after if one not in before]


def test_a_stream_that_is_not_rebuilt_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1").write_bytes(stream(content(1), content(2)))
    request = Request(
        pieces=[Piece(str(tmp_path / "1"))], guest_bytes=8192, settings=Settings(dedupe_cache_mib=8), level=1,
        frames=str(tmp_path / "frames"),
    )  # fmt: skip
    encode = hde._encode

    def and_spoil(*given: object) -> object:
        found = encode(*given)  # type: ignore[arg-type]
        (tmp_path / "1").write_bytes(stream(content(1), content(3)))
        return found

    monkeypatch.setattr(hde, "_encode", and_spoil)
    with pytest.raises(StreamCorrupt, match="not the one that was encoded"):
        hde.run(request)
