"""Lab nodes made into hosts that an operator reaches over SSH, each with a home and a login set-up of its own."""

import subprocess
from pathlib import Path

from actors.lab.lab import Lab
from actors.lab.plan import NodePlan
from actors.lab.processes import HOLDER_VARIABLE, LAB_VARIABLE

_KEYGEN_S = 30.0
# Where a host's own files hide those that all nodes of a lab share with this machine.
_MOUNT = """
set -eu
mkdir -p /run/sshd {own}/profile.d {own}/home
touch {own}/home/.bashrc
sed 's,^root:[^:]*:0:0:[^:]*:[^:]*:,root:x:0:0:root:{own}/home:,' /etc/passwd > {own}/passwd
mount --bind {own}/passwd /etc/passwd
mount --bind {own}/profile.d /etc/profile.d
"""


def make_key(file: Path) -> None:
    """Make an SSH key pair without passphrase at `file` and `file`.pub."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "throw-away", "-f", str(file)]
    subprocess.run(argv, check=True, timeout=_KEYGEN_S)


def serve(lab: Lab, node: NodePlan, public_key: Path) -> None:
    """Let the holder of the private key log in to `node` as root. The caller waits for port 22."""
    own = node.state_dir / "ssh-host"
    own.mkdir()
    make_key(own / "host_key")
    (own / "authorized_keys").write_text(public_key.read_text())
    (own / "sshd_config").write_text(_sshd_config(lab, node, own))
    lab.run(node.name, ["sh", "-c", _MOUNT.format(own=own)])
    lab.start(node.name, "sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", str(own / "sshd_config")])


def _sshd_config(lab: Lab, node: NodePlan, own: Path) -> str:
    lines = [
        f"ListenAddress {node.address}:22",
        f"HostKey {own / 'host_key'}",
        f"AuthorizedKeysFile {own / 'authorized_keys'}",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "UsePAM no",
        "PidFile none",
        # What is started over SSH belongs to the lab like everything else on its nodes.
        f"SetEnv {LAB_VARIABLE}={lab.plan.id} {HOLDER_VARIABLE}={node.holder}",
        "",
    ]
    return "\n".join(lines)
