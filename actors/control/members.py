"""Who the members of the control state are: a function of the configuration, recorded when the state is founded."""

from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from actors.config.schema import Config
from actors.errors import Conflict, StateCorrupt
from actors.files import write_atomically

LONE_SITE_MEMBERS = 3
FOLDER = "control"
"""Of a member, in `node.state_dir`."""
FOUNDERS_FILE = "founders.json"
STORE_FILE = "state.db"


class Founder(msgspec.Struct, frozen=True, kw_only=True):
    """One member: its number, which is never used again, and the node that it runs on."""

    number: int
    node: str
    site: str
    role: Literal["host", "witness"] = "host"


def members_of(config: Config) -> tuple[Founder, ...]:
    """`consensus.members` if they are named there; else the lead node of each site and the witness, and in a cluster of
    one site with three nodes or more its first three.

    They are numbered from 1 in the order of the list or of the topology.
    """
    topology, witness = config.topology, config.consensus.witness
    lone = len(topology.sites) == 1 and len(topology.sites[0].nodes) >= LONE_SITE_MEMBERS
    count = LONE_SITE_MEMBERS if lone else 1
    chosen = config.consensus.members or [
        node.name
        for site in topology.sites
        for place, node in enumerate(site.nodes)
        if place < count or node.name == witness
    ]
    return tuple(
        Founder(number=number, node=node, site=site.name, role="witness" if node == witness else "host")
        for number, node in enumerate(chosen, 1)
        if (site := topology.site_of(node)) is not None
    )


def is_member(config: Config) -> bool:
    """Whether this node is one."""
    return any(each.node == config.node.name for each in members_of(config))


def founded(folder: Path, config: Config) -> tuple[Founder, ...]:
    """The founders that are recorded in `folder`; at the first start those of `config`, which are then recorded.

    Raises:
        Conflict: the configuration now names others.
        StateCorrupt: there is a store and no such record, or none that can be read.
    """
    path, now = folder / FOUNDERS_FILE, members_of(config)
    if not path.exists():
        if (folder / STORE_FILE).exists():
            raise StateCorrupt(where=str(path), reason="it is missing, which belongs to the store beside it")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(now), 0o600)
        return now
    try:
        then = msgspec.json.decode(path.read_bytes(), type=tuple[Founder, ...])
    except ValueError as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error
    if then != now:
        raise Conflict(
            detail=f"the control state was founded by the members {_named(then)}, and the configuration now makes them"
            f" {_named(now)}. Keep the first: set consensus.members to [{', '.join(each.node for each in then)}]"
            f" (and the witness as it was) on every node. To found a new state, and lose all that was agreed on,"
            f" stop every node and move {folder} away on each"
        )
    return then


def founding_of(founders: tuple[Founder, ...]) -> bytes:
    """8 bytes that name this set of founders; members that were founded otherwise are not heard."""
    return blake2b(msgspec.msgpack.encode(founders), digest_size=8).digest()


def _named(founders: tuple[Founder, ...]) -> str:
    return ", ".join(f"{each.node} ({each.number}, {each.role} in {each.site})" for each in founders)
