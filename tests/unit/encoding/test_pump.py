"""Real sockets, threads and machines around the engines."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.config.schema import Encoding
from actors.encoding.decoder_pump import DecoderPump
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.pump import Patience, Pump
from actors.encoding.store import Store
from tests.unit.encoding import kit
from tests.unit.encoding.machines import DEADLINE_S, Monitor, Recipe, connect, machine, migrate, prepare

PATIENCE = Patience(peer_s=20.0, connect_s=5.0, stall_s=20.0, end_s=20.0)
CONFIG = Encoding(dedupe_cache_mib=8, batch_bytes=65536, qemu_buffer_bytes=65536)


def until(what: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    end_s = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end_s, "deadline"
        threading.Event().wait(0.005)


class Pair:
    """An encoder and a decoder with nothing but a socket between them."""

    def __init__(self, folder: Path, patience: Patience = PATIENCE, *, encodes: bool = True) -> None:
        self.source, self.wire, self.target = folder / "ram.sock", folder / "wire.sock", folder / "incoming.sock"
        self.decoder = DecoderPump("move", self.wire, self.target, 8, patience)
        self.encoder = EncoderPump("move", self.source, self.wire, CONFIG, patience)
        self.decoder.start()
        if encodes:
            self.encoder.start()

    def close(self) -> None:
        """End both."""
        self.encoder.close()
        self.decoder.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


@pytest.fixture
def target(pair: Pair) -> Iterator[socket.socket]:
    """The target's listening socket."""
    with listening(pair.target) as listener:
        yield listener


def listening(path: Path) -> socket.socket:
    """A listening socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(DEADLINE_S)
    return listener


def read_all(source: socket.socket) -> bytes:
    source.settimeout(DEADLINE_S)
    chunks = []
    while chunk := source.recv(1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def send_all(to: socket.socket, data: bytes) -> None:
    to.sendall(data)
    to.shutdown(socket.SHUT_WR)


def both(pair: Pair, state: str) -> None:
    """Wait until both jobs are in `state`."""
    until(lambda: pair.encoder.ended and pair.decoder.ended)
    assert (pair.encoder.state, pair.decoder.state) == (state, state), (pair.encoder.reason, pair.decoder.reason)


def test_a_stream_and_its_answers_pass(pair: Pair, target: socket.socket) -> None:
    stream = kit.guest_stream(11, pages=900)
    with connect(pair.source) as qemu:
        sender = threading.Thread(target=lambda: (qemu.sendall(stream), qemu.shutdown(socket.SHUT_WR)))
        sender.start()
        far, _ = target.accept()
        with far:
            assert read_all(far) == stream
            far.sendall(b"the answer")
        assert read_all(qemu) == b"the answer"
        sender.join()
    both(pair, "done")
    sent, received = pair.encoder.stats(), pair.decoder.stats()
    assert sent.digest == received.digest
    assert sent.stream_bytes == received.stream_bytes == len(stream)
    assert sent.wire_bytes == received.wire_bytes
    assert set(sent.layers) == {"zero", "store", "dedupe", "delta", "zstd", "passthrough"}


def test_answers_that_qemu_does_not_take_yet_wait(pair: Pair, target: socket.socket) -> None:
    """However short the encoder waits for QEMU's next bytes meanwhile."""
    stream, answers = kit.guest_stream(12, pages=300), kit.noise(4 << 20)
    step = len(stream) // 40

    def hand_over(qemu: socket.socket) -> None:
        for piece in kit.pieces(stream, [1000, *range(step, len(stream), step)]):
            qemu.sendall(piece)
            threading.Event().wait(0.005)
        qemu.shutdown(socket.SHUT_WR)

    with connect(pair.source) as qemu:
        sender = threading.Thread(target=hand_over, args=(qemu,))
        sender.start()
        far, _ = target.accept()
        with far:
            teller = threading.Thread(target=send_all, args=(far, answers))
            teller.start()
            assert read_all(far) == stream
            assert read_all(qemu) == answers
            teller.join()
        sender.join()
    both(pair, "done")


def test_a_guest_goes_and_comes_back_by_reference(tmp_path: Path) -> None:
    """Both ends keep what passed; the way back needs next to nothing, also when the store is spoilt meanwhile."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    stores = {name: Store(tmp_path / name / "store", 8) for name in "ab"}
    memory = [kit.random.Random(number).randbytes(4096) for number in range(600)]
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 600 << 12)))
    records = b"".join(kit.page(number << 12, body) for number, body in enumerate(memory[1:], 1))
    stream = start + kit.section(3, kit.page(0, memory[0], "ram") + records + kit.EOS)
    sent = []
    for leg, (source, target) in enumerate(("ab", "ba", "ab")):
        folder = tmp_path / str(leg)
        folder.mkdir()
        there = stores[target]
        if leg == 2:
            noise = b"noise" * 1000
            with (tmp_path / target / "store" / "blocks").open("r+b") as blocks:
                blocks.write(noise * 100)
        decoder = DecoderPump("move", folder / "wire", folder / "in", 8, PATIENCE, there.key, there)
        encoder = EncoderPump("move", folder / "ram", folder / "wire", CONFIG, PATIENCE, store=stores[source])
        with contextlib.ExitStack() as stack:
            for pump in (decoder, encoder):
                pump.start()
                stack.callback(pump.close)
            listener = stack.enter_context(listening(folder / "in"))
            qemu = stack.enter_context(connect(folder / "ram"))
            sender = threading.Thread(target=send_all, args=(qemu, stream))
            sender.start()
            far, _ = listener.accept()
            assert read_all(stack.enter_context(far)) == stream
            far.close()
            until(lambda encoder=encoder, decoder=decoder: encoder.ended and decoder.ended)
            sender.join()
            assert (encoder.state, decoder.state) == ("done", "done"), (encoder.reason, decoder.reason)
            assert encoder.stats().wire_bytes == decoder.stats().wire_bytes
            sent.append(encoder.stats())
        # What was found spoilt in the third leg is not missed: the guest's pages are not sent again for the store.
        until(lambda leg=leg: leg == 2 or all(store.counts().blocks >= 600 for store in stores.values()))
    first, back, spoilt = sent
    assert first.layers["store"].pages == 0
    assert (back.layers["store"].pages, back.missed) == (600, 0)
    assert back.wire_bytes < first.wire_bytes // 100
    assert spoilt.missed > 0


def test_bytes_that_begin_a_record_are_not_held_back(pair: Pair, target: socket.socket) -> None:
    start = kit.guest_stream(1)[:3000]
    with connect(pair.source) as qemu:
        qemu.sendall(start)
        far, _ = target.accept()
        with far:
            far.settimeout(DEADLINE_S)
            got = b""
            while len(got) < len(start):
                got += far.recv(65536)
            assert got == start
            far.sendall(b"go on")
            assert qemu.recv(5) == b"go on"


def test_a_target_that_fails_ends_the_source_at_once(pair: Pair, target: socket.socket) -> None:
    with connect(pair.source) as qemu:
        qemu.sendall(kit.guest_stream(1))
        far, _ = target.accept()
        far.close()
        qemu.settimeout(DEADLINE_S)
        with pytest.raises(OSError, match="Broken pipe"):
            while True:
                qemu.sendall(kit.page(4096, b"z" * 4096) * 16)
    both(pair, "failed")


def test_a_wire_that_lies_fails_the_decoder(tmp_path: Path) -> None:
    with contextlib.closing(Pair(tmp_path, encodes=False)) as pair, connect(pair.wire) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        until(lambda: pair.decoder.ended)
        assert pair.decoder.state == "failed"
        assert "does not begin" in pair.decoder.reason
        # An end or a reset, depending on whether bytes were left unread.
        with contextlib.suppress(ConnectionResetError):
            assert wire.recv(1) == b""


def test_a_wire_that_ends_early_fails_the_decoder(tmp_path: Path) -> None:
    frames, _ = kit.encoded([kit.guest_stream(4)])
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(contextlib.closing(Pair(tmp_path, encodes=False)))
        target = stack.enter_context(listening(pair.target))
        wire = stack.enter_context(connect(pair.wire))
        wire.sendall(frames[:-10])
        far, _ = target.accept()
        with far:
            wire.shutdown(socket.SHUT_WR)
            read_all(far)
            until(lambda: pair.decoder.ended)
            assert "without a final batch" in pair.decoder.reason


def test_nobody_comes(tmp_path: Path) -> None:
    patience = Patience(peer_s=0.05, connect_s=0.05, stall_s=1.0, end_s=1.0)
    with contextlib.closing(Pair(tmp_path, patience)) as pair:
        both(pair, "failed")
        until(lambda: not pair.source.exists() and not pair.wire.exists())


def test_no_target_listens(tmp_path: Path) -> None:
    patience = Patience(peer_s=20.0, connect_s=0.1, stall_s=5.0, end_s=5.0)
    with contextlib.closing(Pair(tmp_path, patience)) as pair, connect(pair.source) as qemu:
        qemu.sendall(kit.guest_stream(1))
        until(lambda: pair.decoder.ended)
        assert "incoming.sock" in pair.decoder.reason


@pytest.mark.parametrize("begun", [False, True])
def test_a_job_can_be_closed_at_any_time_and_twice(begun: bool, pair: Pair, target: socket.socket) -> None:
    with connect(pair.source) as qemu:
        if begun:
            qemu.sendall(kit.guest_stream(1))
            target.accept()
        pumps: list[Pump] = [pair.encoder, pair.decoder]
        for pump in pumps * 2:
            pump.close()
        both(pair, "failed")
        assert read_all(qemu) == b""


def test_what_waits_between_qemu_and_a_stalled_wire_is_bounded(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(socket.socket(socket.AF_UNIX))
        wire.bind(str(tmp_path / "wire.sock"))
        wire.listen(1)
        pump = EncoderPump("move", tmp_path / "ram.sock", tmp_path / "wire.sock", CONFIG, PATIENCE)
        pump.start()
        stack.callback(pump.close)
        qemu = stack.enter_context(connect(tmp_path / "ram.sock"))
        # The formula of docs/formats/hde.md, for bytes that don't shrink.
        bound = 2 * 229_376 + 2 * CONFIG.batch_bytes
        qemu.settimeout(1.0)
        taken = 0
        with pytest.raises(TimeoutError):
            while True:
                taken += qemu.send(b"QEVM" + kit.random.Random(taken).randbytes(65532))
        assert taken <= bound


CAPABILITIES = [(), ("return-path",), ("postcopy-ram",), ("xbzrle",), ("return-path", "switchover-ack")]


@pytest.mark.parametrize("capabilities", CAPABILITIES, ids="+".join)
def test_a_machine_moves(capabilities: tuple[str, ...], pair: Pair, tmp_path: Path) -> None:
    recipe = Recipe(capabilities=capabilities)
    with machine(recipe, tmp_path) as source, machine(recipe, tmp_path, "-incoming", "defer") as arrived:
        prepare(source, recipe)
        prepare(arrived, recipe)
        arrived.ask("migrate-incoming", uri=f"unix:{pair.target}")
        migrate(source, recipe, f"unix:{pair.source}")
        both(pair, "done")
        until(lambda: _is_running(arrived))
        assert pair.encoder.stats().digest == pair.decoder.stats().digest


def _is_running(monitor: Monitor) -> bool:
    return bool(monitor.ask("query-status")["running"])
