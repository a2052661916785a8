"""Who contradicts himself: claims are kept by place, and two of one member that differ are evidence.

Only signatures accuse, never silence or slowness: an honest member says one thing per place, because it writes it down
before it says it. What members heard may differ (a liar tells each something else), so claims that no certificate
agrees with are passed on until they have met their contradiction or are too old.
"""

import itertools
from collections.abc import Iterator

import msgspec

from actors.consensus.bft.messages import Claim, encode
from actors.consensus.bft.notary import Notary
from actors.consensus.ready import Evidence, Member

_PLACES = 256
"""Claims kept of each member; the oldest goes first."""
_SETTLED = 1024

Place = tuple[int, int, int, int]

_claims = msgspec.msgpack.Decoder(Claim)


def proves(evidence: Evidence, notary: Notary) -> bool:
    """Whether `evidence` shows that its member lied: any member comes to the same answer."""
    if len(evidence.proofs) != 2:
        return False
    try:
        first, second = (_claims.decode(proof) for proof in evidence.proofs)
    except msgspec.MsgspecError:
        return False
    return (
        first.member == second.member == evidence.member
        and notary.rules.contradict(first, second)
        and evidence == contradiction(first, second)
        and notary.holds(first)
        and notary.holds(second)
    )


def contradiction(first: Claim, second: Claim) -> Evidence:
    """The evidence that two claims of one place make; the same whichever was heard first."""
    low, high = sorted((first, second), key=lambda claim: claim.content)
    return Evidence(first.member, first.phase.name.lower(), (encode(low), encode(high)))


class Witness:
    """What one member heard others claim. Bounded whatever they send."""

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._heard: dict[Member, dict[Place, Claim]] = {}
        self._settled: dict[Place, bytes] = {}
        self._loose: dict[tuple[Member, Place], Claim] = {}

    def observe(self, claim: Claim, *, checked: bool = False) -> tuple[bool, Evidence | None]:
        """Keep `claim` if it is signed (`checked`: it is known to be).

        Returns: whether it is signed, and what it proves together with an earlier one.
        """
        heard, place = self._heard.setdefault(claim.member, {}), claim.place
        before = heard.get(place)
        if before is not None and before.content == claim.content:
            return checked or before.signature == claim.signature or self._notary.holds(claim), None
        if not checked and not self._notary.holds(claim):
            return False, None
        if before is not None and self._notary.rules.contradict(before, claim):
            return True, contradiction(before, claim)
        heard[place] = claim
        if self._settled.get(place) != claim.content:
            self._loose[(claim.member, place)] = claim
        if len(heard) > _PLACES:
            oldest = next(iter(heard))
            del heard[oldest]
            self._loose.pop((claim.member, oldest), None)
        return True, None

    def remembers(self) -> Iterator[Claim]:
        """All claims that are kept."""
        return (claim for heard in self._heard.values() for claim in heard.values())

    def settle(self, place: Place, content: bytes) -> None:
        """A quorum claims `content` in `place`: who agrees needs no mention any more."""
        if self._settled.get(place) == content:
            return
        self._settled[place] = content
        if len(self._settled) > _SETTLED:
            del self._settled[next(iter(self._settled))]
        for member, heard in self._heard.items():
            claim = heard.get(place)
            if claim is not None and claim.content == content:
                self._loose.pop((member, place), None)

    def loose(self, limit: int) -> tuple[Claim, ...]:
        """Up to `limit` claims that others may hold the contradiction of, in turn."""
        turn = dict(itertools.islice(self._loose.items(), limit))
        for key, claim in turn.items():
            del self._loose[key]
            self._loose[key] = claim
        return tuple(turn.values())
