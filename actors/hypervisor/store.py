"""The ledger on disk. One writer at a time; every change is on disk before anything is done about it."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from actors.errors import Failed
from actors.files import write_atomically
from actors.hypervisor.engine.ledger import Ledger

LEDGER_FILE = "agent-jobs.json"


class LedgerStore:
    """Keeps the ledger in one small JSON file; thread-safe.

    Raises (constructor):
        Failed: the file is there and can't be read: whose guests are frozen would be unknown.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._ledger = msgspec.json.decode(path.read_bytes(), type=Ledger)
        except FileNotFoundError:
            self._ledger = Ledger()
        except (OSError, msgspec.DecodeError) as error:
            raise Failed(detail=f"the agent's record of moves {path} can't be read: {error}") from error

    @property
    def now(self) -> Ledger:
        """The ledger as it stands."""
        return self._ledger

    def change(self, how: Callable[[Ledger], Ledger]) -> Ledger:
        """Replace the ledger by `how` of it; what `how` raises leaves it as it was."""
        with self._lock:
            changed = how(self._ledger)
            if changed != self._ledger:
                write_atomically(self._path, msgspec.json.encode(changed))
                self._ledger = changed
            return changed
