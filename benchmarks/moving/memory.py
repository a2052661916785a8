"""How far NovaCron's encoders and decoders grow during a move: their own memory, as the kernel counts it."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from actors.lab.processes import processes_of

# The kernel keeps the first 15 characters of what Ray calls an actor's process.
ENCODER, DECODER = "ray::DeltaEncoder"[:15], "ray::DeltaDecoder"[:15]
_POLL_S: Final = 0.1
_JOIN_S: Final = 10.0


def own_bytes(status: str) -> int:
    """Memory of a process that is neither a file's nor shared, from the text of its ``/proc/PID/status``."""
    found = status.partition("RssAnon:")[2].split(None, 1)
    return int(found[0]) * 1024 if found else 0


class Growth:
    """Watches the codecs of one lab while it is entered."""

    def __init__(self, lab_id: str) -> None:
        found = list(processes_of(lab_id))
        self._before = {
            process.pid: (process.comm, self._read(process.pid))
            for process in found
            if process.comm in (ENCODER, DECODER)
        }
        self._peak = dict.fromkeys(self._before, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="memory of the codecs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(_JOIN_S)

    @property
    def encoder_bytes(self) -> int:
        """Of the encoder that grew most."""
        return self._largest(ENCODER)

    @property
    def decoder_bytes(self) -> int:
        """Of the decoder that grew most."""
        return self._largest(DECODER)

    def _largest(self, comm: str) -> int:
        return max((self._peak[pid] for pid, (name, _) in self._before.items() if name == comm), default=0)

    def _follow(self) -> None:
        while not self._done.wait(_POLL_S):
            for pid, (_, before) in self._before.items():
                self._peak[pid] = max(self._peak[pid], self._read(pid) - before)

    @staticmethod
    def _read(pid: int) -> int:
        try:
            return own_bytes(Path(f"/proc/{pid}/status").read_text())
        except OSError:
            return 0  # Ray starts it anew as another process
