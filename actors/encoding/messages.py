"""Requests and answers of the encoder and decoder actors (HDE)."""

import msgspec


class OpenEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for QEMU on `qemu_path`, encode what it writes, write the batches to `wire_path` (a transport forward).

    `link_bytes_per_s` is the forecast used to choose the zstd level (0: unknown).
    """

    job: str
    qemu_path: str
    wire_path: str
    link_bytes_per_s: float = 0.0


class OpenDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for the transport on `wire_path`, rebuild the stream, write it to QEMU's incoming socket `qemu_path`."""

    job: str
    wire_path: str
    qemu_path: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, by its id."""

    job: str


class LayerCount(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer did: pages it settled, guest bytes in, bytes out, CPU seconds."""

    pages: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_s: float = 0.0


class CodecStats(msgspec.Struct, frozen=True, kw_only=True):
    """One job's codec. `state`: waiting, running, done or failed (then `reason` says why).

    `stream_bytes`: QEMU's bytes seen so far; `wire_bytes`: encoded bytes. `layers` (the encoder's only) has zero,
    dedupe, delta, zstd and passthrough; docs/formats/hde.md says what counts where. `round` counts how often the page
    addresses started over; `digest` is the running xxh3-128 of QEMU's stream (in the end equal on both sides).
    """

    job: str
    state: str
    reason: str = ""
    stream_bytes: int = 0
    wire_bytes: int = 0
    round: int = 0
    layers: dict[str, LayerCount] = {}
    digest: str = ""
    memory_mib: float = 0.0
