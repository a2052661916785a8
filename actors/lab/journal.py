"""What a lab has made on this machine, written down before it is made, so that `down` finds it after any crash."""

import os
from pathlib import Path
from typing import Literal

import msgspec


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that lies on the machine itself. Processes need no entry: they carry their lab's id."""

    kind: Literal["directory", "interface"]
    name: str


class Journal:
    """Append-only file of JSON lines; each is on disk before `record` returns."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def record(self, entry: Entry) -> None:
        """Write `entry` down durably."""
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, msgspec.json.encode(entry) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    def entries(self) -> list[Entry]:
        """Everything recorded, oldest first. A last line that a crash cut short was never acted on: it is left out."""
        if not self._file.exists():
            return []
        whole = self._file.read_bytes().rpartition(b"\n")[0]
        return [msgspec.json.decode(line, type=Entry) for line in whole.splitlines()]
