"""The drains and rebalancings of a manager on disk, so that one that is started again goes on with them."""

from pathlib import Path

import msgspec
import structlog

from actors.files import write_atomically
from actors.migration.messages import SweepView

log = structlog.get_logger()
SWEEPS_FILE = "sweeps.json"
"""Its name in the node's state directory."""


class Shelved(msgspec.Struct, frozen=True, kw_only=True):
    """Those that are known, the oldest first; `cancelled` are the ids of those that begin no more moves."""

    sweeps: list[SweepView] = []
    cancelled: list[str] = []


class SweepShelf:
    """One JSON file, there whole or not at all; without it nothing is known."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Shelved:
        """What was written last; a file that can't be read is logged and left, and nothing is known."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Shelved)
        except FileNotFoundError:
            return Shelved()
        except (OSError, msgspec.MsgspecError) as error:
            log.error("earlier drains and rebalancings can't be read", file=str(self._path), reason=str(error))
            return Shelved()

    def write(self, shelved: Shelved) -> None:
        """Blocking. A disk that refuses is logged: the moves go on, a restart would not know of them."""
        try:
            write_atomically(self._path, msgspec.json.encode(shelved))
        except OSError as error:
            log.error("drains and rebalancings can't be written down", file=str(self._path), reason=str(error))
