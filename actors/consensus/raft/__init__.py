"""Raft: the mode of ACP for members that trust each other (see docs/consensus.md).

After Ongaro's thesis (Consensus: Bridging Theory and Practice, 2014), with the shape of etcd's raft.
"""

from actors.consensus.raft.config import Config
from actors.consensus.raft.core import Raft
from actors.consensus.raft.messages import Message

__all__ = ["Config", "Message", "Raft"]
