"""What the members say of the links between them: each of its own."""

from collections.abc import Callable, Mapping

from actors.consensus.chain.choice import LinkMode
from actors.consensus.ready import Member

KEPT_MS = 60_000.0
_NEAREST_FIRST: tuple[LinkMode, ...] = ("datacenter", "hybrid", "internet")


class Distances:
    """The modes of the links, as member `me` knows them; `numbers`: of the members by node, as they are now."""

    def __init__(self, me: Member, numbers: Callable[[], Mapping[str, Member]]) -> None:
        self._me, self._members = me, numbers
        self._told: dict[Member, tuple[float, dict[Member, LinkMode]]] = {}

    def measured(self, modes: Mapping[str, LinkMode], now_ms: float) -> dict[Member, LinkMode]:
        """Take this node's own links by the peer's name; those to members, to be told to the others."""
        numbers = self._members()
        own = {numbers[peer]: mode for peer, mode in modes.items() if peer in numbers}
        self._told[self._me] = (now_ms, own)
        return own

    def told(self, sender: Member, modes: Mapping[Member, LinkMode], now_ms: float) -> None:
        """Take what another member says of its links."""
        self._told[sender] = (now_ms, {member: modes[member] for member in self._members().values() if member in modes})

    def pairs(self, now_ms: float) -> dict[tuple[Member, Member], LinkMode]:
        """The link between each two members, the lower number first, as far as one of them said it of late.

        Where its two ends differ, the link is as far as the farther says.
        """
        found: dict[tuple[Member, Member], LinkMode] = {}
        for member, (at_ms, modes) in sorted(self._told.items()):
            if now_ms - at_ms > KEPT_MS:
                continue
            for peer, mode in modes.items():
                pair = (min(member, peer), max(member, peer))
                found[pair] = max(mode, found.get(pair, mode), key=_NEAREST_FIRST.index)
        return found
