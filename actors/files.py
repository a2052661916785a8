"""Files that are there whole or not at all."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put `content` at `path` with permissions `mode`; after a crash the old or the new file is there, never a part.

    Raises:
        OSError: the folder is missing, full or not writable; `path` is as it was.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # O_EXCL: never through a link that somebody else laid out under that name.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name, too, must survive a power cut
    finally:
        os.close(folder)
