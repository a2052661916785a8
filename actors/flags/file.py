"""The rollout flags as this node last knew them: a file that the node's process writes and its actors read.

So a flag holds also while no member of the control state can be reached, and over restarts.
"""

import time
from pathlib import Path

import msgspec
import structlog

from actors.control.model import Component, Flag
from actors.files import write_atomically
from actors.flags.engine import enabled

log = structlog.get_logger()
FILE = "flags.json"
LOOK_S = 0.5
_FILE_BYTES_MAX = 1 << 20

Flags = dict[str, Flag]


def write_flags(state_dir: Path, flags: Flags) -> None:
    """Keep these; raises OSError."""
    write_atomically(state_dir / FILE, msgspec.json.encode(flags), 0o644)


def read_flags(state_dir: Path) -> Flags:
    """What was last known; nothing, so every component on, where there is no file that can be read."""
    path = state_dir / FILE
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ValueError("it is too large to be one of ours")
        return msgspec.json.decode(path.read_bytes(), type=Flags)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("flags are not read: every component is on", file=str(path), reason=str(error))
        return {}


class Switches:
    """Answers whether a component is on; a changed file counts within half a second.

    Args:
        node: the node that is meant unless another one is named.
        state_dir: where the file lies.
    """

    def __init__(self, node: str, state_dir: Path) -> None:
        self._node = node
        self._state_dir = state_dir
        self._flags: Flags = {}
        self._seen: tuple[int, int] | None = None
        self._looked_s = float("-inf")

    def on(self, component: Component, subject: str, node: str = "") -> bool:
        """True when `node` uses `component` for `subject`."""
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._looked_s = time.monotonic()
            self._look()
        return enabled(self._flags, component, node or self._node, subject)

    def _look(self) -> None:
        try:
            found = (self._state_dir / FILE).stat()
        except OSError:
            return
        # Each version is a new file, moved to its place.
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._seen = (found.st_ino, found.st_mtime_ns)
            self._flags = read_flags(self._state_dir)
