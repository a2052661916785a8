"""What may be a name, a path or a job id here: everything else is refused before it reaches a file or libvirt."""

import re
from pathlib import PurePosixPath

from actors.errors import BodyInvalid

_GUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PATH_CHARS = re.compile(r"[\x20-\x7e]{1,1024}")


def guest_name(name: str) -> str:
    """`name` if a guest can have it; raises BodyInvalid."""
    if not _GUEST.fullmatch(name):
        raise BodyInvalid(
            detail=f"guest name {name[:80]!r}: letters, digits, '.', '_', '+', '-', at most 63, no leading sign"
        )
    return name


def job_id(job: str) -> str:
    """`job` if it can be a job's id, and so the name of its directory; raises BodyInvalid."""
    if not _JOB.fullmatch(job):
        raise BodyInvalid(detail=f"job id {job[:80]!r}: letters, digits, '.', '_', '-', at most 64, no leading sign")
    return job


def file_path(path: str) -> str:
    """`path` if it is absolute, in its shortest form and printable; raises BodyInvalid."""
    pure = PurePosixPath(path)
    plain = pure.is_absolute() and pure.root == "/" and str(pure) == path and ".." not in pure.parts
    if not plain or not _PATH_CHARS.fullmatch(path):
        raise BodyInvalid(detail=f"path {path[:120]!r} is not absolute, plain and printable")
    return path


def inside(path: str, folders: tuple[str, ...]) -> bool:
    """True when `path` lies below one of `folders`, by its text."""
    return any(PurePosixPath(path).is_relative_to(folder) and path != folder for folder in folders)
