"""What a node tells of itself, whether its libvirt answers or not."""

import psutil

from actors.config.schema import Config
from actors.hypervisor.host import ARCH
from actors.hypervisor.messages import NodeFacts


def facts_of(config: Config, state: str, total_mib: int, free_mib: int, guests: int, warnings: list[str]) -> NodeFacts:
    """The facts that need no libvirt; `total_mib` and `free_mib` of memory, `guests` on it."""
    name = config.node.name
    member = config.topology.member(name)
    assert member is not None, "configuration is validated"
    return NodeFacts(
        node=name, site=config.site.name, state=state, address=member.address, cpus=psutil.cpu_count() or 1,
        cpu_model="", arch=ARCH, memory_mib=total_mib, free_mib=free_mib, guests=guests, warnings=warnings,
    )  # fmt: skip
