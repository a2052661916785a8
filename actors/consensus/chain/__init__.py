"""Switching between Raft and BFT at a committed place in the log, and when to (see docs/consensus.md)."""

from actors.consensus.chain.choice import Choice, LinkMode, Thresholds
from actors.consensus.chain.core import Chain
from actors.consensus.chain.cores import Cores
from actors.consensus.chain.parts import ChainReady, Protocol, Shelf, Tagged, switch_to
from actors.consensus.chain.rules import RULES, Rules

__all__ = [
    "RULES",
    "Chain",
    "ChainReady",
    "Choice",
    "Cores",
    "LinkMode",
    "Protocol",
    "Rules",
    "Shelf",
    "Tagged",
    "Thresholds",
    "switch_to",
]
