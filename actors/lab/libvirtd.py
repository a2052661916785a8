"""A node's own libvirtd."""

import time

import libvirt

from actors.errors import HypervisorDown
from actors.lab.namespace import Namespaces
from actors.lab.plan import NodePlan

_POLL_S = 0.05


def start(namespaces: Namespaces, node: NodePlan) -> None:
    """Start libvirtd on `node`, for the first time or after it was killed; `wait_ready` waits for it."""
    namespaces.daemon(node.holder, "libvirtd", ["libvirtd", "--listen"], node.state_dir / "log" / "libvirtd.log")


def wait_ready(node: NodePlan, deadline_s: float) -> None:
    """Wait until the node's libvirtd answers with the node's own UUID.

    Raises:
        HypervisorDown: it did not in time; carries libvirt's last message.
    """
    until = time.monotonic() + deadline_s
    while (reason := problem(node)) is not None:
        if time.monotonic() > until:
            raise HypervisorDown(node=node.name, reason=reason)
        time.sleep(_POLL_S)


def problem(node: NodePlan) -> str | None:
    """Why the node's libvirtd is not usable, or None when it answers with the node's own UUID."""
    if not node.libvirtd_socket.exists():
        return "its socket is not there"
    try:
        connection = libvirt.open(node.libvirt_uri)
    except libvirt.libvirtError as error:
        return str(error)
    try:
        found = connection.getCapabilities()
    except libvirt.libvirtError as error:
        return str(error)
    finally:
        connection.close()
    return None if node.host_uuid in found else "it has another host's UUID"
