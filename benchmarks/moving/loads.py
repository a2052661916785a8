"""Pure: what the moved guests do, and what the target's node knows before they come."""

from typing import Final, Literal, get_args

import msgspec

from actors.errors import BadRequest

StoreState = Literal["empty", "image", "visited"]
STORES: Final[tuple[StoreState, ...]] = get_args(StoreState)


class NamedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's workload. `kind` and `load` as the lab's guests have them."""

    name: str
    kind: str
    load: str


LOADS: Final = (
    NamedLoad(name="light", kind="memory", load="64,2000,64"),
    NamedLoad(name="heavy", kind="memory", load="256,20000,64"),
    NamedLoad(name="kv", kind="redis", load="64,2000,1024"),
)
# Where QEMU's best setting does not end by itself, so that only a longer pause makes it.
RAISED: Final = ("heavy",)


def parse_loads(text: str, own: str) -> list[NamedLoad]:
    """The loads that `light,heavy` names; instead, a load of one's `own` (`MIB,PER_S,BYTES`, not checked here).

    Raises:
        BadRequest: one of them does not exist.
    """
    if own:
        return [NamedLoad(name="own", kind="memory", load=own)]
    found = _parse(text, "--loads", [load.name for load in LOADS])
    return [load for load in LOADS if load.name in found]


def parse_stores(text: str) -> list[StoreState]:
    """The states of the store that `empty,image` names.

    Raises:
        BadRequest: one of them does not exist.
    """
    found = _parse(text, "--stores", list(STORES))
    return [store for store in STORES if store in found]


def _parse(text: str, option: str, known: list[str]) -> list[str]:
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(known))
    if unknown or not named:
        raise BadRequest(detail=f"{option} {', '.join(unknown) or 'names none'}: there are {', '.join(known)}")
    return [name for name in known if name in named]
