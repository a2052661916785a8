"""`ray up` with the repository's cluster.yaml on two hosts over SSH: a move between them, then `ray down`."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ruamel.yaml import YAML

from actors.errors import NovaCronError
from actors.lab.lab import Lab
from actors.lab.plan import API_PORT
from actors.lab.services import node_config
from actors.lab.topology import LabSite, LabTopology
from tests.e2e import ssh_hosts
from tests.e2e.conftest import remove_lab
from tests.e2e.traces import traces_of
from tests.e2e.world import TICKS_S, World, until

NAME, CLUSTER = "rayup", "novacron-rayup"
HERE, THERE = "london-1", "london-2"
CLUSTER_FILE = Path(__file__).parents[2] / "cluster.yaml"
INSTALLED = "/opt/novacron/.venv/bin"
SSHD_S, RAY_S, WORKER_S = 30.0, 600.0, 300.0
# Ray's processes on a worker notice after 60 s that their head is gone, its agents some 30 s after that.
GONE_S = 240.0


class Operator:
    """Somebody with the checkout and an SSH key, on a machine that reaches the hosts and is none of them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self.key = folder / "key"
        self._file = folder / "cluster.yaml"
        # All that Ray remembers about a cluster goes where this test can remove it.
        self._environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "RAY_TMPDIR": str(folder),
        }  # fmt: skip
        ssh_hosts.make_key(self.key)

    def write_files(self) -> None:
        """Write the site's files: cluster.yaml with other values, and what it has copied to the hosts."""
        lead = self._lab.plan.nodes[0]
        secrets = lead.state_dir / "etc-novacron"
        for name in ("ray.token", "api.token"):
            shutil.copyfile(secrets / name, self._folder / name)
        config = node_config(self._lab.plan, lead)
        del config["node"]["name"]
        config["api"] = {"port": API_PORT}
        _write_yaml(self._folder / "node.yaml", config)
        cluster = YAML(typ="safe").load(CLUSTER_FILE)
        cluster["cluster_name"] = CLUSTER
        cluster["provider"] |= {"head_ip": lead.address, "worker_ips": [self._lab.node(THERE).address]}
        cluster["auth"]["ssh_private_key"] = str(self.key)
        mounts = cluster["file_mounts"]
        cluster["file_mounts"] = {there: str(self._folder / Path(there).name) for there in mounts}
        here = str(Path(sys.executable).parent)
        cluster["setup_commands"] = [line.replace(INSTALLED, here) for line in cluster["setup_commands"]]
        _write_yaml(self._file, cluster)

    def ray(self, *words: str) -> tuple[int, str]:
        """Run `ray WORDS CLUSTER_FILE`; its exit status and output."""
        log = self._folder / "ray.log"
        argv = [str(Path(sys.executable).with_name("ray")), *words, str(self._file)]
        # Into a file: ssh's shared connections outlive the command, and would hold a pipe open.
        with log.open("wb") as out:
            done = subprocess.run(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=RAY_S,
                check=False,
            )
        return done.returncode, log.read_text(errors="replace")


def _write_yaml(file: Path, content: dict[str, Any]) -> None:
    text = StringIO()
    YAML().dump(content, text)
    file.write_text(text.getvalue())


@pytest.fixture
def hosts() -> Iterator[Lab]:
    """One site of two hosts with libvirt, without Ray and with nothing of NovaCron but each one's TLS identity."""
    remove_lab(NAME)
    try:
        lab = Lab.up(LabTopology(name=NAME, sites=[LabSite(name="london", nodes=2)]))
        yield lab
    finally:
        plan = Lab.load(NAME).plan
        remove_lab(NAME)
    assert traces_of(plan) == [], "the lab left something behind"


@pytest.fixture
def operator(hosts: Lab) -> Iterator[Operator]:
    """Its folder has a short path: there are sockets in it."""
    with tempfile.TemporaryDirectory(prefix="rayup-") as folder:
        operator = Operator(hosts, Path(folder))
        operator.write_files()
        for node in hosts.plan.nodes:
            for name in ("node.yaml", "ray.token", "api.token"):
                (node.state_dir / "etc-novacron" / name).unlink()
            ssh_hosts.serve(hosts, node, operator.key.with_suffix(".pub"))
        for node in hosts.plan.nodes:
            until(f"sshd on {node.name}", lambda address=node.address: _listens(address, 22), SSHD_S)
        yield operator
    # Where Ray keeps ssh's shared connections, on this machine and, in the same place, on the head.
    digest = hashlib.sha256(CLUSTER.encode()).hexdigest()
    for left in Path("/tmp").glob(f"ray_ssh_*/{digest[:10]}"):
        shutil.rmtree(left)
        if not any(left.parent.iterdir()):
            left.parent.rmdir()


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def _ours(lab: Lab, node: str) -> list[str]:
    """Command lines of Ray's and NovaCron's processes on `node`, other than of their SSH connections."""
    listed = lab.run(node, ["ps", "-ww", "-eo", "args"]).splitlines()
    return [line for line in listed if "ray::" in line or "/ray/" in line or "novacron node" in line]


def _up_nodes(world: World) -> list[str]:
    try:
        return [node.node for site in world.api.sites().sites for node in site.nodes if node.state == "up"]
    except NovaCronError:
        return []  # a busy machine: asked again


@pytest.mark.timeout(1800)
def test_up_move_down(hosts: Lab, operator: Operator) -> None:
    # A host that can't become a node makes `ray up` fail, with the reason.
    key = hosts.node(HERE).state_dir / "etc-novacron" / "tls" / "node.key"
    key.rename(key.with_suffix(".away"))
    status, said = operator.ray("up", "-y", "--no-config-cache")
    assert status != 0
    assert "Component security failed to start" in said, said
    key.with_suffix(".away").rename(key)

    # The same command again, when that is mended, brings the site up.
    status, said = operator.ray("up", "-y", "--no-config-cache")
    assert status == 0, said
    assert f"{HERE} is ready after" in said
    world = World(hosts)
    assert world.api.readiness().phase == "ready"
    until("both hosts are up", lambda: sorted(_up_nodes(world)) == [HERE, THERE], WORKER_S)

    watch = world.guest("walker", HERE)
    job = world.wait(world.start_move("walker", THERE).id)
    assert job.state == "completed", job.message
    watch.arrived(THERE)
    verdict = watch.until_ticks(40, TICKS_S)
    assert verdict.ok, verdict.problems
    assert world.running_on("walker") == [THERE]

    status, said = operator.ray("down", "-y")
    assert status == 0, said
    for host in (HERE, THERE):
        until(f"nothing left on {host}", lambda host=host: not _ours(hosts, host), GONE_S)
        shown = hosts.run(host, ["bash", "-lc", "novacron node status --json || test $? = 6"])
        assert msgspec.json.decode(shown)["pid"] is None
    # Guests belong to libvirt: this one has not missed a tick.
    assert world.running_on("walker") == [THERE]
    verdict = watch.until_ticks(40, TICKS_S)
    assert verdict.ok, verdict.problems
