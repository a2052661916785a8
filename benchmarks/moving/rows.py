"""Pure: what was measured of one move, and what the guest said of it, as a row of the benchmark's file."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from actors.encoding.messages import LayerCount
from benchmarks.moving.plan import Task
from benchmarks.moving.rivals import Tuning
from benchmarks.moving.stats import percentile
from benchmarks.report import Row

COLUMNS: Final = [
    "load_name", "system", "asked", "measure", "run", "total_s", "speedup_vs_plain", "pause_ms", "pause_p99_ms",
    "pause_guest_clock_ms", "pause_qemu_ms", "wire_bytes", "rounds", "zstd_level", "channels", "encoder_growth_mib",
    "decoder_growth_mib", "guest_ok", "load_average", "note",
]  # fmt: skip
BASELINE: Final = "qemu-plain"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a run of the benchmark have in common."""

    link: str
    load: str
    load_name: str
    memory_mib: int
    cache_mib: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One move. Times in seconds or milliseconds from the request; None: it did not happen or nobody could tell.

    `total_s`: until the guest runs at the target and the source is rid of it. `running_s`: until the guest's first
    instruction at the target. `wire_bytes`, `wire_bytes_back`: IP bytes that left the line towards the target and
    back. `pause_ms`: between QEMU's STOP and RESUME. `pause_qemu_ms`: what the source's QEMU calls downtime.
    `pause_libvirt_ms`: what libvirt calls it. `layers`: what NovaCron's encoder did. `encoder_growth_bytes`,
    `decoder_growth_bytes`: how far their own memory grew at most. `failure`: why the guest did not move.
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
    encoder_growth_bytes: int = 0
    decoder_growth_bytes: int = 0
    load_average: float = 0.0
    failure: str = ""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest itself said. `ok`: no tick missing, every check passed, all of it checked since the move."""

    ok: bool
    pause_ms: float | None = None
    cached_mib: int = 0
    checks: int = 0
    problems: list[str] = []


def row(setting: Setting, task: Task, tuning: Tuning, measured: Measured, judged: Judged, tried: str) -> Row:
    """The row of one move; `tried` says what else the tuning was chosen from ('' when it was given)."""
    notes = [measured.failure, *judged.problems]
    return {
        "system": task.system,
        "measure": task.measure,
        "asked": task.store,
        "run": task.run,
        "moves": 1,
        "link": setting.link,
        "load": setting.load,
        "load_name": setting.load_name,
        "memory_mib": setting.memory_mib,
        "cache_mib": judged.cached_mib or setting.cache_mib,
        "store": _store(task, measured),
        "total_s": _rounded(measured.total_s, 3),
        "running_s": _rounded(measured.running_s, 3),
        "pause_ms": _rounded(measured.pause_ms, 1),
        "pause_p99_ms": None,
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
        "raise_after_s": _rounded(tuning.raise_after_s or None, 1),
        "tuning_tried": tried,
        "layers": tell_layers(measured.layers),
        "encoder_growth_mib": _mib(measured.encoder_growth_bytes),
        "decoder_growth_mib": _mib(measured.decoder_growth_bytes),
        "guest_ok": judged.ok,
        "guest_checks": judged.checks,
        "load_average": round(measured.load_average, 2),
        "note": "; ".join(note for note in notes if note),
    }


def pauses_row(setting: Setting, task: Task, moves: Sequence[Measured], judged: Judged) -> Row:
    """The row of one guest's `moves` to and fro: medians, the 99th percentile and the largest of the pauses."""
    done = [move for move in moves if move.total_s is not None]
    pauses = [move.pause_ms for move in done if move.pause_ms is not None]
    last = moves[-1] if moves else Measured()
    middle = Measured(
        total_s=percentile([move.total_s for move in done if move.total_s is not None], 0.5),
        pause_ms=percentile(pauses, 0.5),
        wire_bytes=round(percentile([move.wire_bytes for move in done], 0.5) or 0),
        wire_bytes_back=round(percentile([move.wire_bytes_back for move in done], 0.5) or 0),
        layers=last.layers,
        encoder_growth_bytes=max((move.encoder_growth_bytes for move in done), default=0),
        decoder_growth_bytes=max((move.decoder_growth_bytes for move in done), default=0),
        load_average=last.load_average,
        failure=last.failure,
    )
    return row(setting, task, Tuning(), middle, judged, "") | {
        "moves": len(pauses),
        "pause_p50_ms": _rounded(percentile(pauses, 0.5), 1),
        "pause_p99_ms": _rounded(percentile(pauses, 0.99), 1),
        "pause_max_ms": _rounded(max(pauses, default=None), 1),
        "pauses_ms": " ".join(f"{pause:.0f}" for pause in pauses),
    }


def median_total_s(rows: Sequence[Row], system: str, load_name: str) -> float | None:
    """The median total time of the moves of `system` under a load; None if there is none."""
    found = [
        total_s
        for one in rows
        if one["system"] == system and one["load_name"] == load_name and one["measure"] == "move"
        if isinstance(total_s := one["total_s"], float)
    ]
    return median(found) if found else None


def with_speedup(rows: Sequence[Row]) -> list[Row]:
    """`rows` with `speedup_vs_plain`: plain pre-copy's median under the same load divided by the row's total time.

    None without either.
    """
    found: list[Row] = []
    for one in rows:
        total_s, plain_s = one["total_s"], median_total_s(rows, BASELINE, str(one["load_name"]))
        known = isinstance(total_s, float) and total_s > 0 and plain_s is not None
        speedup = round(plain_s / total_s, 2) if known and plain_s and isinstance(total_s, float) else None
        found.append({**one, "speedup_vs_plain": speedup})
    return found


def tell_layers(layers: Mapping[str, LayerCount]) -> str:
    """`zstd 128000 pages, 524.3 → 180.1 MB, 12.3 s; …`: pages, bytes in and out, CPU time, of every layer at work."""
    return "; ".join(
        f"{name} {one.pages} pages, {one.bytes_in / 1e6:.1f} → {one.bytes_out / 1e6:.1f} MB, {one.cpu_s:.1f} s"
        for name, one in layers.items()
        if one.bytes_in
    )


def _store(task: Task, measured: Measured) -> str:
    """What the move made use of: the state that was asked for, if it referred to blocks of the target at all."""
    if not measured.layers.get("store", LayerCount()).pages:
        return "empty"
    return task.store if task.store not in ("", "empty") else "image"


def _mib(size: int) -> float | None:
    return round(size / 2**20, 1) if size else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
