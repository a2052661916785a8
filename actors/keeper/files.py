"""The two files that agent and keeper leave each other in `node.state_dir`, and the clock that both go by."""

import time
from pathlib import Path

import msgspec

from actors.errors import Failed
from actors.files import write_atomically
from actors.keeper.engine import Note, Order

LOCK_FILE = "keeper.lock"
ORDER_FILE = "lease-order.json"
NOTE_FILE = "lease-note.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now_ms() -> float:
    """CLOCK_BOOTTIME in milliseconds: the same in every process of this boot, and it counts suspension."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * 1e3


def boot_id() -> str:
    """The name of this boot of the host."""
    return _BOOT_ID.read_text().strip()


def read_order(state_dir: Path) -> Order | None:
    """What the agent has ordered, None when it has ordered nothing.

    Raises:
        Failed: it can't be read.
    """
    try:
        return msgspec.json.decode((state_dir / ORDER_FILE).read_bytes(), type=Order)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Failed(detail=f"{state_dir / ORDER_FILE} can't be read: {error}") from error


def write_order(state_dir: Path, order: Order | None) -> None:
    """Order anew; None: there is no lease any more, and nothing runs."""
    if order is None:
        (state_dir / ORDER_FILE).unlink(missing_ok=True)
    else:
        write_atomically(state_dir / ORDER_FILE, msgspec.json.encode(order))


def read_note(state_dir: Path) -> Note:
    """What the keeper has noted.

    Raises:
        Failed: it can't be read: which guests were paused by whom is unknown.
    """
    try:
        return msgspec.json.decode((state_dir / NOTE_FILE).read_bytes(), type=Note)
    except FileNotFoundError:
        return Note()
    except (OSError, msgspec.MsgspecError) as error:
        raise Failed(detail=f"{state_dir / NOTE_FILE} can't be read: {error}") from error


def write_note(state_dir: Path, note: Note) -> None:
    """Note anew."""
    write_atomically(state_dir / NOTE_FILE, msgspec.json.encode(note))
