"""What runs on the nodes beside libvirtd: the site's Ray cluster and NovaCron, with their configuration."""

import secrets
import shutil
import socket
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from actors.errors import Failed, SetupMissing
from actors.lab.namespace import Namespaces
from actors.lab.plan import API_PORT, RAY_PORT, TRANSPORT_PORT, LabPlan, NodePlan
from actors.lab.processes import Found
from actors.node import process
from actors.security.authority import create_authority, issue

CONFIG: Final = Path("/etc/novacron/node.yaml")
WITNESS: Final = "witness"
"""What the lab calls that process."""
RAY_TOKEN: Final = Path("/etc/novacron/ray.token")
# Every program on a node finds the site's Ray cluster and may use it.
NODE_ENVIRONMENT: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN_PATH": str(RAY_TOKEN),
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray runs its workers at nice 15 unless told otherwise: behind busy guests the encoder would starve.
    "RAY_worker_niceness": "0",
    # No processes ahead of their use, as every actor has one of its own, and none of what Ray counts about itself for
    # a dashboard that does not run: on two slow cores a quarter of what an idle node took.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "RAY_enable_timeline": "0",
}
_RAY_S: Final = 300.0
_NODE_S: Final = 300.0
_WITNESS_S: Final = 120.0
_MARGIN_S: Final = 30.0
_POLL_S: Final = 0.2
_LOG_END_CHARACTERS: Final = 600


def node_config(plan: LabPlan, node: NodePlan) -> dict[str, Any]:
    """The node's configuration file as plain values; whatever is not here has its default."""
    return {
        "node": {"name": node.name, "reserve_mib": 0},
        "topology": {
            "sites": [
                {
                    "name": router.site,
                    "witness": plan.lead(router.site).witness,
                    "nodes": [
                        {"name": member.name, "address": member.address, "port": TRANSPORT_PORT}
                        for member in plan.nodes_of(router.site)
                    ],
                }
                for router in plan.routers
            ]
        },
        "api": {"host": node.address, "port": API_PORT},
        "log": {"level": "info", "format": "json"},
    }


def write_credentials(plan: LabPlan) -> None:
    """Make the lab's certificate authority and write every node's certificate, tokens and configuration.

    All nodes share one API token, so that one client can talk to every site; each site has its own Ray token.
    """
    authority = plan.state_dir / "authority"
    create_authority(authority)
    api_token = secrets.token_hex(32)
    _write_secret(plan.api_token_file, api_token)
    ray_tokens = {router.site: secrets.token_hex(32) for router in plan.routers}
    for node in plan.nodes:
        etc = node.state_dir / "etc-novacron"
        (etc / "tls").mkdir(mode=0o700)
        identity = issue(authority, node.name, node.site)
        shutil.copyfile(identity.ca, etc / "tls" / "ca.pem")
        for source, name in ((identity.certificate, "node.pem"), (identity.key, "node.key")):
            _write_secret(etc / "tls" / name, source.read_text())
        _write_secret(etc / "api.token", api_token)
        _write_secret(etc / RAY_TOKEN.name, ray_tokens[node.site])
        text = StringIO()
        YAML().dump(node_config(plan, node), text)
        (etc / CONFIG.name).write_text(text.getvalue())


def _write_secret(file: Path, content: str) -> None:
    file.touch(mode=0o600)
    file.write_text(content)


def ray_command(plan: LabPlan, node: NodePlan) -> list[str]:
    """The command that starts Ray on `node`, as the site's head or joining it."""
    ray = _program("ray")
    common = [
        f"--node-ip-address={node.address}",
        f"--num-cpus={plan.ray_cpus}",
        f"--object-store-memory={plan.object_store_mib << 20}",
        "--include-log-monitor=false",
        "--disable-usage-stats",
    ]
    if node.leads:
        # No dashboard and no autoscaler: 80 MB and seconds of CPU at each site that the lab has no use for.
        spared = ["--include-dashboard=false", "--no-monitor"]
        return [ray, "start", "--head", f"--port={RAY_PORT}", *spared, *common]
    return [ray, "start", f"--address={plan.lead(node.site).address}:{RAY_PORT}", *common]


def start_ray(plan: LabPlan, namespaces: Namespaces, node: NodePlan) -> None:
    """Start Ray on `node` and wait for it; a site's lead must have been started before its other nodes."""
    namespaces.run(node.holder, ray_command(plan, node), _RAY_S)


def start_novacron(namespaces: Namespaces, node: NodePlan) -> None:
    """Start NovaCron on `node` and wait until it is ready; its log is ``lib-novacron/log/node.log``.

    Raises:
        Failed: it did not become ready, with its own reason.
    """
    argv = [_program("novacron"), "node", "start", "--config", str(CONFIG), "--wait-s", f"{_NODE_S:g}"]
    namespaces.run(node.holder, argv, _NODE_S + _MARGIN_S)


def start_witness(namespaces: Namespaces, node: NodePlan) -> None:
    """Start the witness on `node` and wait until other members reach it; its log is ``log/witness.log``.

    Raises:
        Failed: it ended or did not serve its port in time, with the end of its log.
    """
    log = node.state_dir / "log" / f"{WITNESS}.log"
    argv = [_program("novacron"), "node", "witness", "--config", str(CONFIG)]
    namespaces.daemon(node.holder, WITNESS, argv, log)
    until = time.monotonic() + _WITNESS_S
    while not _serves(node):
        if time.monotonic() > until:
            said = log.read_text(errors="replace")[-_LOG_END_CHARACTERS:]
            raise Failed(detail=f"the witness on {node.name} serves no port after {_WITNESS_S:g} s: {said}")
        time.sleep(_POLL_S)


def _serves(node: NodePlan) -> bool:
    try:
        socket.create_connection((node.address, TRANSPORT_PORT), _POLL_S).close()
    except OSError:
        return False
    return True


def novacron_problem(node: NodePlan) -> str | None:
    """Why NovaCron on `node` is not ready, or None when it is."""
    run_dir = node.run_dir / "novacron"
    if process.find(run_dir) is None:
        return "it is not running"
    if node.witness:
        return None
    status = process.read_status(run_dir)
    if status is None:
        return "it has just been started"
    if not status.ready:
        return f"it is starting: {status.phase}"
    return None


def ray_runs(node: NodePlan, processes: list[Found]) -> bool:
    """True when Ray's own processes are there on `node`."""
    names = {process.comm for process in processes if process.holder == node.holder}
    return "raylet" in names and (not node.leads or "gcs_server" in names)


def _program(name: str) -> str:
    """The program `name` of the Python environment that this process runs in.

    Raises:
        SetupMissing: it is not installed there.
    """
    beside = Path(sys.executable).with_name(name)
    if not beside.exists():
        raise SetupMissing(what=f"{name} beside {sys.executable} (install novacron[node])")
    return str(beside)


def check_programs() -> None:
    """Raise `SetupMissing` unless Ray and NovaCron are installed where this process runs."""
    for name in ("ray", "novacron"):
        _program(name)
