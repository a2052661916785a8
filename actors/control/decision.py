"""What the rules for a command say: changes of records, or a refusal."""

from enum import StrEnum
from typing import Literal

import msgspec

from actors.control.model import AnyRecord

Table = Literal[
    "cluster", "nodes", "leases", "guests", "jobs", "replicas", "policies", "flags", "members", "seats", "expiries",
    "authors", "vouches",
]  # fmt: skip


class Refusal(StrEnum):
    """Why a command took no effect; stable codes."""

    MALFORMED = "malformed"
    TOO_NEW = "too-new"
    SESSION_UNKNOWN = "session-unknown"
    SESSION_GAP = "session-gap"
    FORGOTTEN = "forgotten"
    NOT_YOURS = "not-yours"
    UNKNOWN = "unknown"
    STALE = "stale"
    FULL = "full"
    BUSY = "busy"
    NOT_RUNNING = "not-running"
    RUNNING = "running"
    SAME_NODE = "same-node"
    NO_HOST = "no-host"
    DRAINING = "draining"
    NO_LEASE = "no-lease"
    LEASE_ENDED = "lease-ended"
    LEASE_HELD = "lease-held"
    TOO_SOON = "too-soon"
    TERMS_CHANGED = "terms-changed"
    NO_THIRD_VOICE = "no-third-voice"
    RISK_CHANGED = "risk-changed"
    PAST_NO_RETURN = "past-no-return"
    NOT_THEN = "not-then"
    IN_USE = "in-use"
    ALREADY = "already"
    CHANGING = "changing"
    LAST_MEMBER = "last-member"
    NO_QUORUM_LEFT = "no-quorum-left"
    NOT_IN_BFT = "not-in-bft"
    UNSIGNED = "unsigned"
    NO_KEY = "no-key"
    FORGED = "forged"


class Refused(Exception):
    """Leaves the rules when a command is refused; never leaves `engine.apply`."""

    def __init__(self, code: Refusal, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(detail)


class Change(msgspec.Struct, frozen=True):
    """One record after a command; None: it is gone."""

    table: Table
    key: str
    record: AnyRecord | None


class Event(msgspec.Struct, frozen=True):
    """A change as a watcher gets it; all events of one command have the same revision."""

    revision: int
    table: Table
    key: str
    record: AnyRecord | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted command: what changes, and what its result says."""

    changes: tuple[Change, ...] = ()
    number: int = 0
    detail: str = ""
    tells: bool = True
    """False where nothing was said that the audit trail does not have."""


class Electorate(msgspec.Struct, frozen=True):
    """Who agreed on an entry, and how (`bft`: among members that may lie): the same for it at every member."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    bft: bool = False


UNTOLD = Electorate()
"""Nobody said who agreed."""


class Asked(msgspec.Struct, frozen=True):
    """Where, by whom, when and among whom a command was asked for; `author`: the node that signed it, '' for none."""

    index: int
    by: str
    at_ms: int
    among: Electorate = UNTOLD
    author: str = ""
