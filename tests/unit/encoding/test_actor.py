"""The services: who may do what, which paths, which jobs."""

import os
from pathlib import Path

import msgspec
import pytest

from actors.calls.messages import Caller, Empty, Reply
from actors.calls.service import Service
from actors.config.schema import Config
from actors.encoding.actor import DeltaDecoder, DeltaEncoder
from actors.encoding.messages import CodecStats, Job, OpenDecoder, Opened, OpenEncoder

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


async def test_a_job_refers_to_the_images_that_both_sides_have(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    encoder, decoder = DeltaEncoder(config), DeltaDecoder(config)
    request = msgspec.structs.replace(open_decoder(tmp_path), images=[str(image), "/absent"])
    reply = await call(decoder, HERE, "open", request)
    opened = msgspec.msgpack.decode(reply.body, type=Opened)
    assert [(known.path, known.blocks) for known in opened.images] == [(str(image), 4)]
    ram, wire = str(tmp_path / "ram"), str(tmp_path / "wire")
    opening = OpenEncoder(job="j1", qemu_path=ram, wire_path=wire, images=opened.images)
    assert (await call(encoder, HERE, "open", opening)).error == ""
    assert open_files(image) == 2
    for service in (encoder, decoder):
        assert (await call(service, HERE, "close", Job(job="j1"))).error == ""
    # The encoder keeps its index, and so the mapped file, for the next move.
    assert open_files(image) == 1


async def test_without_the_layer_no_image_is_opened(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    off = config.model_copy(update={"encoding": config.encoding.model_copy(update={"images": False})})
    decoder = DeltaDecoder(off)
    request = msgspec.structs.replace(open_decoder(tmp_path), images=[str(image)])
    reply = await call(decoder, HERE, "open", request)
    assert msgspec.msgpack.decode(reply.body, type=Opened).images == []
    await call(decoder, HERE, "close", Job(job="j1"))


async def test_a_job_that_can_not_start_leaves_no_image_open(config: Config, tmp_path: Path) -> None:
    image = tmp_path / "root.raw"
    image.write_bytes(bytes(range(256)) * 64)
    (tmp_path / "j1-wire").write_text("precious")
    request = msgspec.structs.replace(open_decoder(tmp_path), images=[str(image)])
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
