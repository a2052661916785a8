"""Requests and answers of the encoder and decoder actors (HDE)."""

import msgspec


class KnownImage(msgspec.Struct, frozen=True, kw_only=True):
    """A disk image on a node: the blake3 of its whole content in hexadecimal digits, its whole blocks of 4 KiB."""

    path: str
    digest: str
    blocks: int


class OpenEncoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for QEMU on `qemu_path`, encode what it writes, write the batches to `wire_path` (a transport forward).

    `link_bytes_per_s` is the forecast used to choose the zstd level (0: unknown). `images`: what the decoder
    answered; those that are the same here are referred to.
    """

    job: str
    qemu_path: str
    wire_path: str
    link_bytes_per_s: float = 0.0
    images: list[KnownImage] = []


class OpenDecoder(msgspec.Struct, frozen=True, kw_only=True):
    """Listen for the transport on `wire_path`, rebuild the stream, write it to QEMU's incoming socket `qemu_path`.

    `images`: files whose blocks the encoder may refer to, if they are here; only from the node's own site.
    """

    job: str
    wire_path: str
    qemu_path: str
    images: list[str] = []


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder that waits, and which of the images it was asked for are here."""

    images: list[KnownImage] = []


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
    image, dedupe, delta, zstd and passthrough; docs/formats/hde.md says what counts where. `round` counts how often the
    page addresses started over; `digest` is the running xxh3-128 of QEMU's stream (in the end equal on both sides).
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
