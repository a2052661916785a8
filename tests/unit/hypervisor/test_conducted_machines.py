"""A real machine moves to another through both codecs, conducted: at the floor until the rest fits, then it arrives."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.config.schema import Encoding
from actors.encoding.decoder_pump import DecoderPump
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.messages import CodecStats
from actors.encoding.pump import Patience
from actors.hypervisor import qmp
from actors.hypervisor.conductor import Conductors
from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.engine.switchover import FLOOR, Limit
from actors.hypervisor.messages import Aim, Sent
from actors.hypervisor.threads import Threads
from tests.unit.encoding.machines import Monitor, Recipe, machine

PATIENCE = Patience(peer_s=30, connect_s=30, stall_s=30, end_s=10)
RECIPE = Recipe()
SLOW_BYTES_PER_S = 65536
MOVE = JobRecord(job="m-1", guest="web", role="outgoing", peer="paris-1")


class Node:
    """The monitor and both codecs, as the conductor reaches them."""

    def __init__(self, source: Monitor, encoder: EncoderPump, decoder: DecoderPump) -> None:
        self.source = source
        self.encoder = encoder
        self.decoder = decoder
        self.told: list[Limit] = []
        self._lock = threading.Lock()

    def command(self, name: str, arguments: dict[str, int] | None = None) -> str:
        with self._lock:
            return json.dumps({"return": self.source.ask(name, **(arguments or {}))})

    def domain(self, _: str, what: Callable[[Any], Any]) -> Any:
        return what(self)

    async def sent(self, _: JobRecord) -> Sent:
        stats = self.encoder.stats()
        pages = sum(count.pages for layer, count in stats.layers.items() if layer != "zero")
        return Sent(stream_bytes=stats.stream_bytes, page_bytes=pages * 4096, wire_bytes=stats.wire_bytes)

    async def delivered(self, _: JobRecord) -> CodecStats:
        return self.decoder.stats()

    def limit(self) -> tuple[int, int]:
        found = json.loads(self.command("query-migrate-parameters"))["return"]
        return found["downtime-limit"], found["avail-switchover-bandwidth"]

    def status(self) -> str:
        return str(json.loads(self.command("query-migrate"))["return"].get("status", ""))


async def test_it_arrives_and_was_never_let_go_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "_command", Node.command)
    ram, wire, incoming = (tmp_path / name for name in ("ram", "wire", "in"))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(machine(RECIPE, tmp_path))
        target = stack.enter_context(machine(RECIPE, tmp_path, "-incoming", f"unix:{incoming}"))
        decoder = DecoderPump("m-1", wire, incoming, 8, PATIENCE)
        encoder = EncoderPump("m-1", ram, wire, Encoding(dedupe_cache_mib=8), PATIENCE)
        for pump in (decoder, encoder):
            pump.start()
            stack.callback(pump.close)
        node = Node(source, encoder, decoder)
        qmp.set_limit(node, FLOOR)
        assert node.limit() == (FLOOR.downtime_ms, FLOOR.bandwidth_bytes_per_s)
        conductors = Conductors(node, Threads(), node)  # type: ignore[arg-type]  # the parts that are used
        conductors.steer(MOVE, Aim(pause_ms=300, fixed_ms=50, link_bytes_per_s=50e6, rtt_ms=1))
        # So slow that it can't be over before the conductor has looked at it once.
        await asyncio.to_thread(node.command, "migrate-set-parameters", {"max-bandwidth": SLOW_BYTES_PER_S})
        await asyncio.to_thread(node.command, "migrate", {"uri": f"unix:{ram}"})  # type: ignore[dict-item]
        async with asyncio.timeout(60):
            while (status := await asyncio.to_thread(node.status)) not in {"completed", "failed"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert status == "completed"
        seen = conductors.seen("m-1")
        assert seen is not None and seen.budget_ms == 300
        assert seen.predicted_ms <= 300
        if seen.predicted_ms < 0:
            # An idle host brings so small a machine over between two looks: then nothing was left, at the floor.
            assert node.limit() == (FLOOR.downtime_ms, FLOOR.bandwidth_bytes_per_s)
        until = asyncio.get_running_loop().time() + 30
        while not (encoder.ended and decoder.ended) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert encoder.stats().digest == decoder.stats().digest
        assert target.ask("query-status")["status"] == "running"
        conductors.end("m-1")
