"""Under which epoch each guest of this host was started or arrived: a small file, on disk before the guest executes."""

import threading
from pathlib import Path

import msgspec

from actors.errors import Failed
from actors.files import write_atomically

EPOCHS_FILE = "agent-epochs.json"


class Epochs:
    """Thread-safe.

    Raises (constructor):
        Failed: the file is there and can't be read: which guests are of an earlier owner would be unknown.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._epochs = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            self._epochs = {}
        except (OSError, msgspec.MsgspecError) as error:
            raise Failed(detail=f"the agent's record of epochs {path} can't be read: {error}") from error

    def of(self, guest: str) -> int:
        """The epoch of `guest`, 0 when none is written down."""
        return self._epochs.get(guest, 0)

    def put(self, guest: str, epoch: int) -> None:
        """Write it down; 0 forgets it."""
        with self._lock:
            changed = {name: known for name, known in self._epochs.items() if name != guest}
            if epoch:
                changed[guest] = epoch
            if changed != self._epochs:
                write_atomically(self._path, msgspec.json.encode(changed))
                self._epochs = changed
