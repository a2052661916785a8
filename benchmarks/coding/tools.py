"""The rival programs: each reads a memory image (and an older one), and its CPU time is the kernel's account of it."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Final

import msgspec

from actors.errors import DeadlineExceeded, Failed, SetupMissing
from benchmarks.coding.rows import Coded, Memory

_LEVELS: Final = {"zstd-1": 1, "zstd-3": 3}


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a program: CPU seconds, bytes that it wrote, its largest resident size."""

    cpu_s: float
    out_bytes: int
    peak_bytes: int


def whole(system: str, image: Path, scratch: Path, deadline_s: float) -> Coded:
    """`zstd-1` or `zstd-3`: compress `image` by itself and restore it."""
    packed = scratch / "packed"
    encoded = _run(["zstd", f"-{_LEVELS[system]}", "--single-thread", "-q", "-c", str(image)], packed, deadline_s)
    decoded = _run(["zstd", "-d", "-q", "-c", str(packed)], scratch / "restored", deadline_s)
    return _coded(image, encoded, decoded, scratch / "restored")


def against(system: str, older: Path, image: Path, scratch: Path, deadline_s: float) -> Coded:
    """`zstd-patch-from` or `xdelta3`: `image` as a difference to `older`, and back."""
    packed, restored = scratch / "packed", scratch / "restored"
    if system == "xdelta3":
        # The source window is as large as the source, as the memory of a guest has no order to rely on.
        window = ["-B", str(max(16384, older.stat().st_size)), "-s", str(older)]
        encoded = _run(["xdelta3", "-e", "-f", "-c", "-1", "-S", "none", *window, str(image)], packed, deadline_s)
        decoded = _run(["xdelta3", "-d", "-f", "-c", *window, str(packed)], restored, deadline_s)
    else:
        since = f"--patch-from={older}"
        encoded = _run(["zstd", "-3", "--single-thread", "-q", "-c", since, str(image)], packed, deadline_s)
        memory = ["--long=31", "--memory=2048MB"]
        decoded = _run(["zstd", "-d", "-q", "-c", since, *memory, str(packed)], restored, deadline_s)
    return _coded(image, encoded, decoded, restored)


def _coded(image: Path, encoded: Ran, decoded: Ran, restored: Path) -> Coded:
    if restored.stat().st_size != image.stat().st_size:
        raise Failed(detail=f"{restored} has another size than {image}")
    restored.unlink()
    return Coded(
        guest_bytes=image.stat().st_size,
        wire_bytes=encoded.out_bytes,
        encode_s=encoded.cpu_s,
        decode_s=decoded.cpu_s,
        encoder=Memory(peak_bytes=encoded.peak_bytes),
        decoder=Memory(peak_bytes=decoded.peak_bytes),
    )


def _run(command: list[str], out: Path, deadline_s: float) -> Ran:
    """Run `command`, its output in `out`.

    Raises:
        SetupMissing: there is no such program. Failed: it says so. DeadlineExceeded: it was ended for its slowness.
    """
    with out.open("wb") as file:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE)
        except FileNotFoundError as error:
            raise SetupMissing(what=command[0]) from error
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(deadline_s, end)
        timer.start()
        try:
            assert process.stderr is not None, "it was asked for"
            said = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if late.is_set():
        raise DeadlineExceeded(what=f"{command[0]} on {command[-1]}", deadline_s=deadline_s)
    if process.returncode:
        raise Failed(detail=f"{' '.join(command[:3])}: {said.decode(errors='replace').strip()[-300:]}")
    return Ran(cpu_s=used.ru_utime + used.ru_stime, out_bytes=out.stat().st_size, peak_bytes=used.ru_maxrss * 1024)
