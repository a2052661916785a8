"""The facts that every site writes of its own, and under which keys."""

from typing import TypeVar

import msgspec

from actors.encoding.messages import StoreState
from actors.hypervisor.messages import NodeFacts
from actors.sync.messages import Fact
from actors.sync.values import VALUE_BYTES_MAX
from actors.transport.messages import LinkSample, LinkState
from actors.transport.modes import Mode

NODE, LINK, SERIES, STORE, HINT = "node/", "link/", "series/", "store/", "hint/"
"""Beginnings of keys: a host, a link (``link/NODE/PEER``), its series, a content store, an operator's hint."""
STALE_S = 45.0
"""A site writes each of its facts at least every 30 s; one that is older comes from a site that is silent."""
_Record = TypeVar("_Record")


class LinkFact(msgspec.Struct, frozen=True, kw_only=True):
    """What other sites get to know of a link; see `LinkState`. `acked_bytes_per_s`: what it carried, latest second.

    `age_s`: how old this is where it is shown.
    """

    node: str
    peer: str
    site: str
    peer_site: str
    state: str
    mode: Mode
    mode_forced: bool = False
    streams: int = 0
    rtt_ms: float = 0.0
    loss: float = 0.0
    acked_bytes_per_s: float = 0.0
    capacity_bytes_per_s: float = 0.0
    cap_bytes_per_s: int = 0
    age_s: float = 0.0


class LinkFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The links of every site that has told of them."""

    links: list[LinkFact]


def link_fact(link: LinkState, last: LinkSample | None) -> LinkFact:
    """The fact of a link with its newest sample."""
    return LinkFact(
        node=link.node,
        peer=link.peer,
        site=link.site,
        peer_site=link.peer_site,
        state=link.state,
        mode=link.mode,
        mode_forced=link.mode_forced,
        streams=link.streams,
        rtt_ms=last.rtt_ms if last else 0.0,
        loss=last.loss if last else 0.0,
        acked_bytes_per_s=float(last.acked_bytes) if last else 0.0,
        capacity_bytes_per_s=round(link.capacity_bytes_per_s, 1),
        cap_bytes_per_s=link.cap_bytes_per_s,
    )


def sample_value(sample: LinkSample) -> bytes:
    """One entry of a link's series: round trip in ms, bytes acknowledged and the busy share of that second, loss."""
    return msgspec.json.encode(
        [round(sample.rtt_ms, 1), sample.acked_bytes, round(sample.busy_share, 2), round(sample.loss, 4)]
    )


def node_value(facts: NodeFacts) -> bytes:
    """A host's fact; the list of machine types is left out where it would be too long."""
    value = msgspec.json.encode(facts)
    if len(value) > VALUE_BYTES_MAX:
        short = [warning[:200] for warning in facts.warnings[:4]]
        value = msgspec.json.encode(msgspec.structs.replace(facts, machine_types=[], warnings=short))
    return value


def store_value(store: StoreState) -> bytes:
    """A content store's fact, without the images, which are the node's own business."""
    return msgspec.json.encode(msgspec.structs.replace(store, images=[]))


def record_of(fact: Fact, kind: type[_Record]) -> _Record | None:
    """The record in a fact, with its `age_s` if it has such a field; None if another version wrote something else."""
    try:
        record = msgspec.convert(fact.value, kind)
    except msgspec.ValidationError:
        return None
    if isinstance(record, NodeFacts | LinkFact):
        return msgspec.structs.replace(record, age_s=round(fact.age_s, 1))
    return record
