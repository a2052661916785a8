"""The user-space link emulator: builds `wanlink.c`, starts it and speaks its control protocol."""

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.errors import Failed, SetupMissing, Unreachable
from actors.lab.line import Change, LineState, State

SOURCE: Final = Path(__file__).with_name("wanlink.c")
_STATES: Final[tuple[State, ...]] = ("pass", "hole", "cut")
_ANSWER_BYTES_MAX: Final = 4096
_DEADLINE_S: Final = 5.0
_COMPILE_S: Final = 60.0
_POLL_S: Final = 0.02


def build(directory: Path, environment: Mapping[str, str]) -> Path:
    """Compile the emulator into `directory` and return the program; nothing to do if this version of it is there.

    Raises:
        SetupMissing: there is no C compiler.
        Failed: it does not compile; carries the compiler's message.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SetupMissing(what="a C compiler (gcc) for the link emulator")
    program = directory / f"wanlink-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        fresh = program.with_suffix(".new")
        argv = [compiler, "-O2", "-Wall", "-o", str(fresh), str(SOURCE)]
        done = subprocess.run(
            argv, env=dict(environment), capture_output=True, text=True, timeout=_COMPILE_S, check=False
        )
        if done.returncode:
            raise Failed(detail=f"the link emulator does not compile: {done.stderr[-600:]}")
        fresh.rename(program)
    return program


def command(program: Path, pid_a: int, pid_b: int, device: str, control: Path) -> list[str]:
    """The command line that joins the network namespaces of two processes by a line."""
    return [str(program), f"/proc/{pid_a}/ns/net", device, f"/proc/{pid_b}/ns/net", device, str(control)]


def encode_change(change: Change) -> list[str]:
    """The control lines that carry `change` out, one per direction."""
    values = dict(change.values())
    if change.state is not None:
        values["state"] = _STATES.index(change.state)
    words = " ".join(f"{name}={value}" for name, value in values.items())
    return [f"set {direction} {words}" for direction in change.directions()] if words else []


def decode_state(answer: bytes) -> LineState:
    """The emulator's answer to `show`.

    Raises:
        Failed: it is not what this version of the emulator writes.
    """
    try:
        raw: dict[str, dict[str, Any]] = msgspec.json.decode(answer)
        for way in raw.values():
            way["state"] = _STATES[way["state"]]
        return msgspec.convert(raw, LineState)
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
        raise Failed(detail=f"the link emulator answered {answer[:200]!r}: {error}") from error


class WanLink:
    """A running `wanlink`, by its control socket."""

    def __init__(self, control: Path) -> None:
        self._control = control

    def change(self, change: Change) -> None:
        """See `Line.change`."""
        for line in encode_change(change):
            answer = self._ask(line)
            if answer != b'{"ok":true}':
                raise Failed(detail=f"the link emulator refused {line!r}: {answer.decode(errors='replace')}")

    def state(self) -> LineState:
        """See `Line.state`."""
        return decode_state(self._ask("show"))

    def _ask(self, line: str) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_DEADLINE_S)
                connection.connect(str(self._control))
                connection.sendall(line.encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n") and len(answer) < _ANSWER_BYTES_MAX:
                    part = connection.recv(_ANSWER_BYTES_MAX)
                    if not part:
                        raise ConnectionResetError("closed in the middle of an answer")
                    answer += part
                return answer.rstrip(b"\n")
        except OSError as error:
            raise Unreachable(what=f"the link emulator at {self._control}: {error}") from error


def wait_ready(control: Path, deadline_s: float) -> None:
    """Wait until the emulator behind `control` answers: from then on its devices exist.

    Raises:
        Unreachable: it did not in time.
    """
    until = time.monotonic() + deadline_s
    while True:
        try:
            WanLink(control).state()
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
        else:
            return
