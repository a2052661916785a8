"""A small model of a guest, of QEMU's pre-copy, of the encoder, a link and the far end, in steps of 20 ms.

QEMU as in its ``migration/migration.c``: it takes up a new limit every 100 ms, counts what is dirty once its estimate
is below the threshold, and stops the guest when the count is below it too.
"""

from collections import deque

import msgspec

from actors.hypervisor.engine.switchover import PASSES_MIN, Arrived, Controller, Limit, Sample
from actors.hypervisor.messages import Aim

STEP_S = 0.02
QEMU_LOOKS_S = 0.1
MIB = 1 << 20


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and bytes per second: `memory` of the guest, of which `region` is written to at `writes`.

    `first_ratio`, `ratio`: wire bytes per byte of a page sent for the first time, and again. `coding`, `work`: guest
    bytes that the encoder and the far end manage at most. `buffer`: wire bytes that may be on their way.
    """

    memory: float = 256 * MIB
    region: float = 64 * MIB
    writes: float = 8e6
    first_ratio: float = 0.25
    ratio: float = 0.03
    coding: float = 300e6
    work: float = 150e6
    link: float = 12.5e6
    buffer: float = 1.5e6
    rtt_s: float = 0.05


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The guest was stopped: when, with what left, how long that and all before it then took, and what was told."""

    at_s: float
    left: float
    pages_ms: float
    limit: Limit
    predicted_ms: float


class Qemu:
    """The move; `step` it until it has `stopped`."""

    def __init__(self, scene: Scene, limit: Limit) -> None:
        self.scene = scene
        self.limit = limit
        self.counts = 1
        self.left = scene.memory
        self.dirty = 0.0
        self.pages = self.wire = 0.0
        self.queued = self.queued_wire = 0.0
        self.at_s = 0.0
        self.stopped = False
        self._threshold = limit.threshold_bytes
        self._looked_s = self._in_window = 0.0
        # Half a round trip to cross, another until that is known.
        delay = max(1, round(scene.rtt_s / STEP_S))
        self._told = deque([Arrived(at_s=0.0, stream_bytes=0, wire_bytes=0)] * delay)

    def step(self) -> None:
        """20 ms of it."""
        scene = self.scene
        self.at_s += STEP_S
        share = self._drained()
        self.queued, self.queued_wire = self.queued * (1 - share), self.queued_wire * (1 - share)
        got, got_wire = int(self.pages - self.queued), int(self.wire - self.queued_wire)
        self._told.append(Arrived(at_s=self.at_s, stream_bytes=got, wire_bytes=got_wire))
        self._told.popleft()
        self.dirty = min(scene.region, self.dirty + scene.writes * STEP_S)
        ratio = scene.first_ratio if self.counts < PASSES_MIN else scene.ratio
        sent = max(0.0, min(self.left, scene.coding * STEP_S, (scene.buffer - self.queued_wire) / ratio))
        if self.limit.rate_bytes_per_s:
            sent = min(sent, max(0.0, self.limit.rate_bytes_per_s * QEMU_LOOKS_S - self._in_window))
        self._in_window += sent
        self.left -= sent
        self.pages += sent
        self.wire += sent * ratio
        self.queued += sent
        self.queued_wire += sent * ratio
        if self.at_s - self._looked_s >= QEMU_LOOKS_S:
            self._looked_s, self._threshold, self._in_window = self.at_s, self.limit.threshold_bytes, 0.0
        if self.left < self._threshold:
            # A page that is left and dirtied again is still one page.
            self.left, self.dirty = min(self.left + self.dirty, max(self.left, scene.region)), 0.0
            self.counts += 1
            self.stopped = self.left < self._threshold

    def _drained(self) -> float:
        """The share of what is on its way that arrives in a step."""
        scene = self.scene
        if self.queued < 1:
            return 1.0
        return min(1.0, scene.work * STEP_S / self.queued, scene.link * STEP_S / self.queued_wire)

    @property
    def sample(self) -> Sample:
        """What the conductor would see."""
        return Sample(
            at_s=self.at_s,
            remaining_bytes=int(self.left),
            counts=self.counts,
            dirty_bytes_per_s=self.scene.writes,
            stream_bytes=int(self.pages),
            page_bytes=int(self.pages),
            wire_bytes=int(self.wire),
        )

    @property
    def told(self) -> Arrived:
        """The newest word from the target."""
        return msgspec.structs.replace(self._told[0], at_s=self.at_s)

    @property
    def pages_ms(self) -> float:
        """How long what is left and what is on its way takes from now on, with the guest stopped."""
        scene = self.scene
        wire = self.queued_wire + self.left * scene.ratio
        return 1000 * max((self.queued + self.left) / scene.work, wire / scene.link)


def play(scene: Scene, controller: Controller, looks_s: float, until_s: float) -> tuple[Stop | None, list[Limit]]:
    """Play a move; the stop (None: it never came) and every limit that QEMU was told."""
    qemu = Qemu(scene, controller.limit)
    told = [controller.limit]
    looked_s = 0.0
    while qemu.at_s < until_s:
        qemu.step()
        if qemu.stopped:
            stop = Stop(
                at_s=qemu.at_s, left=qemu.left, pages_ms=qemu.pages_ms, limit=qemu.limit,
                predicted_ms=controller.seen.predicted_ms,
            )  # fmt: skip
            return stop, told
        if qemu.at_s - looked_s >= looks_s:
            looked_s = qemu.at_s
            controller.arrived(qemu.told)
            limit = controller.take(qemu.sample)
            if limit is not None:
                qemu.limit = limit
                told.append(limit)
    return None, told


def aim_of(scene: Scene, pause_ms: int = 300, fixed_ms: float = 150.0) -> Aim:
    """An aim that knows the scene's link."""
    return Aim(pause_ms=pause_ms, fixed_ms=fixed_ms, link_bytes_per_s=scene.link, rtt_ms=scene.rtt_s * 1000)
