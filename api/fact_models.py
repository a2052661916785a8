"""The JSON shapes of facts: what sites tell each other without agreeing on it."""

from typing import Any, Literal

from pydantic import Field

from api.models import Request, View


class FactView(View):
    """One fact as it is known here."""

    key: str
    kind: Literal["fact", "series"] = Field(description="series: `value` has [at, value], oldest first")
    value: Any
    at: float = Field(description="when it was written, Unix time by its writer's clock")
    age_s: float
    writer: str = Field(description="the replica's life that wrote it")


class FactListView(View):
    """Facts in the order of their keys; `more`: there are others after the last one."""

    facts: list[FactView]
    more: bool = False


class PeerStateView(View):
    """The exchange of facts with one other site."""

    site: str
    node: str
    reachable: bool = False
    equal_at: float = Field(0.0, description="when both last had the same, Unix time; 0: not yet")
    comparisons: int = 0
    sent_bytes: int = Field(0, description="of messages")
    received_bytes: int = 0
    refused: int = Field(0, description="what could not be taken")
    reason: str = Field("", description="why it is not reachable")


class ReplicaStateView(View):
    """This site's replica of the facts."""

    site: str
    writer: str
    facts: int
    refused: int = Field(description="values that were not believed")
    exchanging: bool = Field(description="false while ASS is switched off")
    peers: list[PeerStateView]


class HintPut(Request):
    """An operator's hint."""

    value: str = Field(max_length=1000)


class LinkFactView(View):
    """A link of any site, as its node last told."""

    node: str
    peer: str
    site: str
    peer_site: str
    state: str = Field(description="up, connecting or down")
    mode: Literal["datacenter", "hybrid", "internet"]
    mode_forced: bool = False
    streams: int = 0
    rtt_ms: float = 0.0
    loss: float = 0.0
    acked_bytes_per_s: float = Field(0.0, description="what it carried, latest second")
    capacity_bytes_per_s: float = Field(0.0, description="0: unknown")
    cap_bytes_per_s: int = Field(0, description="0: no cap")
    age_s: float = 0.0


class LinkFactList(View):
    """The links of every site that has told of them."""

    links: list[LinkFactView]
