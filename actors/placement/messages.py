"""Requests and answers of the placement policy (ITP)."""

import msgspec

from actors.hypervisor.messages import NO_ATTRIBUTES, Attributes, NodeFacts


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that is somewhere. `vcpus`: those that it takes there, 0 while it has no memory."""

    name: str
    node: str
    vcpus: int = 0
    tenant: str = ""
    groups: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a node for a guest among `nodes`; `exclude` are names that must not be chosen (its present node)."""

    guest: str
    memory_mib: int
    vcpus: int
    machine: str
    nodes: list[NodeFacts]
    guests: list[Neighbour] = []
    exclude: list[str] = []
    site: str = ""
    attributes: Attributes = NO_ATTRIBUTES


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen node and why; `rejected` says for each other node what spoke against it."""

    node: str
    reason: str
    rejected: dict[str, str]
