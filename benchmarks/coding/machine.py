"""One QEMU that the benchmark runs by itself: it boots a lab guest, writes its memory to files, and migrates it."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from actors.errors import DeadlineExceeded, Failed, SetupMissing
from actors.hypervisor import kvm
from actors.hypervisor.messages import GuestSpec
from actors.lab.guests.ticks import lines
from benchmarks.coding.qmp import Monitor
from benchmarks.coding.rows import Sent

EMULATOR: Final = "qemu-system-x86_64"
# However this process ends.
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")
_END_S: Final = 20.0
_POLL_S: Final = 0.05
_POLL_FAST_S: Final = 0.005
_MIGRATION_THREADS: Final = "mig/src"
_NO_LIMIT: Final = 1 << 40
_SLOWEST: Final = 100_000
# With so little to spare at the end QEMU goes on for ever, and always looks again at what is left.
_NEVER: Final = {"downtime-limit": 1, "avail-switchover-bandwidth": 1000}
_CAPABILITIES: Final = ("xbzrle", "multifd")


def arguments(spec: GuestSpec, folder: Path, role: str, accelerator: str) -> list[str]:
    """QEMU's command line for `spec`, the machine that NovaCron's own definitions ask for.

    Args:
        role: source or sink. accelerator: kvm or tcg.
    """
    disks = [
        part
        for number, disk in enumerate(spec.disks)
        for part in (
            "-blockdev", f"driver=file,filename={disk.path},node-name=d{number},read-only=on,auto-read-only=off",
            "-device", f"virtio-blk-pci,drive=d{number}",
        )
    ]  # fmt: skip
    console = f"file:{folder / 'console.log'}" if role == "source" else "null"
    ends = ["-incoming", "defer"] if role == "sink" else []
    return [
        EMULATOR, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,usb=off",
        "-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "qemu64",
        "-m", f"{spec.memory_mib}M", "-name", f"{spec.name},debug-threads=on",
        "-kernel", spec.kernel, "-initrd", spec.initrd, "-append", spec.cmdline,
        "-serial", console, "-qmp", f"unix:{folder / role}.qmp,server=on,wait=off", *disks, *ends,
    ]  # fmt: skip


@contextmanager
def machine(spec: GuestSpec, folder: Path, role: str = "source") -> Iterator["Machine"]:
    """A QEMU with `spec` in it, its sockets and console in `folder`; ended at the end."""
    log, emulator = folder / f"{role}.log", shutil.which(EMULATOR) or ""
    accelerator = "kvm" if kvm.remembered(emulator, folder.parent / "kvm.json") else "tcg"
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*_WITH_US, *arguments(spec, folder, role, accelerator)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
    except FileNotFoundError as error:
        raise SetupMissing(what=EMULATOR) from error
    try:
        with Monitor(f"{spec.name} ({role})", folder / f"{role}.qmp") as monitor:
            yield Machine(spec, folder, process, monitor)
    except DeadlineExceeded as error:
        if process.poll() is not None:
            raise Failed(detail=f"QEMU ended: {log.read_text(errors='replace').strip()[-400:]}") from error
        raise
    finally:
        process.kill()
        process.wait(_END_S)


class Machine:
    """A running QEMU, see `machine`."""

    def __init__(self, spec: GuestSpec, folder: Path, process: "subprocess.Popen[bytes]", monitor: Monitor) -> None:
        self.monitor = monitor
        self._spec = spec
        self._folder = folder
        self._process = psutil.Process(process.pid)

    def wait_ready(self, deadline_s: float) -> None:
        """Wait until the guest's workload says that it has begun.

        Raises:
            Failed: the guest gave up. DeadlineExceeded: it said nothing in time.
        """

        def ready() -> bool:
            said = lines((self._folder / "console.log").read_bytes())
            for line in said:
                if line.startswith("fatal "):
                    raise Failed(detail=f"guest {self._spec.name} says: {line}")
            return any(line.startswith("ready ") for line in said)

        self._wait(ready, f"guest {self._spec.name}'s workload", deadline_s)

    def snapshot(self, file: Path, deadline_s: float) -> None:
        """Write the memory and device state of this instant to `file`; the guest stands still while they are written.

        Raises:
            Failed: QEMU could not. DeadlineExceeded: it took too long.
        """
        self._prepare({}, {})
        self.monitor.ask("stop")
        self.monitor.ask("migrate", uri=f"file:{file}")
        self._until_done(deadline_s)
        self.monitor.ask("cont")

    def send_stopped(self, sink: "Machine", on: list[str], parameters: dict[str, object], deadline_s: float) -> Sent:
        """Migrate the guest to `sink`, standing still: every page once. CPU time is all of QEMU's.

        Raises:
            Failed: QEMU could not. DeadlineExceeded: it took too long.
        """
        self.monitor.ask("stop")
        self._begin(sink, on, parameters)
        before_s = self._cpu_s()
        self.monitor.ask("migrate", uri=f"unix:{self._folder / 'ram.sock'}")
        info = self._until_done(deadline_s)
        sent = sent_of(info, self._cpu_s() - before_s)
        self.monitor.ask("cont")
        return sent

    def send_again(
        self, sink: "Machine", on: list[str], parameters: dict[str, object], pass_s: float, deadline_s: float
    ) -> Sent:
        """What QEMU sends of the running guest in a third pass, when the first two took about `pass_s` each.

        CPU time is that of its migration threads. The migration is left unfinished: nothing can follow.
        """
        self._begin(sink, on, parameters | _NEVER)
        self._limit(self._resident_bytes() / pass_s)
        self.monitor.ask("migrate", uri=f"unix:{self._folder / 'ram.sock'}")
        seen: list[Sent] = []
        slowed = False

        def passed() -> bool:
            nonlocal slowed
            info = self._info()
            now = sent_of(info, self._migration_cpu_s())
            if now.rounds == 2 and not slowed:
                slowed = True
                self._limit(info["ram"]["remaining"] / pass_s)
            if now.rounds >= 3 and now.cpu_s > 0:
                seen.append(now)
            return now.rounds >= 4 or info["status"] == "completed"

        self._wait(passed, "a third pass over the guest", deadline_s, _POLL_FAST_S)
        return seen[-1].since(seen[0]) if seen else Sent()

    def _limit(self, bytes_per_s: float) -> None:
        self.monitor.ask("migrate-set-parameters", max_bandwidth=max(_SLOWEST, round(bytes_per_s)))

    def _begin(self, sink: "Machine", on: list[str], parameters: dict[str, object]) -> None:
        self._prepare(dict.fromkeys(on, True), parameters)
        sink._prepare(dict.fromkeys(on, True), parameters)
        sink.monitor.ask("migrate-incoming", uri=f"unix:{self._folder / 'ram.sock'}")

    def _prepare(self, on: dict[str, bool], parameters: dict[str, object]) -> None:
        states = [{"capability": name, "state": on.get(name, False)} for name in _CAPABILITIES]
        self.monitor.ask("migrate-set-capabilities", capabilities=states)
        self.monitor.ask("migrate-set-parameters", **{"max-bandwidth": _NO_LIMIT, **parameters})

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.monitor.ask("query-migrate")
        if info["status"] in ("failed", "cancelled"):
            raise Failed(detail=f"QEMU's migration of {self._spec.name}: {info.get('error-desc', info['status'])}")
        return info

    def _until_done(self, deadline_s: float) -> dict[str, Any]:
        self._wait(lambda: self._info()["status"] == "completed", "QEMU's migration", deadline_s)
        return self._info()

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _migration_cpu_s(self) -> float:
        """CPU time of the threads that migrate; those that have ended are no longer seen."""
        found_ns = 0
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            try:
                if (thread / "comm").read_text().startswith(_MIGRATION_THREADS):
                    found_ns += int((thread / "schedstat").read_text().split()[0])
            except OSError:
                continue  # it has just ended
        return found_ns / 1e9

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    @staticmethod
    def _wait(reached: Callable[[], bool], what: str, deadline_s: float, poll_s: float = _POLL_S) -> None:
        until = time.monotonic() + deadline_s
        while not reached():
            if time.monotonic() > until:
                raise DeadlineExceeded(what=what, deadline_s=deadline_s)
            time.sleep(poll_s)


def sent_of(info: dict[str, Any], cpu_s: float) -> Sent:
    """What `query-migrate` says. Pages sent by XBZRLE are in none of the other counts."""
    ram = info.get("ram", {})
    delta = info.get("xbzrle-cache", {}).get("pages", 0)
    return Sent(
        pages=ram.get("normal", 0) + ram.get("duplicate", 0) + delta,
        wire_bytes=ram.get("transferred", 0),
        rounds=ram.get("dirty-sync-count", 0),
        seconds=info.get("total-time", 0) / 1000,
        cpu_s=cpu_s,
    )
