"""Requests and answers of the encoder and decoder actors (HDE)."""

from typing import Annotated

import msgspec


class Disks(msgspec.Struct, frozen=True, kw_only=True):
    """The `count` disks that move with a guest. QEMU's NBD clients connect to the encoder at `qemu_path`, one for each
    disk, and the decoder to QEMU's NBD server there; `wire_path` is the transport's, as for memory.
    """

    count: Annotated[int, msgspec.Meta(ge=1)]
    qemu_path: str
    wire_path: str


class OpenEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for QEMU on `qemu_path`, encode what it writes, write the batches to `wire_path` (a transport forward).

    `link_bytes_per_s` is the forecast used to choose the zstd level (0: unknown). `plain`: every layer is off.
    """

    job: str
    qemu_path: str
    wire_path: str
    link_bytes_per_s: float = 0.0
    disks: Disks | None = None
    plain: bool = False


class OpenDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for the transport on `wire_path`, rebuild the stream, write it to QEMU's incoming socket `qemu_path`.

    `files`: those whose blocks the encoder may refer to, if they are here; only from the node's own site.
    """

    job: str
    wire_path: str
    qemu_path: str
    files: list[str] = []
    disks: Disks | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, by its id."""

    job: str


class LayerCount(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer did: pages it settled, guest bytes in, bytes out, CPU seconds."""

    pages: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_s: float = 0.0


Layers = dict[str, LayerCount]


def add_layers(some: Layers, others: Layers) -> Layers:
    """The sums, layer by layer."""
    total = dict(some)
    for name, other in others.items():
        one = total.get(name, LayerCount())
        total[name] = LayerCount(
            pages=one.pages + other.pages,
            bytes_in=one.bytes_in + other.bytes_in,
            bytes_out=one.bytes_out + other.bytes_out,
            cpu_s=one.cpu_s + other.cpu_s,
        )
    return total


class DiskStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams of a job's disks came to, all together; see `CodecStats`. `streams`: how many there were."""

    streams: int = 0
    stream_bytes: int = 0
    wire_bytes: int = 0
    layers: dict[str, LayerCount] = {}


class CodecStats(msgspec.Struct, frozen=True, kw_only=True):
    """One job's codec. `state`: waiting, running, done or failed (then `reason` says why).

    `stream_bytes`: QEMU's bytes seen so far; `wire_bytes`: encoded bytes. `layers` (the encoder's only) has zero,
    store, dedupe, delta, zstd and passthrough; docs/formats/hde.md says what counts where. `missed`: pages that the far
    side was referred to and had to ask for. `round` counts how often the
    page addresses started over; `digest` is the running xxh3-128 of QEMU's stream (in the end equal on both sides).
    `pages_at` (the encoder's only): Unix seconds when the last batch with pages was handed to the wire, 0 before;
    `last_at`: when the last of all was, by the decoder to QEMU. All of this is about memory; `disks` tells of those.
    """

    job: str
    state: str
    reason: str = ""
    stream_bytes: int = 0
    wire_bytes: int = 0
    missed: int = 0
    round: int = 0
    layers: dict[str, LayerCount] = {}
    digest: str = ""
    memory_mib: float = 0.0
    pages_at: float = 0.0
    last_at: float = 0.0
    disks: DiskStats = DiskStats()


class StoreImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that an operator registered. `kind`: raw (used in place), qcow2, initramfs or folder (copied).

    `state`: reading, ready or failed (then `reason` says why). `blocks`: of 4 KiB, those of zeros not counted.
    """

    path: str
    kind: str
    state: str
    blocks: int = 0
    reason: str = ""


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """A node's content store: blocks of room, in use, that served a move, that made room for others, found spoilt."""

    node: str
    capacity: int = 0
    blocks: int = 0
    hits: int = 0
    evicted: int = 0
    dropped: int = 0
    images: list[StoreImage] = []


class StoreChange(msgspec.Struct, frozen=True, kw_only=True):
    """`action`: show, add, remove (an image, by the absolute `path` on the node) or clear (forget every block)."""

    action: str = "show"
    path: str = ""
