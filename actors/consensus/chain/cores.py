"""How the core of a part is made."""

import msgspec

from actors.consensus.bft import BftCore, BftSettings, Keys
from actors.consensus.chain.parts import Protocol
from actors.consensus.chain.rules import Rules
from actors.consensus.raft import Config, Raft
from actors.consensus.ready import Member
from actors.consensus.storage import Storage


class Cores:
    """One member's settings for both protocols. `bft.chain` names the whole log; `seed` is `Raft`'s."""

    def __init__(self, me: Member, raft: Config, bft: BftSettings, keys: Keys, seed: int) -> None:
        self.me = me
        self._raft, self._bft, self._keys, self._seed = raft, bft, keys, seed

    def open(self, part: int, protocol: Protocol, storage: Storage, applied: int, rules: Rules) -> Raft | BftCore:
        """The core of a part; `applied` is the last entry of it that the state machine has applied."""
        if protocol is Protocol.RAFT:
            return Raft(self.me, storage, self._raft, self._seed, applied, rules.raft)
        named = msgspec.structs.replace(self._bft, chain=b"%s/%d" % (self._bft.chain, part))
        return BftCore(self.me, self._keys, storage, named, rules.bft)
