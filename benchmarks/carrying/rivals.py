"""iperf3, rsync and scp between two hosts of a lab, measured in their steady state."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from actors.errors import Failed, SetupMissing
from actors.lab.lab import Lab
from benchmarks.carrying.points import IPERF, Carried

_IPERF_PORT: Final = 5201
_SSH_PORT: Final = 2022
_STEP_S: Final = 20.0
_FOLDER: Final = "/dev/shm"  # noqa: S108  each node has its own
_POLL_S: Final = 0.05


@contextmanager
def servers(lab: Lab, target: str) -> Iterator[Path]:
    """An iperf3 server and an sshd on `target` while the block runs; gives the key that the sshd lets in.

    Raises:
        SetupMissing: one of the programs is not installed.
    """
    folder = lab.plan.state_dir / "bench-ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("host", "user"):
        if not (folder / name).exists():
            _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    lab.run(target, ["mkdir", "-p", "/run/sshd"])
    options = {"AuthorizedKeysFile": str(folder / "authorized"), "StrictModes": "no", "UsePAM": "no", "PidFile": "none"}
    options["Subsystem"] = "sftp internal-sftp"
    sshd = ["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", str(folder / "host"), "-p", str(_SSH_PORT)]
    sshd += [f"-o{name}={value}" for name, value in options.items()]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [lab.popen(target, argv, **quiet) for argv in (sshd, ["iperf3", "-s", "-p", str(_IPERF_PORT)])]
    try:
        yield folder / "user"
    finally:
        for process in running:
            process.kill()
            process.wait(_STEP_S)


def iperf3(lab: Lab, nodes: tuple[str, str], system: str, warm_s: float, seconds: float) -> Carried:
    """One run of iperf3 from the first node to the second."""
    streams, control = IPERF[system]
    argv = [
        "iperf3", "-J", "-c", lab.node(nodes[1]).address, "-p", str(_IPERF_PORT), "-P", str(streams), "-C", control,
        "-t", f"{seconds:g}", "-O", f"{warm_s:g}",
    ]  # fmt: skip
    try:
        report = json.loads(lab.run(nodes[0], argv, warm_s + seconds + _STEP_S))
    except Failed as error:
        return Carried(failure=str(error)[-200:])
    received = report["end"]["sum_received"]
    return Carried(
        carried_bytes=received["bytes"], seconds=received["seconds"], streams=streams, load_average=os.getloadavg()[0]
    )


def copy(lab: Lab, nodes: tuple[str, str], system: str, key: Path, warm_s: float, seconds: float) -> Carried:
    """How fast `system` (rsync or scp) makes a file grow at the second node."""
    source, target = nodes
    name = f"{_FOLDER}/bench-{system}"
    lab.run(source, ["truncate", "-s", "8G", name])
    lab.run(target, ["rm", "-f", name])
    ssh = f"-i {key} -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR"
    where = f"root@{lab.node(target).address}:{name}"
    argv = {
        "scp": ["scp", "-P", str(_SSH_PORT), *ssh.split(), name, where],
        "rsync": ["rsync", "--inplace", "--whole-file", "-e", f"ssh -p {_SSH_PORT} {ssh}", name, where],
    }[system]
    process = lab.popen(source, argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        first = _grown(lab, target, name, process, time.monotonic() + _STEP_S, at_least=1)
        if first is None:
            said = process.stderr.read().decode(errors="replace")[-200:] if process.stderr and process.poll() else ""
            return Carried(failure=f"nothing arrived: {said}")
        time.sleep(warm_s)
        began = _size(lab, target, name)
        time.sleep(seconds)
        ended = _size(lab, target, name)
        return Carried(
            carried_bytes=ended[1] - began[1], seconds=ended[0] - began[0], streams=1, load_average=os.getloadavg()[0]
        )
    finally:
        process.kill()
        process.wait(_STEP_S)
        for node in nodes:
            lab.run(node, ["rm", "-f", name])


def _grown(
    lab: Lab, node: str, name: str, process: "subprocess.Popen[bytes]", until: float, at_least: int
) -> tuple[float, int] | None:
    while time.monotonic() < until and process.poll() is None:
        now = _size(lab, node, name)
        if now[1] >= at_least:
            return now
        time.sleep(_POLL_S)
    return None


def _size(lab: Lab, node: str, name: str) -> tuple[float, int]:
    """(monotonic seconds, bytes) of a file on `node`; 0 bytes while it is not there."""
    with suppress(Failed, ValueError):
        size = int(lab.run(node, ["stat", "-c", "%s", name]))
        return time.monotonic(), size
    return time.monotonic(), 0


def _run(argv: list[str]) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=_STEP_S)
    except FileNotFoundError as error:
        raise SetupMissing(what=f"{argv[0]}; scripts/setup.sh installs it") from error
