"""Disks through real pumps: QEMU's own NBD client and server, several at once, and what goes wrong."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.encoding.decoder_pump import DecoderPump
from actors.encoding.disks import DiskGate, Streams
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.store import Store
from actors.errors import Conflict
from tests.unit.encoding import kit, nbd_kit
from tests.unit.encoding.machines import DEADLINE_S, connect
from tests.unit.encoding.test_pump import CONFIG, PATIENCE, listening, read_all, until

MIB = 1 << 20


class Gates:
    """Both ends of a job's disks with nothing but a socket between them."""

    def __init__(self, folder: Path, disks: int = 1, stores: tuple[Store | None, Store | None] = (None, None)) -> None:
        folder.mkdir(exist_ok=True)
        self.source, self.wire, self.target = folder / "nbd.sock", folder / "nbd-wire.sock", folder / "server.sock"
        here, there = stores
        key = there.key if there is not None else bytes(16)

        def encoder() -> EncoderPump:
            return EncoderPump("move", None, self.wire, CONFIG, PATIENCE, store=here, disk=True)

        def decoder() -> DecoderPump:
            return DecoderPump("move", None, self.target, 8, PATIENCE, key, there, disk=True)

        self.decoder = DiskGate("move", self.wire, disks, decoder, PATIENCE.peer_s)
        self.encoder = DiskGate("move", self.source, disks, encoder, PATIENCE.peer_s)
        self.decoder.start()
        self.encoder.start()

    def close(self) -> None:
        """End both."""
        self.encoder.close()
        self.decoder.close()


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Gates]:
    with contextlib.closing(Gates(tmp_path / "gates")) as made:
        yield made


@contextlib.contextmanager
def server(path: Path, **disks: Path) -> Iterator[None]:
    """QEMU's NBD server with these disks, as a target's QEMU has it."""
    asked = ["qemu-storage-daemon", "--nbd-server", f"addr.type=unix,addr.path={path}"]
    for name, image in disks.items():
        asked += ["--blockdev", f"driver=file,node-name={name},filename={image}"]
        asked += ["--export", f"type=nbd,id={name},node-name={name},writable=on"]
    running = subprocess.Popen(asked)
    try:
        until(lambda: path.is_socket() or running.poll() is not None)
        yield
    finally:
        running.terminate()
        running.wait(DEADLINE_S)


def copy(image: Path, path: Path, name: str) -> None:
    """Have QEMU copy `image` to the server's disk `name`."""
    to = f"nbd+unix:///{name}?socket={path}"
    asked = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(image), to]
    subprocess.run(asked, check=True, timeout=DEADLINE_S)


def image_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def copied(gates: Gates, folder: Path, **contents: bytes) -> None:
    """Copy a disk of each content at once; they arrive as they were."""
    arrived = {name: image_of(folder / f"{name}-there", b"\xee" * len(content)) for name, content in contents.items()}
    images = {name: image_of(folder / f"{name}-here", content) for name, content in contents.items()}
    with server(gates.target, **arrived):
        workers = [threading.Thread(target=copy, args=(image, gates.source, name)) for name, image in images.items()]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for name, content in contents.items():
            assert arrived[name].read_bytes() == content, name


def test_a_disk_is_coded_and_arrives(gates: Gates, tmp_path: Path) -> None:
    new = kit.noise(MIB)
    copied(gates, tmp_path, vda=new + bytes(2 * MIB) + new + b"some text like any other".ljust(32) * (MIB // 32))
    sent = gates.encoder.stats()
    until(lambda: gates.decoder.stats().stream_bytes == sent.stream_bytes)
    assert sent.streams == 1
    assert sent.wire_bytes == gates.decoder.stats().wire_bytes
    assert MIB < sent.wire_bytes < MIB + MIB // 4
    assert sent.layers["dedupe"].pages >= 256


def test_a_disk_goes_and_comes_back_by_reference(tmp_path: Path) -> None:
    content = kit.noise(6 * MIB, seed=3)
    stores = Store(tmp_path / "a", 16), Store(tmp_path / "b", 16)
    sent = []
    for leg, ends in enumerate((stores, stores[::-1])):
        with contextlib.closing(Gates(tmp_path / str(leg), stores=ends)) as gates:
            copied(gates, tmp_path, vda=content)
            sent.append(gates.encoder.stats())
        until(lambda: all(store.counts().blocks >= 1500 for store in stores))
    assert sent[0].layers["store"].pages == 0
    assert sent[1].layers["store"].pages >= 1500
    assert sent[1].wire_bytes < sent[0].wire_bytes // 50


def test_several_disks_at_once(tmp_path: Path) -> None:
    with contextlib.closing(Gates(tmp_path / "gates", disks=3)) as gates:
        copied(gates, tmp_path, **{f"vd{number}": kit.noise(MIB, seed=number) for number in range(3)})
        assert gates.encoder.stats().streams == 3


def test_what_the_server_says_first_passes_and_every_small_request_at_once(gates: Gates) -> None:
    with listening(gates.target) as listener, connect(gates.source) as client:
        client.settimeout(DEADLINE_S)
        far, _ = listener.accept()
        with far:
            far.settimeout(DEADLINE_S)
            far.sendall(b"NBDMAGICIHAVEOPT\0\3")
            assert client.recv(18, socket.MSG_WAITALL) == b"NBDMAGICIHAVEOPT\0\3"
            for message in (nbd_kit.HELLO, nbd_kit.write(512, kit.noise(1024)), nbd_kit.write(0, kit.noise(5000))):
                client.sendall(message)
                assert far.recv(len(message), socket.MSG_WAITALL) == message
                far.sendall(b"done")
                assert client.recv(4, socket.MSG_WAITALL) == b"done"
            client.shutdown(socket.SHUT_WR)
            assert read_all(far) == b""
        assert read_all(client) == b""


def test_a_server_that_goes_takes_the_client_with_it(gates: Gates) -> None:
    with listening(gates.target) as listener, connect(gates.source) as client:
        client.sendall(nbd_kit.HELLO)
        far, _ = listener.accept()
        far.close()
        assert read_all(client) == b""
        until(lambda: _refused(lambda: client.sendall(nbd_kit.write(0, kit.noise(4096)))))


def test_a_client_that_dies_takes_the_server_with_it(gates: Gates) -> None:
    with listening(gates.target) as listener:
        with connect(gates.source) as client:
            client.sendall(nbd_kit.HELLO + nbd_kit.write(0, kit.noise(4096))[:1000])
            far, _ = listener.accept()
        with far:
            assert len(read_all(far)) == len(nbd_kit.HELLO) + 1000


def test_no_more_connections_than_disks_could_have(gates: Gates) -> None:
    with listening(gates.target) as listener, contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(connect(gates.source))
            client.sendall(nbd_kit.FLAGS)
            stack.enter_context(listener.accept()[0])
        refused = stack.enter_context(connect(gates.source))
        assert read_all(refused) == b""


def test_a_job_that_is_closed_ends_its_disks(tmp_path: Path) -> None:
    gates = Gates(tmp_path / "gates")
    with listening(gates.target) as listener, connect(gates.source) as client:
        client.sendall(nbd_kit.FLAGS)
        far, _ = listener.accept()
        with far:
            for _ in range(2):
                gates.close()
            assert read_all(client) == b""
            read_all(far)
    assert gates.encoder.over and gates.decoder.over
    assert not gates.source.exists()


def test_a_job_whose_memory_can_not_start_takes_no_disks(tmp_path: Path) -> None:
    (tmp_path / "ram").write_text("precious")
    memory = EncoderPump("move", tmp_path / "ram", tmp_path / "wire", CONFIG, PATIENCE)
    gate = DiskGate("move", tmp_path / "nbd", 1, lambda: memory, PATIENCE.peer_s)
    with pytest.raises(Conflict):
        Streams(memory, gate).start()
    assert gate.over
    assert not (tmp_path / "nbd").exists()


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return True
    return False
