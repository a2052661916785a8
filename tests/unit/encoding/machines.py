"""Migration streams of real QEMU machines, recorded once for each kind that a test asks for."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DEADLINE_S = 60.0


@dataclass(frozen=True)
class Recipe:
    """A machine and how its stream is taken. `to_file`: QEMU writes the file itself; else into a UNIX socket.

    `to_machine`: a second machine takes the stream, as the first waits for its answers.
    """

    machine: str = "q35"
    arguments: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    parameters: dict[str, object] = field(default_factory=dict)
    running: bool = True
    to_file: bool = False
    to_machine: bool = False
    # Rounds that must have been recorded before the machine may stop; held back by the downtime limit until then.
    rounds: int = 1


RECIPES = {
    "plain": Recipe(),
    "paused": Recipe(running=False),
    "pc": Recipe(machine="pc", arguments=("-device", "virtio-net-pci", "-device", "virtio-balloon-pci")),
    "microvm": Recipe(machine="microvm"),
    "several-rounds": Recipe(rounds=3),
    "xbzrle": Recipe(capabilities=("xbzrle",), rounds=3),
    "zero-page-legacy": Recipe(parameters={"zero-page-detection": "legacy"}),
    "zero-page-none": Recipe(parameters={"zero-page-detection": "none"}),
    "multifd": Recipe(capabilities=("multifd",), parameters={"multifd-channels": 2}),
    "mapped-ram": Recipe(capabilities=("mapped-ram",), to_file=True),
    "postcopy-advised": Recipe(capabilities=("postcopy-ram",), to_machine=True),
    "return-path": Recipe(capabilities=("return-path", "switchover-ack"), to_machine=True),
    "auto-converge": Recipe(capabilities=("auto-converge",)),
    "background-snapshot": Recipe(capabilities=("background-snapshot",)),
    "validate-uuid": Recipe(capabilities=("validate-uuid",)),
    "two-blocks": Recipe(
        arguments=(
            *("-object", "memory-backend-ram,id=near,size=48M", "-numa", "node,memdev=near"),
            *("-object", "memory-backend-ram,id=far,size=16M", "-numa", "node,memdev=far"),
        ),
    ),
}


class Monitor:
    """QEMU's monitor on a UNIX socket."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path)
        self._socket.settimeout(DEADLINE_S)
        self._lines = self._socket.makefile("rw")
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> dict:
        """Run one command; its answer."""
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


def connect(path: Path) -> socket.socket:
    """A connection to a socket that somebody is about to open."""
    until_s = time.monotonic() + DEADLINE_S
    while True:
        attempt = socket.socket(socket.AF_UNIX)
        try:
            attempt.connect(str(path))
            return attempt
        except OSError:
            attempt.close()
            if time.monotonic() > until_s:
                raise
            threading.Event().wait(0.02)


@contextlib.contextmanager
def machine(recipe: Recipe, folder: Path, *extra: str) -> Iterator[Monitor]:
    """A QEMU machine with 64 MiB under emulation, running its firmware."""
    path = folder / f"monitor{len(list(folder.glob('monitor*')))}.sock"
    command = ["qemu-system-x86_64", "-M", f"{recipe.machine},accel=tcg", "-m", "64", "-nodefaults", "-display", "none"]
    command += ["-qmp", f"unix:{path},server=on,wait=off", *recipe.arguments, *extra]
    command += [] if recipe.running or extra else ["-S"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    monitor = None
    try:
        monitor = Monitor(path)
        yield monitor
    finally:
        if monitor is not None:
            monitor.close()
        process.kill()
        process.communicate()


def prepare(monitor: Monitor, recipe: Recipe) -> None:
    """Set what the recipe asks for."""
    wanted = [{"capability": name, "state": True} for name in recipe.capabilities]
    monitor.ask("migrate-set-capabilities", capabilities=wanted)
    if recipe.parameters:
        monitor.ask("migrate-set-parameters", **recipe.parameters)


def migrate(monitor: Monitor, recipe: Recipe, uri: str) -> None:
    """Migrate to `uri` and wait until QEMU says that it is done."""
    held = recipe.rounds > 1
    monitor.ask("migrate-set-parameters", **{"downtime-limit": 0 if held else 300})
    if held:
        monitor.ask("migrate-set-parameters", **{"max-bandwidth": 8 << 20})
    monitor.ask("migrate", uri=uri)
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        state = monitor.ask("query-migrate")
        if state["status"] == "completed":
            return
        if state["status"] == "failed":
            raise RuntimeError(state.get("error-desc", "migration failed"))
        if held and state.get("ram", {}).get("dirty-sync-count", 0) >= recipe.rounds:
            held = False
            monitor.ask("migrate-set-parameters", **{"downtime-limit": 2000, "max-bandwidth": 1 << 30})
        threading.Event().wait(0.02)
    raise TimeoutError("migration")


def record(recipe: Recipe, folder: Path) -> bytes:
    """The stream of a fresh machine."""
    stream = folder / "stream"
    chunks: list[bytes] = []
    with contextlib.ExitStack() as stack:
        monitor = stack.enter_context(machine(recipe, folder))
        prepare(monitor, recipe)
        if recipe.to_file:
            migrate(monitor, recipe, f"file:{stream}")
            return stream.read_bytes()
        far = None
        if recipe.to_machine:
            target = stack.enter_context(machine(recipe, folder, "-incoming", "defer"))
            prepare(target, recipe)
            target.ask("migrate-incoming", uri=f"unix:{folder / 'incoming'}")
            far = stack.enter_context(connect(folder / "incoming"))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(stream))
        listener.listen(8)
        main = threading.Thread(target=_main_channel, args=(listener, far, chunks), daemon=True)
        main.start()
        migrate(monitor, recipe, f"unix:{stream}")
        main.join(DEADLINE_S)
        assert not main.is_alive(), "QEMU did not end its stream"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    return b"".join(chunks)


def _main_channel(listener: socket.socket, far: socket.socket | None, chunks: list[bytes]) -> None:
    """Keep what the first connection brings, and pass it on to `far`; what others (multifd's) bring is dropped."""
    first, _ = listener.accept()
    with first:
        _in_background(_drop_others, listener)
        if far is not None:
            _in_background(_copy, far, first)
        while chunk := first.recv(1 << 20):
            chunks.append(chunk)
            if far is not None:
                far.sendall(chunk)


def _in_background(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _copy(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            to.sendall(chunk)


def _drop_others(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            _in_background(_read_all, listener.accept()[0])


def _read_all(other: socket.socket) -> None:
    with contextlib.suppress(OSError), other:
        while other.recv(1 << 20):
            pass
