"""The JSON shapes of the agreed control state."""

from typing import Annotated, Any

from pydantic import Field

from actors.config.schema import Name
from actors.control.decision import Table
from api.models import Request, View


class MemberView(View):
    """One member as the answering one sees it."""

    number: int = Field(description="given once and never again")
    node: str
    site: str
    role: str = Field(description="host, or witness: a member without guests")
    leads: bool
    votes: bool = Field(True, description="false: it is no member any more, or not yet")
    caught: str = Field("", description="as what it was caught lying, for which the others excluded it")
    match: int = Field(-1, description="newest entry that the leader knows to be on its disk; -1: not known here")
    lag: int = Field(-1, description="entries that it lacks; -1: not known here")
    silent_s: float = Field(-1.0, description="since the answering member last heard of it; -1: never")
    change: str = Field("", description="joins (it has no vote until it has caught up), leaves, or nothing")


class MemberList(View):
    """The members, those included that are joining or leaving."""

    members: list[MemberView]


class NewMember(Request):
    """A node that is to be a member."""

    node: Name


class MemberChangeView(View):
    """A change of the members that was agreed on; it is carried out from then on, whoever restarts."""

    node: str
    number: int = Field(description="the member's, given once and never again")
    index: int = Field(description="of the entry that holds the change")
    detail: str


class ClusterStateView(View):
    """How the members of the control state stand, as one of them sees it."""

    node: str = Field(description="the member that answers")
    mode: str = Field(description="the protocol now: raft or bft")
    configured: str = Field(description="the one that is asked for: auto, raft, bft or adaptive")
    part: int = Field(description="how often the protocol was switched")
    leader: str = Field(description="empty: none is known, and nothing can be agreed on")
    settled: bool = Field(description="a leader is known, and enough members are heard")
    term: int = Field(description="Raft's term or BFT's view")
    last: int = Field(description="index of the newest entry of the log")
    commit: int = Field(description="of the newest that a majority has on disk")
    applied: int
    revision: int = Field(description="of the newest that changed a record")
    version: int = Field(description="of the rules in force")
    lineage: int = Field(description="how often an operator went on without the majority")
    snapshot: int = Field(description="index up to which a snapshot stands for the log")
    members: list[MemberView]


class Decree(Request):
    """An operator's word that nodes run nothing."""

    nodes: Annotated[list[Name], Field(min_length=1, max_length=64)]
    risk: str = Field(
        "", max_length=8192, description="what the refusal without it says, word by word; empty: be told it"
    )
    reason: str = Field(min_length=1, max_length=1024, description="kept in the audit trail")


class DecreeView(View):
    """A decree that is in force; both sentences stand in the audit trail."""

    index: int = Field(description="of the entry that holds it")
    detail: str


class StateChangeView(View):
    """One record of the control state as it is now."""

    table: Table
    key: str
    record: dict[str, Any] | None = Field(description="its fields, a guest without its definition; null: it is gone")


class StateEventView(View):
    """All that one command changed."""

    revision: int = Field(description="index of its entry in the log")
    changes: list[StateChangeView]


class TrailEntryView(View):
    """One accepted command."""

    number: int = Field(description="of the entry, without gaps from 1 on")
    revision: int = Field(description="index of the command in the log, which is the revision of what it changed")
    at_ms: int = Field(description="Unix time in ms, by the clock of whoever asked")
    by: str = Field(description="who asked: node:NAME, member:NAME or operator:NAME@NODE, by the API of that node")
    command: str
    subject: str = Field(description="the guest, node, move or flag that it is about; later steps of a move name it")
    detail: str
    body: dict[str, Any] = Field(description="the command's fields; empty where they are longer than is kept")
    link: str = Field(description="BLAKE2b-256 over this entry and the link before it, in hex")


class TrailPageView(View):
    """Entries of the audit trail, oldest first; there are more while `upto` is below `count`."""

    entries: list[TrailEntryView]
    count: int = Field(description="how many entries there are in all")
    upto: int = Field(description="number of the last entry that was looked at: `after` of the next page")
    missing: int = Field(0, description="entries up to there that the answering member does not have")
    fault: int = Field(0, description="number of the first entry that does not follow from the one before; 0: all do")
