"""Pure: what was measured of one encoding, as a row of the benchmark's file."""

from typing import Final, Self

import msgspec

from actors.encoding.messages import LayerCount
from actors.errors import BadRequest
from benchmarks.moving.rows import tell_layers
from benchmarks.report import Row

PAGE_BYTES: Final = 4096
SNAPSHOT, PAIR = "snapshot", "pair"
NOVACRON: Final = "novacron"
SYSTEMS: Final = (
    NOVACRON, "zstd-1", "zstd-3", "fastcdc-zstd-3", "zstd-patch-from", "xdelta3", "qemu-multifd-zstd-1",
    "qemu-multifd-zstd-3", "qemu-xbzrle", "kernels",
)  # fmt: skip
COLUMNS: Final = [
    "system", "guest", "of", "layer", "ratio", "guest_gb_per_s", "wire_bytes", "decode_gb_per_s", "of_memcpy",
    "peak_mib", "beyond_caches_mib", "note",
]  # fmt: skip


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What QEMU counted of a migration: pages (also those of zeros), bytes, passes begun, wall and CPU time."""

    pages: int = 0
    wire_bytes: int = 0
    rounds: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def since(self, before: Self) -> "Sent":
        """What came after `before`."""
        return Sent(
            pages=self.pages - before.pages,
            wire_bytes=self.wire_bytes - before.wire_bytes,
            rounds=self.rounds - before.rounds,
            seconds=self.seconds - before.seconds,
            cpu_s=self.cpu_s - before.cpu_s,
        )


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Peak growth of a process's own memory over what it had before its work, and the caches it was allowed, bytes."""

    peak_bytes: int = 0
    caches_bytes: int = 0


class Coded(msgspec.Struct, frozen=True, kw_only=True):
    """One encoding. Times are CPU seconds on one core, 0: not measured. `layers`: NovaCron's own account."""

    guest_bytes: int
    wire_bytes: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    encoder: Memory = Memory()
    decoder: Memory = Memory()
    layers: dict[str, LayerCount] = {}
    note: str = ""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What rows of one recorded guest have in common. `memcpy_gb_per_s`: of this machine, measured beside them."""

    guest: str
    memory_mib: int
    apart_s: float
    memcpy_gb_per_s: float


def parse_systems(text: str) -> list[str]:
    """The systems that `novacron,zstd-1` names, in the order of `SYSTEMS`; all for an empty text.

    Raises:
        BadRequest: one of them does not exist.
    """
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(SYSTEMS))
    if unknown:
        raise BadRequest(detail=f"--only {', '.join(unknown)}: there are {', '.join(SYSTEMS)}")
    return [system for system in SYSTEMS if not named or system in named]


def row(setting: Setting, system: str, of: str, layer: str, coded: Coded) -> Row:
    """One flat row. `of`: a `snapshot`, or of a `pair` the second when the first is known."""
    encode = rate(coded.guest_bytes, coded.encode_s)
    ours = system == NOVACRON
    larger = max((coded.encoder, coded.decoder), key=lambda one: one.peak_bytes)
    return {
        "system": system,
        "guest": setting.guest,
        "of": of,
        "layer": layer,
        "memory_mib": setting.memory_mib,
        "apart_s": round(setting.apart_s, 1) if of == PAIR else None,
        "ratio": round(coded.guest_bytes / coded.wire_bytes, 2) if coded.wire_bytes else None,
        "guest_gb_per_s": encode,
        "decode_gb_per_s": rate(coded.guest_bytes, coded.decode_s),
        "of_memcpy": round(encode / setting.memcpy_gb_per_s, 3) if encode and setting.memcpy_gb_per_s else None,
        "guest_bytes": coded.guest_bytes,
        "wire_bytes": coded.wire_bytes or None,
        "encode_cpu_s": round(coded.encode_s, 3) or None,
        "decode_cpu_s": round(coded.decode_s, 3) or None,
        "peak_mib": _mib(larger.peak_bytes),
        "encoder_beyond_caches_mib": _mib(beyond(coded.encoder)) if ours else None,
        "decoder_beyond_caches_mib": _mib(beyond(coded.decoder)) if ours else None,
        "beyond_caches_mib": _mib(max(beyond(coded.encoder), beyond(coded.decoder))) if ours else None,
        "layers": tell_layers(coded.layers),
        "note": coded.note,
    }


def kernel_row(setting: Setting, name: str, done_bytes: int, cpu_s: float, note: str) -> Row:
    """A row of one inner loop alone: bytes that it went through per CPU second."""
    found = rate(done_bytes, cpu_s)
    return {
        "system": name,
        "guest": setting.guest,
        "of": "kernel",
        "layer": "",
        "memory_mib": setting.memory_mib,
        "guest_gb_per_s": found,
        "of_memcpy": round(found / setting.memcpy_gb_per_s, 3) if found and setting.memcpy_gb_per_s else None,
        "guest_bytes": done_bytes,
        "encode_cpu_s": round(cpu_s, 3),
        "note": note,
    }


def of_sent(sent: Sent, note: str) -> Coded:
    """What QEMU counted, as an encoding."""
    return Coded(guest_bytes=sent.pages * PAGE_BYTES, wire_bytes=sent.wire_bytes, encode_s=sent.cpu_s, note=note)


def rate(done_bytes: int, cpu_s: float) -> float | None:
    """GB (10^9 bytes) per CPU second; None when nothing was measured."""
    return round(done_bytes / cpu_s / 1e9, 3) if cpu_s > 0 else None


def beyond(memory: Memory) -> int:
    """Bytes of the peak that the caches do not explain, if they were filled as far as they may be."""
    return max(0, memory.peak_bytes - memory.caches_bytes)


def _mib(size: int) -> float | None:
    return round(size / 2**20, 1) if size else None
