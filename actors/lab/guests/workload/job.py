"""The job of a guest of kind 'python': REGION_MIB PER_S. Compiles the standard library's modules, in rotation."""

import gc
import os
import sys
import time
import zlib
from collections import deque
from pathlib import Path
from types import CodeType

region_bytes, per_s = int(sys.argv[1]) << 20, int(sys.argv[2])


def check(code: CodeType, so_far: int = 0) -> int:
    """A sum over the machine code and the names of a module and of all functions in it."""
    so_far = zlib.crc32(code.co_code, zlib.crc32(repr(code.co_names).encode(), so_far))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            so_far = check(constant, so_far)
    return so_far


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


first: dict[Path, int] = {}
kept: deque[object] = deque()
files = sorted(Path(os.__file__).parent.rglob("*.py"))
while True:
    for file in files:
        began = time.monotonic()
        text = file.read_text(encoding="utf-8")
        code = compile(text, file, "exec")
        kept.append((text.splitlines(), code))
        good = check(code) == first.setdefault(file, check(code))
        os.write(1, b"." if good else b"X")
        while kept and resident_bytes() > region_bytes:
            for _ in range(1 + len(kept) // 8):
                kept.popleft()
            gc.collect()
        if per_s:
            time.sleep(max(0.0, 1 / per_s - (time.monotonic() - began)))
