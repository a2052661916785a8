"""Requests and answers of the placement policy (ITP)."""

import msgspec

from actors.hypervisor.messages import NodeFacts


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a node for a guest among `nodes`; `exclude` are names that must not be chosen (its present node).

    `vcpus_in_use`: virtual CPUs of the running guests of each node.
    """

    guest: str
    memory_mib: int
    vcpus: int
    machine: str
    nodes: list[NodeFacts]
    vcpus_in_use: dict[str, int] = {}
    exclude: list[str] = []
    site: str = ""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen node and why; `rejected` says for each other node what spoke against it."""

    node: str
    reason: str
    rejected: dict[str, str]
