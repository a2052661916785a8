"""What the move tests work with: the session lab's API, real guests and their consoles, and ways to break things."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from actors.errors import GuestUnknown, NovaCronError
from actors.hypervisor.messages import DiskSpec, GuestInfo
from actors.lab.guests import Load, build, guest_spec
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.namespace import Namespaces
from actors.lab.services import NODE_ENVIRONMENT, start_novacron, start_ray
from actors.migration.messages import CreateGuestAnywhere, JobView, MoveRequest
from api.cli.client import Client
from api.cli.guest_spec import IMAGES
from api.cli.target import Target

ENDED = {"completed", "failed", "cancelled"}
BOOT_S, MOVE_S, TICKS_S = 240.0, 300.0, 120.0
# Ray starts a killed actor again: a new Python process that imports everything, beside busy guests.
RESTART_S = 120.0
_POLL_S = 0.1
_TICK = threading.Event()  # never set: its wait is the interval between two looks at a condition
_Value = TypeVar("_Value")


def _console(guest: str) -> Path:
    return Path(f"/run/console-{guest}.log")


def until(what: str, ask: Callable[[], _Value], deadline_s: float) -> _Value:
    """The first true answer of `ask`, asked again and again for at most `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not come true within {deadline_s:g} s; last answer: {answer!r}"
        _TICK.wait(_POLL_S)


class World:
    """One lab with NovaCron running, seen as an operator and as a saboteur."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        token = lab.plan.api_token_file.read_text().strip()
        lead = lab.plan.hosts[0]
        self.api = Client(Target(url=f"http://{lead.address}:8443", token=token))
        self.token = token
        self.url = f"http://{lead.address}:8443"

    def guest(self, name: str, node: str, data: bytes = b"") -> Watch:
        """Create and start a guest on `node`, with a disk of its own that begins as `data`; returns when it ticks.

        The nodes' stores are emptied: what an earlier test's guest left there would make moves too short to break.
        """
        for each in self.lab.plan.hosts:
            self.api.clear_store(each.name)
        files = {one.name: one.run_dir / _console(name).name for one in self.lab.plan.hosts}
        for file in files.values():
            file.unlink(missing_ok=True)
        self.create(name, node, data)
        watch = Watch(name, files, node)
        watch.until_ticks(5, BOOT_S)
        return watch

    def create(self, name: str, node: str, data: bytes = b"") -> GuestInfo:
        """Ask for a small guest that changes its memory, 64 MiB of files in its page cache, and its disk if any."""
        disk = None
        if data:
            image, file = self._image(name), self.image_at(node, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(0o666)
            disk = DiskSpec(target="vdb", path=str(image), format="raw", size_bytes=len(data), moves=True)
        load = Load(region_mib=32, per_s=500, bytes_each=64)
        spec = guest_spec(name, "memory", 256, load, 64, build(IMAGES), data_disk=disk, disk_writes_per_s=4)
        spec = msgspec.structs.replace(spec, console=str(_console(name)))
        return self.api.create_guest(CreateGuestAnywhere(spec=spec, node=node))

    @staticmethod
    def _image(guest: str) -> Path:
        return Path(f"/var/lib/novacron/images/{guest}-vdb.raw")

    def image_at(self, node: str, guest: str) -> Path:
        """Where the guest's own disk lies on `node`, if it does."""
        return self.lab.node(node).state_dir / "lib-novacron" / "images" / self._image(guest).name

    def remove(self, name: str) -> None:
        """Stop and delete a guest, wherever it is."""
        try:
            self.api.act(name, "stop")
        except GuestUnknown:
            return
        except NovaCronError:
            pass
        self.api.delete_guest(name)

    def start_move(self, guest: str, to: str, pause_ms: int = 300) -> JobView:
        """Ask for a move; the job as accepted."""
        return self.api.submit(MoveRequest(guest=guest, to=to, pause_ms=pause_ms))

    def wait(self, job: str, deadline_s: float = MOVE_S) -> JobView:
        """The job when it has ended."""
        return until(f"the end of {job}", lambda: self._ended(job), deadline_s)

    def wait_copying(self, job: str, wire_bytes: int = 1 << 20, disk_bytes: int = 0) -> JobView:
        """The job when so much of its memory, or of its disks, has left the encoder; fails if it ends before."""

        def copying() -> JobView | None:
            view = self._view(job)
            assert view is None or view.state not in ENDED, f"the move ended too early: {view}"
            if view is None or view.state != "perform":
                return None
            sent = view.progress
            enough = sent.disk_wire_bytes >= disk_bytes if disk_bytes else sent.wire_bytes >= wire_bytes
            return view if enough else None

        found = until(f"{job} copying", copying, MOVE_S)
        assert found is not None
        return found

    def running_on(self, guest: str) -> list[str]:
        """The nodes whose libvirt runs this guest now, asked directly, not through NovaCron."""
        return [node.name for node in self.lab.plan.hosts if self.domain_state(node.name, guest) == "running"]

    def has_domain(self, node: str, guest: str) -> bool:
        """True when libvirt on `node` knows the guest in any state."""
        return self.domain_state(node, guest) != ""

    def qemu_limits(self, node: str, guest: str) -> tuple[int, int]:
        """QEMU's own downtime limit in ms and switchover bandwidth in bytes per second, asked past NovaCron."""
        uri = self.lab.node(node).libvirt_uri
        asked = ["virsh", "-q", "-c", uri, "qemu-monitor-command", guest, '{"execute":"query-migrate-parameters"}']
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
        found = json.loads(done.stdout)["return"]
        return found["downtime-limit"], found["avail-switchover-bandwidth"]

    # -- sabotage -------------------------------------------------------------------------------------------------

    def kill(self, node: str, title: str) -> None:
        """Kill -9 the one process of `node` whose command line begins with `title`."""
        pids = self.lab.run(node, ["pgrep", "-f", f"^{title}"]).split()
        assert len(pids) == 1, f"{title} on {node}: {pids}"
        self.lab.run(node, ["kill", "-KILL", *pids])

    def kill_member(self, node: str) -> None:
        """Kill -9 the member of the control state on `node`. Ray starts it again; a witness is started again here."""
        if not self.lab.node(node).witness:
            self.kill(node, "ray::ClusterState")
            return
        self.lab.run(node, ["kill", "-KILL", self.lab.witness_pid(node)])
        self.lab.start_witness(node)

    def power_off(self, node: str) -> None:
        """End every process on `node` at once, its guests' too; what is on its disks stays."""
        # 1 and 2 are the node itself: without them its network would be gone for good.
        others = "ps -e -o pid= | awk -v own=$$ '$1 > 2 && $1 != own'"
        self.lab.run(node, ["sh", "-c", f"kill -KILL $({others}) 2>/dev/null; true"])
        self.lab.run(node, ["sh", "-c", "while pgrep -f ^/usr/bin/qemu >/dev/null; do sleep 0.1; done"])

    def power_on(self, node: str, between: Callable[[], object] = lambda: None) -> None:
        """Start what runs on `node`; `between`: done once libvirtd answers, before NovaCron is started."""
        plan = self.lab.node(node)
        self.lab.restart_libvirtd(node)
        between()
        namespaces = Namespaces(self.lab.plan.id, NODE_ENVIRONMENT)
        start_ray(self.lab.plan, namespaces, plan)
        start_novacron(namespaces, plan)

    def stored(self, node: str) -> int:
        """Blocks in the store of `node`."""
        return self.api.store(node).blocks

    def harm_store(self, node: str, how: str) -> None:
        """Clear, truncate or overwrite with noise the blocks that the store of `node` holds."""
        if how == "cleared":
            self.api.clear_store(node)
            return
        blocks = self.lab.node(node).state_dir / "lib-novacron" / "store" / "blocks"
        size = blocks.stat().st_size
        with blocks.open("r+b") as file:
            if how == "truncated":
                file.truncate(0)
                return
            for at in range(0, size, 1 << 20):
                file.seek(at)
                file.write(b"noise" * 100_000)

    def kill_stream(self, node: str) -> None:
        """Break one established TLS connection of the transport on `node` from outside."""
        listed = self.lab.run(node, ["ss", "-Htn", "state", "established", "( dport = :7443 or sport = :7443 )"])
        local, peer = listed.splitlines()[0].split()[-2:]
        source, target = local.rsplit(":", 1), peer.rsplit(":", 1)
        filters = ["src", source[0], "sport", "=", f":{source[1]}", "dst", target[0], "dport", "=", f":{target[1]}"]
        self.lab.run(node, ["ss", "-K", "-tn", *filters])

    def _ended(self, job: str) -> JobView | None:
        view = self._view(job)
        return view if view and view.state in ENDED else None

    def _view(self, job: str) -> JobView | None:
        try:
            return self.api.job(job)
        except NovaCronError as error:
            # The manager may be restarting: that is what some tests do to it.
            if error.status < 500:
                raise
            return None

    def domain_state(self, node: str, guest: str) -> str:
        """What libvirt on `node` says of the guest; '' when it does not know it, or does not answer."""
        uri = self.lab.node(node).libvirt_uri
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, "domstate", guest], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip()
