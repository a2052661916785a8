"""A node's own libvirtd."""

import time

import libvirt

from actors.errors import HypervisorDown
from actors.lab.plan import NodePlan

COMMAND = ("libvirtd", "--listen")
_POLL_S = 0.05


def wait_ready(node: NodePlan, deadline_s: float) -> None:
    """Wait until the node's libvirtd answers with the node's own UUID.

    Raises:
        HypervisorDown: it did not in time; carries libvirt's last message.
    """
    until = time.monotonic() + deadline_s
    while (reason := _ask(node)) is not None:
        if time.monotonic() > until:
            raise HypervisorDown(node=node.name, reason=reason)
        time.sleep(_POLL_S)


def answers(node: NodePlan) -> bool:
    """True when the node's libvirtd answers with the node's own UUID."""
    return _ask(node) is None


def _ask(node: NodePlan) -> str | None:
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
