"""Operators' hints, kept over restarts: nobody else would write them again."""

from pathlib import Path

import msgspec
import structlog

from actors.errors import Failed
from actors.files import write_atomically
from actors.sync.records import HINT
from actors.sync.values import Value

log = structlog.get_logger()
FILE = "hints.msgpack"
_FILE_BYTES_MAX = 64 << 20
_decoder = msgspec.msgpack.Decoder(dict[str, Value])


class HintFile:
    """The hints that this site knows, its own and others', removals too.

    Args:
        state_dir: where the file lies.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE

    def read(self) -> dict[str, Value]:
        """What was kept; nothing if there is no file, or none that can be read (the other sites have them too)."""
        try:
            if self._path.stat().st_size > _FILE_BYTES_MAX:
                raise ValueError("it is too large to be one of ours")
            found = _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("hints are not read", file=str(self._path), reason=str(error))
            return {}
        return {key: value for key, value in found.items() if key.startswith(HINT)}

    def write(self, hints: dict[str, Value]) -> None:
        """Keep these.

        Raises:
            Failed: they can't be written.
        """
        try:
            write_atomically(self._path, msgspec.msgpack.encode(hints))
        except OSError as error:
            raise Failed(detail=f"it is known, but {self._path} can't keep it over a restart: {error}") from error
