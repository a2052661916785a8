"""What crosses between actors: addresses, callers and the reply envelope."""

import msgspec


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One actor: `service` of node `node`, or the site-wide `service` of `site` (manager, predictor, placement)."""

    service: str
    node: str = ""
    site: str = ""

    def __str__(self) -> str:
        return f"{self.service}@{self.node or self.site}"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls: the node's name as its certificate gives it; `same_site` is true for calls over our own Ray."""

    node: str
    site: str
    same_site: bool


class Reply(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Envelope of every answer: `body` when `error` is empty, else a code of `actors.errors` with its fields."""

    body: bytes = b""
    error: str = ""
    fields: dict[str, str | int | float] = {}


class Empty(msgspec.Struct, frozen=True):
    """A request or response without content."""
