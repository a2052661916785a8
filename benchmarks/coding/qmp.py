"""The few words of QEMU's monitor protocol that the benchmark needs, each with a deadline."""

import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from actors.errors import DeadlineExceeded, Failed

_ANSWER_S: Final = 60.0
_CONNECT_S: Final = 30.0
_POLL_S: Final = 0.05
_LINE_MAX: Final = 1 << 20


class Monitor:
    """A connection to one QEMU's monitor; close it by leaving it.

    Raises:
        DeadlineExceeded: nobody answers at `path`.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._socket = _connect(path)
        self._socket.settimeout(_ANSWER_S)
        self._lines = self._socket.makefile("rb")
        self._read()  # the greeting
        self.ask("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer to `command`; names of arguments are written with dashes. Events are passed over.

        Raises:
            Failed: QEMU refuses, or is gone.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._socket.sendall(msgspec.json.encode({"execute": command, "arguments": named}) + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise Failed(detail=f"{self._name}: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline(_LINE_MAX)
        except TimeoutError as error:
            raise DeadlineExceeded(what=f"an answer of {self._name}'s monitor", deadline_s=_ANSWER_S) from error
        except OSError as error:
            raise Failed(detail=f"{self._name}'s monitor: {error}") from error
        if not line:
            raise Failed(detail=f"{self._name}: QEMU has ended")
        return msgspec.json.decode(line, type=dict[str, Any])


def _connect(path: Path) -> socket.socket:
    until = time.monotonic() + _CONNECT_S
    while True:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(str(path))
        except OSError as error:
            found.close()
            if time.monotonic() > until:
                raise DeadlineExceeded(what=f"QEMU's monitor at {path}: {error}", deadline_s=_CONNECT_S) from error
            time.sleep(_POLL_S)
        else:
            return found
