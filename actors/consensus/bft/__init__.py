"""BFT mode: a chained protocol with n ≥ 3f + 1 (see docs/consensus.md)."""

from actors.consensus.bft.core import BftCore
from actors.consensus.bft.keys import Ed25519Keys, Keys
from actors.consensus.bft.messages import BftMessage
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.rules import RULES, Rules
from actors.consensus.bft.settings import BftSettings

__all__ = ["RULES", "BftCore", "BftMessage", "BftSettings", "Ed25519Keys", "Keys", "Notary", "Rules"]
