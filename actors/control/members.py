"""Who the members of the control state are: a pure function of the configuration."""

from typing import Literal

import msgspec

from actors.config.schema import Config

LONE_SITE_MEMBERS = 3


class Founder(msgspec.Struct, frozen=True, kw_only=True):
    """One member: its number, which is never used again, and the node that it runs on."""

    number: int
    node: str
    site: str
    role: Literal["host", "witness"] = "host"


def members_of(config: Config) -> tuple[Founder, ...]:
    """The lead node of each site and the witness; in a cluster of one site with three nodes or more, its first three.

    They are numbered from 1 in the order of the topology.
    """
    sites, witness = config.topology.sites, config.consensus.witness
    lone = len(sites) == 1 and len(sites[0].nodes) >= LONE_SITE_MEMBERS
    count = LONE_SITE_MEMBERS if lone else 1
    chosen = [
        (node.name, site.name)
        for site in sites
        for place, node in enumerate(site.nodes)
        if place < count or node.name == witness
    ]
    return tuple(
        Founder(number=number, node=node, site=site, role="witness" if node == witness else "host")
        for number, (node, site) in enumerate(chosen, 1)
    )
