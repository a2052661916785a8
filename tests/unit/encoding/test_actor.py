"""The services: who may do what, which paths, which jobs."""

import asyncio
import gzip
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from actors.calls.messages import Caller, Empty, Reply
from actors.calls.service import Service
from actors.config.schema import Config, Encoding
from actors.encoding import actor
from actors.encoding.actor import DeltaDecoder, DeltaEncoder
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.messages import (
    CodecStats,
    Disks,
    DiskStats,
    Job,
    OpenDecoder,
    OpenEncoder,
    StoreChange,
    StoreImage,
    StoreState,
)

HERE = Caller(node="a", site="north", same_site=True)
PEER = Caller(node="b", site="south", same_site=False)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "state").mkdir()
    return Config.model_validate(
        {
            "node": {"name": "a", "run_dir": tmp_path, "state_dir": tmp_path / "state"},
            "topology": {"sites": [{"name": "north", "nodes": [{"name": "a", "address": "127.0.0.1"}]}]},
        }
    )


async def call(service: Service, caller: Caller, method: str, request: msgspec.Struct) -> Reply:
    return msgspec.msgpack.decode(await service.serve(caller, method, msgspec.msgpack.encode(request)), type=Reply)


def open_decoder(folder: Path, job: str = "j1") -> OpenDecoder:
    return OpenDecoder(job=job, wire_path=str(folder / f"{job}-wire"), qemu_path=str(folder / f"{job}-ram"))


async def test_a_job_is_opened_asked_after_and_closed(config: Config, tmp_path: Path) -> None:
    decoder = DeltaDecoder(config)
    assert (await call(decoder, HERE, "open", open_decoder(tmp_path))).error == ""
    assert (tmp_path / "j1-wire").is_socket()
    assert (tmp_path / "j1-wire").stat().st_mode & 0o777 == 0o666
    reply = await call(decoder, HERE, "stats", Job(job="j1"))
    assert msgspec.msgpack.decode(reply.body, type=CodecStats).state == "waiting"
    assert (await call(decoder, HERE, "close", Job(job="j1"))).error == ""
    assert not (tmp_path / "j1-wire").exists()
    assert (await call(decoder, HERE, "stats", Job(job="j1"))).error == "job-unknown"
    assert (await call(decoder, HERE, "close", Job(job="j1"))).error == ""


async def test_paths_outside_the_run_directory_are_refused(config: Config, tmp_path: Path) -> None:
    victim = tmp_path.parent / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    decoder = DeltaDecoder(config)
    for bad in (str(victim), str(tmp_path / ".." / "victim"), "victim", str(tmp_path / "link" / "victim")):
        for wire, qemu in ((bad, str(tmp_path / "q")), (str(tmp_path / "w"), bad)):
            request = OpenDecoder(job="j", wire_path=wire, qemu_path=qemu)
            assert (await call(decoder, HERE, "open", request)).error == "refused"
    assert victim.read_text() == "precious"


async def test_the_disks_of_a_job_come_and_go_with_it(config: Config, tmp_path: Path) -> None:
    disks = Disks(count=2, qemu_path=str(tmp_path / "nbd"), wire_path=str(tmp_path / "nbd-wire"))
    opened = {
        "nbd-wire": (DeltaDecoder(config), msgspec.structs.replace(open_decoder(tmp_path), disks=disks)),
        "nbd": (
            DeltaEncoder(config),
            OpenEncoder(job="j1", qemu_path=str(tmp_path / "r"), wire_path=str(tmp_path / "w"), disks=disks),
        ),
    }
    for name, (codec, request) in opened.items():
        assert (await call(codec, HERE, "open", request)).error == ""
        assert (tmp_path / name).is_socket()
        assert (await call(codec, HERE, "open", request)).error == "conflict"
        reply = await call(codec, HERE, "stats", Job(job="j1"))
        assert msgspec.msgpack.decode(reply.body, type=CodecStats).disks == DiskStats()
        assert (await call(codec, HERE, "close", Job(job="j1"))).error == ""
        assert not (tmp_path / name).exists()
        outside = msgspec.structs.replace(disks, qemu_path="/tmp/q", wire_path="/tmp/w")
        assert (await call(codec, HERE, "open", msgspec.structs.replace(request, disks=outside))).error == "refused"
        nothing = msgspec.structs.replace(disks, count=0)
        assert (await call(codec, HERE, "open", msgspec.structs.replace(request, disks=nothing))).error != ""


async def test_files_are_open_as_long_as_the_job(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    decoder = DeltaDecoder(config)
    request = msgspec.structs.replace(open_decoder(tmp_path), files=[str(image), "/absent"])
    assert (await call(decoder, HERE, "open", request)).error == ""
    assert open_files(image) == 1
    assert (await call(decoder, HERE, "close", Job(job="j1"))).error == ""
    assert open_files(image) == 0


async def test_without_the_layer_no_file_is_opened(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    off = config.model_copy(update={"encoding": config.encoding.model_copy(update={"images": False})})
    decoder = DeltaDecoder(off)
    request = msgspec.structs.replace(open_decoder(tmp_path), files=[str(image)])
    assert (await call(decoder, HERE, "open", request)).error == ""
    assert open_files(image) == 0
    await call(decoder, HERE, "close", Job(job="j1"))


async def test_a_job_that_can_not_start_leaves_no_file_open(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    (tmp_path / "j1-wire").write_text("precious")
    request = msgspec.structs.replace(open_decoder(tmp_path), files=[str(image)])
    assert (await call(DeltaDecoder(config), HERE, "open", request)).error == "conflict"
    assert open_files(image) == 0


def open_files(path: Path) -> int:
    """How often this process has `path` open."""
    descriptors = Path("/proc/self/fd").iterdir()
    return sum(os.path.realpath(descriptor) == str(path) for descriptor in descriptors)


async def test_a_file_in_the_way_is_left_alone(config: Config, tmp_path: Path) -> None:
    (tmp_path / "j1-wire").write_text("precious")
    assert (await call(DeltaDecoder(config), HERE, "open", open_decoder(tmp_path))).error == "conflict"
    assert (tmp_path / "j1-wire").read_text() == "precious"


async def test_jobs_stand_side_by_side_and_a_name_is_taken_once(config: Config, tmp_path: Path) -> None:
    decoder = DeltaDecoder(config)
    assert (await call(decoder, HERE, "open", open_decoder(tmp_path, "j1"))).error == ""
    assert (await call(decoder, HERE, "open", open_decoder(tmp_path, "j2"))).error == ""
    assert (await call(decoder, HERE, "open", open_decoder(tmp_path, "j1"))).error == "conflict"
    for job in ("j1", "j2"):
        assert await call(decoder, HERE, "close", Job(job=job)) == Reply(body=msgspec.msgpack.encode(Empty()))


async def test_the_encoder_is_for_its_own_site_only(config: Config, tmp_path: Path) -> None:
    encoder = DeltaEncoder(config)
    request = OpenEncoder(job="j1", qemu_path=str(tmp_path / "ram"), wire_path=str(tmp_path / "wire"))
    assert (await call(encoder, PEER, "open", request)).error == "refused"
    assert (await call(encoder, HERE, "open", request)).error == ""
    assert (tmp_path / "ram").is_socket()
    assert (await call(encoder, HERE, "close", Job(job="j1"))).error == ""


async def test_the_decoder_is_for_its_own_site_only(config: Config, tmp_path: Path) -> None:
    decoder = DeltaDecoder(config)
    for method, request in (("open", open_decoder(tmp_path)), ("stats", Job(job="j1")), ("close", Job(job="j1"))):
        assert (await call(decoder, PEER, method, request)).error == "refused"
    assert not (tmp_path / "j1-wire").exists()


async def state_of(decoder: DeltaDecoder, action: str = "show", path: str = "") -> StoreState:
    reply = await call(decoder, HERE, "store", StoreChange(action=action, path=path))
    assert reply.error == "", reply
    return msgspec.msgpack.decode(reply.body, type=StoreState)


async def read_all(decoder: DeltaDecoder) -> list[StoreImage]:
    """The images once none is being read any more."""
    async with asyncio.timeout(60):
        while True:
            images = (await state_of(decoder)).images
            if all(image.state != "reading" for image in images):
                return images
            await asyncio.sleep(0.01)


def cpio(files: dict[str, bytes]) -> bytes:
    """An archive in cpio's newc format."""
    made = b""
    for name, body in [*files.items(), ("TRAILER!!!", b"")]:
        fields = [0, 0o100644, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)
    return made + bytes(-len(made) % 512)


async def test_images_are_registered_read_and_forgotten(config: Config, tmp_path: Path) -> None:
    one, other, third = (bytes([fill]) * 5000 for fill in (1, 2, 3))
    (tmp_path / "root.raw").write_bytes(bytes(4096) + one)
    (tmp_path / "initrd").write_bytes(cpio({"early": one}) + gzip.compress(cpio({"late": other, "empty": b""})))
    (tmp_path / "files" / "below").mkdir(parents=True)
    (tmp_path / "files" / "below" / "a").write_bytes(third)
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"no archive"))
    qcow2 = tmp_path / "disk.qcow2"
    make = ["qemu-img", "convert", "-c", "-O", "qcow2", "-f", "raw", str(tmp_path / "root.raw"), str(qcow2)]
    await asyncio.to_thread(subprocess.run, make, check=True)
    decoder = DeltaDecoder(config)
    for name in ("root.raw", "initrd", "files", "bad.gz", "disk.qcow2"):
        await state_of(decoder, "add", str(tmp_path / name))
    found = {Path(image.path).name: (image.kind, image.state, image.blocks) for image in await read_all(decoder)}
    assert found == {
        "root.raw": ("raw", "ready", 1),
        "initrd": ("initramfs", "ready", 4),
        "files": ("folder", "ready", 2),
        "bad.gz": ("initramfs", "failed", 0),
        "disk.qcow2": ("qcow2", "ready", 2),
    }
    # Equal blocks are kept once; a tail is filled up with zeros, as a page cache does it.
    assert (await state_of(decoder)).blocks == 6
    again = DeltaDecoder(config)
    assert len((await state_of(again)).images) == 5
    request = open_decoder(tmp_path)
    assert (await call(again, HERE, "open", request)).error == ""
    assert open_files(tmp_path / "root.raw") == 1
    await call(again, HERE, "close", Job(job="j1"))
    assert len((await state_of(again, "remove", str(tmp_path / "files"))).images) == 4
    cleared = await state_of(again, "clear")
    assert (cleared.blocks, [image.kind for image in cleared.images]) == (0, ["raw"])


@pytest.mark.parametrize(
    ("action", "path", "error"),
    [
        ("add", "relative", "bad-request"),
        ("add", "/absent", "bad-request"),
        ("add", "/dev/null", "bad-request"),
        ("remove", "/absent", "not-found"),
        ("explode", "", "bad-request"),
    ],
)
async def test_what_a_store_can_not_do_is_said(config: Config, action: str, path: str, error: str) -> None:
    assert (await call(DeltaDecoder(config), HERE, "store", StoreChange(action=action, path=path))).error == error


async def test_without_a_store_nothing_is_copied(config: Config, tmp_path: Path) -> None:
    off = config.model_copy(update={"encoding": config.encoding.model_copy(update={"store_mib": 0})})
    decoder = DeltaDecoder(off)
    reply = await call(decoder, HERE, "store", StoreChange(action="add", path=str(tmp_path)))
    assert (reply.error, "store_mib" in str(reply.fields)) == ("bad-request", True)
    assert (await state_of(decoder)).capacity == 0


async def test_a_store_that_can_not_be_opened_is_done_without(config: Config, tmp_path: Path) -> None:
    (tmp_path / "state" / "store").write_text("in the way")
    decoder = DeltaDecoder(config)
    assert (await call(decoder, HERE, "open", open_decoder(tmp_path))).error == ""
    assert (await state_of(decoder)).capacity == 0
    await call(decoder, HERE, "close", Job(job="j1"))


async def test_a_plain_job_has_no_layer_for_memory_or_disks(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Encoding] = []

    def pump(job: str, qemu: object, wire: object, layers: Encoding, *rest: object, **more: object) -> EncoderPump:
        seen.append(layers)
        return EncoderPump(job, qemu, wire, layers, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(actor, "EncoderPump", pump)
    encoder = DeltaEncoder(config)
    request = OpenEncoder(job="j1", qemu_path=str(tmp_path / "ram"), wire_path=str(tmp_path / "wire"), plain=True)
    assert (await call(encoder, HERE, "open", request)).error == ""
    await call(encoder, HERE, "close", Job(job="j1"))
    assert (await call(encoder, HERE, "open", msgspec.structs.replace(request, plain=False))).error == ""
    await call(encoder, HERE, "close", Job(job="j1"))
    plain, usual = seen
    on = ("zero", "store_mib", "images", "dedupe", "delta", "zstd")
    assert [bool(getattr(plain, name)) for name in on] == [False] * 6
    assert usual == config.encoding
