"""Flags as the API and the command line show them."""

import msgspec

from actors.control.model import Component, Flag


class KnownFlags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that were ever set. `agreed`: false when these are what a node last knew."""

    flags: dict[str, Flag]
    agreed: bool


class ShownFlag(msgspec.Struct, frozen=True, kw_only=True):
    """One component's flag. `set`: false when nobody ever set it; `effect`: what off means."""

    component: Component
    percent: int
    nodes_on: list[str]
    nodes_off: list[str]
    killed: bool
    set: bool
    effect: str


class ShownFlags(msgspec.Struct, frozen=True, kw_only=True):
    """All six."""

    flags: list[ShownFlag]
    agreed: bool
