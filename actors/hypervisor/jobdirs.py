"""The directory of a job's UNIX sockets."""

import os
import shutil
from pathlib import Path

from actors.errors import Failed
from actors.hypervisor.engine.names import job_id
from actors.hypervisor.messages import JobPaths

# struct sockaddr_un on Linux, with its closing zero byte
_SOCKET_PATH_MAX = 107


def paths_of(run_dir: Path, libvirtd: Path, job: str) -> JobPaths:
    """Where the sockets of `job` lie; nothing is made.

    Raises:
        Failed: run_dir is too long for UNIX sockets below it.
    """
    directory = run_dir / "jobs" / job_id(job)
    paths = JobPaths(
        directory=str(directory),
        ram=str(directory / "ram.sock"),
        wire=str(directory / "wire.sock"),
        libvirt=str(directory / "libvirt.sock"),
        nbd=str(directory / "nbd.sock"),
        nbd_wire=str(directory / "nbd-wire.sock"),
        libvirtd=str(libvirtd),
    )
    longest = max(len(path) for path in (paths.ram, paths.wire, paths.libvirt, paths.nbd_wire))
    if longest > _SOCKET_PATH_MAX:
        raise Failed(
            detail=f"node.run_dir {run_dir} is {longest - _SOCKET_PATH_MAX} characters too long for UNIX sockets"
        )
    return paths


def make(paths: JobPaths, owner: tuple[int, int]) -> None:
    """Make the job's directory, empty, for root and the user that QEMU runs as, who makes sockets in it."""
    remove(paths)
    directory = Path(paths.directory)
    try:
        directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.mkdir(mode=0o770)
        directory.chmod(0o770)  # whatever the umask is
        os.chown(directory, *owner)
    except OSError as error:
        raise Failed(detail=f"can't make {directory}: {error.strerror}") from error


def remove(paths: JobPaths) -> None:
    """Remove the job's directory with its sockets; without one, nothing happens."""
    shutil.rmtree(paths.directory, ignore_errors=True)
