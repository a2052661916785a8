"""Pure: what was measured of one move, and what the guest said of it, as a row of the benchmark's file."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from actors.encoding.messages import LayerCount
from benchmarks.moving.rivals import Tuning
from benchmarks.report import Row

COLUMNS: Final = [
    "system", "run", "total_s", "speedup_vs_plain", "pause_ms", "pause_guest_clock_ms", "pause_qemu_ms", "wire_bytes",
    "rounds", "zstd_level", "channels", "guest_ok", "load_average", "note",
]  # fmt: skip
BASELINE: Final = "qemu-plain"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a run of the benchmark have in common."""

    link: str
    load: str
    memory_mib: int
    cache_mib: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One move. Times in seconds or milliseconds from the request; None: it did not happen or nobody could tell.

    `total_s`: until the guest runs at the target and the source is rid of it. `running_s`: until the guest's first
    instruction at the target. `wire_bytes`, `wire_bytes_back`: IP bytes that left the line towards the target and
    back. `pause_ms`: between QEMU's STOP and RESUME. `pause_qemu_ms`: what the source's QEMU calls downtime.
    `pause_libvirt_ms`: what libvirt calls it. `layers`: what NovaCron's encoder did. `failure`: why the guest did not
    move.
    """

    total_s: float | None = None
    running_s: float | None = None
    pause_ms: float | None = None
    pause_qemu_ms: float | None = None
    pause_libvirt_ms: float | None = None
    wire_bytes: int = 0
    wire_bytes_back: int = 0
    queue_drops: int = 0
    rounds: int | None = None
    layers: dict[str, LayerCount] = {}
    load_average: float = 0.0
    failure: str = ""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest itself said. `ok`: no tick missing, every check passed, all of it checked since the move."""

    ok: bool
    pause_ms: float | None = None
    cached_mib: int = 0
    checks: int = 0
    problems: list[str] = []


def row(setting: Setting, system: str, run: int, tuning: Tuning, measured: Measured, judged: Judged, tried: str) -> Row:
    """One flat row; `tried` says what else the tuning was chosen from ('' when it was given)."""
    notes = [measured.failure, *judged.problems]
    return {
        "system": system,
        "run": run,
        "link": setting.link,
        "load": setting.load,
        "memory_mib": setting.memory_mib,
        "cache_mib": judged.cached_mib or setting.cache_mib,
        "store": "image" if measured.layers.get("store", LayerCount()).pages else "empty",
        "total_s": _rounded(measured.total_s, 3),
        "running_s": _rounded(measured.running_s, 3),
        "pause_ms": _rounded(measured.pause_ms, 1),
        "pause_guest_clock_ms": _rounded(judged.pause_ms, 1),
        "pause_qemu_ms": _rounded(measured.pause_qemu_ms, 1),
        "pause_libvirt_ms": _rounded(measured.pause_libvirt_ms, 1),
        "wire_bytes": measured.wire_bytes,
        "wire_bytes_back": measured.wire_bytes_back,
        "queue_drops": measured.queue_drops,
        "rounds": measured.rounds,
        "zstd_level": tuning.zstd_level or None,
        "channels": tuning.channels or None,
        "xbzrle_cache_mib": tuning.xbzrle_cache_mib or None,
        "tuning_tried": tried,
        "layers": tell_layers(measured.layers),
        "guest_ok": judged.ok,
        "guest_checks": judged.checks,
        "load_average": round(measured.load_average, 2),
        "note": "; ".join(note for note in notes if note),
    }


def with_speedup(rows: Sequence[Row]) -> list[Row]:
    """`rows` with `speedup_vs_plain`: plain pre-copy's median total time divided by the row's; None without either."""
    plain = [one["total_s"] for one in rows if one["system"] == BASELINE and isinstance(one["total_s"], float)]
    found: list[Row] = []
    for one in rows:
        total_s = one["total_s"]
        known = bool(plain) and isinstance(total_s, float) and total_s > 0
        speedup = round(median(plain) / total_s, 2) if known and isinstance(total_s, float) else None
        found.append({**one, "speedup_vs_plain": speedup})
    return found


def tell_layers(layers: Mapping[str, LayerCount]) -> str:
    """`zstd 128000 pages, 524.3 → 180.1 MB, 12.3 s; …`: pages, bytes in and out, CPU time, of every layer at work."""
    return "; ".join(
        f"{name} {one.pages} pages, {one.bytes_in / 1e6:.1f} → {one.bytes_out / 1e6:.1f} MB, {one.cpu_s:.1f} s"
        for name, one in layers.items()
        if one.bytes_in
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
