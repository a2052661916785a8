"""The rival programs: each reads a memory image (and an older one), and its CPU time is the kernel's account of it."""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from actors.errors import DeadlineExceeded, Failed, SetupMissing
from benchmarks.coding.rows import Coded, Memory

_POLL_S: Final = 0.01
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
    until, peak_bytes = time.monotonic() + deadline_s, 0
    with out.open("wb") as file, tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=said)
        except FileNotFoundError as error:
            raise SetupMissing(what=command[0]) from error
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak_bytes = max(peak_bytes, _largest_bytes(process.pid))
            if time.monotonic() > until:
                process.kill()
                process.wait()
                raise DeadlineExceeded(what=f"{command[0]} on {command[-1]}", deadline_s=deadline_s)
            time.sleep(_POLL_S)
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode(errors="replace").strip()[-300:]
    if process.returncode:
        raise Failed(detail=f"{' '.join(command[:3])}: {words}")
    return Ran(cpu_s=used.ru_utime + used.ru_stime, out_bytes=out.stat().st_size, peak_bytes=peak_bytes)


def _largest_bytes(pid: int) -> int:
    """The largest resident size of a process so far. Not `ru_maxrss`, which begins with that of its parent."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = status.partition("VmHWM:")[2].split(None, 1)  # none once it has ended
    return int(found[0]) * 1024 if found else 0
