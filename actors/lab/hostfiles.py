"""Pure: the files and mounts that make a node's view of the file system its own."""

from pathlib import Path

from actors.lab.plan import LIBVIRT_TCP_PORT, LabPlan, NodePlan

# Directory below the node's state directory → where the node sees it.
PRIVATE_DIRECTORIES = {
    "etc-libvirt": Path("/etc/libvirt"),
    "lib-libvirt": Path("/var/lib/libvirt"),
    "cache-libvirt": Path("/var/cache/libvirt"),
    "log-libvirt": Path("/var/log/libvirt"),
    "etc-novacron": Path("/etc/novacron"),
    "lib-novacron": Path("/var/lib/novacron"),
    "tmp-ray": Path("/tmp/ray"),  # noqa: S108  Ray's fixed choice; each node gets its own
}
SHM_MIB = 2048


def libvirtd_conf(node: NodePlan) -> str:
    """No keepalive: a line that is cut in the middle of a move must not end the move. TCP is for benchmarks' rivals."""
    return "\n".join(
        [
            f'host_uuid = "{node.host_uuid}"',
            "listen_tls = 0",
            "listen_tcp = 1",
            f'listen_addr = "{node.address}"',
            f'tcp_port = "{LIBVIRT_TCP_PORT}"',
            'auth_tcp = "none"',
            'auth_unix_ro = "none"',
            'auth_unix_rw = "none"',
            'unix_sock_group = "root"',
            'unix_sock_rw_perms = "0700"',
            "keepalive_interval = -1",
            'log_outputs = "2:stderr"',
            "",
        ]
    )


def qemu_conf() -> str:
    """Guests run as root without cgroups, labels or namespaces of their own: the node is the sandbox."""
    return "\n".join(
        [
            'user = "root"',
            'group = "root"',
            "dynamic_ownership = 0",
            "remember_owner = 0",
            'security_driver = "none"',
            'stdio_handler = "file"',
            "namespaces = [ ]",
            "cgroup_controllers = [ ]",
            "keepalive_interval = -1",
            "",
        ]
    )


def hosts_file(plan: LabPlan) -> str:
    """Every node by name, on every node."""
    return "\n".join(["127.0.0.1 localhost", *(f"{node.address} {node.name}" for node in plan.nodes), ""])


def mount_script(node: NodePlan) -> str:
    """Shell script for the node's mount namespace; `/run` comes last, it hides the directory that it comes from."""
    lines = ["set -eu", "mount --make-rprivate /"]
    for name, target in PRIVATE_DIRECTORIES.items():
        lines.append(f"mount --bind {node.state_dir / name} {target}")
    lines += [
        f"mount --bind {node.state_dir / 'hosts'} /etc/hosts",
        f"mount -t tmpfs -o size={SHM_MIB}m,mode=1777 shm /dev/shm",
        "mount -t sysfs sysfs /sys",
        f"mount --bind {node.run_dir} /run",
        f"hostname {node.name}",
    ]
    return "\n".join(lines) + "\n"
