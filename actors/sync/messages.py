"""Requests and answers of the facts actor. A fact's value is JSON; times are Unix seconds."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actors.sync.engine import MESSAGE_BYTES_MAX
from actors.sync.facts import KEY_CHARS_MAX
from actors.sync.values import SAMPLE_BYTES_MAX, VALUE_BYTES_MAX

MOST = 1000
MESSAGES_MOST = 256
"""Messages in one answer, at most: four times what a replica of any size has to say at once."""
MessageBytes = Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One message of anti-entropy to another site; `begins`: it is the digest of everything."""

    message: MessageBytes
    begins: bool = False


class Steps(msgspec.Struct, frozen=True, kw_only=True):
    """What the other site says to it; nothing when there is nothing to say."""

    messages: Annotated[list[MessageBytes], Meta(max_length=MESSAGES_MOST)] = []


class PutFact(msgspec.Struct, frozen=True, kw_only=True):
    """Write a fact; `value` is JSON, None removes it."""

    key: Key
    value: Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)] | None


class AddSample(msgspec.Struct, frozen=True, kw_only=True):
    """Add a sample to a series; `value` is JSON."""

    key: Key
    value: Annotated[bytes, Meta(max_length=SAMPLE_BYTES_MAX)]


class FactsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Facts whose keys begin with `prefix`, in order, those after key `after`, at most `most`."""

    prefix: Annotated[str, Meta(max_length=KEY_CHARS_MAX)] = ""
    after: Annotated[str, Meta(max_length=KEY_CHARS_MAX)] = ""
    most: Annotated[int, Meta(ge=1, le=MOST)] = MOST


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact as it is known here. `kind`: fact, or series (then `value` has `[at, value]`, oldest first).

    `at`: when it was written, by its writer's clock; `age_s`: how long ago that is by the clock here.
    """

    key: str
    kind: Literal["fact", "series"]
    value: Any
    at: float
    age_s: float
    writer: str


class FactList(msgspec.Struct, frozen=True, kw_only=True):
    """Facts in the order of their keys; `more`: there are others after the last one."""

    facts: list[Fact]
    more: bool = False


class PeerState(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange with one other site. `equal_at`: when both last had the same (0: not yet).

    `sent_bytes` and `received_bytes` are of messages, `refused` counts what could not be taken.
    """

    site: str
    node: str
    reachable: bool = False
    equal_at: float = 0.0
    comparisons: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    refused: int = 0
    reason: str = ""


class ReplicaState(msgspec.Struct, frozen=True, kw_only=True):
    """This site's replica. `refused`: values that were not believed; `exchanging`: false while ASS is switched off."""

    site: str
    writer: str
    facts: int
    refused: int
    exchanging: bool
    peers: list[PeerState]
