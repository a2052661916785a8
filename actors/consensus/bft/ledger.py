"""The chain of blocks: what is committed since the last snapshot, what is not yet, and the era it is in."""

from hashlib import sha256
from typing import NamedTuple

import msgspec

from actors.consensus.bft.changes import membership_after
from actors.consensus.bft.era import Era
from actors.consensus.bft.messages import Block, Certificate, EraEnd, Id, Link, Signature, block_id, encode
from actors.consensus.bft.records import from_entries, to_entries
from actors.consensus.ready import Entry, Kind, Member, Membership, Snapshot
from actors.consensus.storage import Storage


class Node(NamedTuple):
    """A block that is not committed, with its id."""

    id: Id
    link: Link

    @property
    def block(self) -> Block:
        """The block."""
        return self.link.block


class Foundation(msgspec.Struct, frozen=True, array_like=True):
    """`Snapshot.proof`: where the log stands besides the state machine's state, and the quorum that says so.

    `tip` is the last block's id and (`view`, `step`) its rank; `numbers` are the last requests of each member; `ends`
    lead from the first era to `era`, whose members signed.
    """

    era: Era
    tip: Id
    view: int
    step: int
    numbers: tuple[tuple[Member, int], ...]
    ends: tuple[EraEnd, ...]
    votes: tuple[tuple[Member, Signature], ...] = ()

    def digest(self, index: int, state: bytes) -> bytes:
        """What members sign of a checkpoint, `state` being the digest of the state machine's state."""
        return sha256(
            encode((index, self.era, self.tip, self.view, self.step, self.numbers, state)),
        ).digest()


_foundations = msgspec.msgpack.Decoder(Foundation)


def foundation_of(snapshot: Snapshot) -> Foundation:
    """What `snapshot.proof` says.

    Raises:
        msgspec.MsgspecError: it is not a `Foundation`.
    """
    return _foundations.decode(snapshot.proof)


def first_era(snapshot: Snapshot, chain: bytes) -> Era:
    """The era that a log without any block is in."""
    root = sha256(encode((chain, snapshot.index, snapshot.term, snapshot.membership))).digest()
    return Era(0, snapshot.membership, root, snapshot.term, 0, snapshot.index)


class Ledger:
    """One member's copy. Grows by `add` (not committed) and `commit`."""

    def __init__(self, storage: Storage, chain: bytes) -> None:
        snapshot = storage.snapshot()
        self.ends: list[EraEnd] = []
        self.numbers: dict[Member, int] = {}
        self.sealed = 0
        self.era = first_era(snapshot, chain)
        self.tip, self.tip_rank, self.last = self.era.root, self.era.root_rank, self.era.last
        if snapshot.proof:
            self._found(snapshot.index, foundation_of(snapshot))
        self.base = snapshot.index
        self.memberships: list[tuple[int, Membership]] = [(self.base, self.era.membership)]
        """The members from that index on."""
        self.chain: list[Link] = []
        self.nodes: dict[Id, Node] = {}
        self.dues: dict[int, tuple[Foundation, Membership]] = {}

    def _found(self, index: int, foundation: Foundation) -> None:
        self.era, self.ends, self.numbers = foundation.era, list(foundation.ends), dict(foundation.numbers)
        self.tip, self.tip_rank, self.last = foundation.tip, (foundation.view, foundation.step), index

    def replay(self, entries: tuple[Entry, ...], interval: int) -> None:
        """Take what the storage holds after the snapshot."""
        for record in from_entries(entries):
            self._take(record.link, EraEnd((record.link, *record.tail), record.certificate), interval)

    def install(self, snapshot: Snapshot, foundation: Foundation) -> None:
        """Begin again from a snapshot that was checked."""
        self._found(snapshot.index, foundation)
        self.base = snapshot.index
        self.memberships = [(self.base, self.era.membership)]
        self.chain.clear()
        self.dues.clear()
        self.nodes = {i: node for i, node in self.nodes.items() if node.block.last > self.last}

    def truncate(self, index: int) -> None:
        """Forget the blocks up to `index`, which a certified snapshot stands for."""
        self.base = index
        self.chain = [link for link in self.chain if link.block.last > index]

    def knows(self, block: Id) -> bool:
        """Whether `block` is the committed tip or after it."""
        return block == self.tip or block in self.nodes

    def add(self, node: Node) -> None:
        """Keep a block whose parent is known."""
        assert self.knows(node.block.parent), "a block without its parent"
        self.nodes[node.id] = node

    def path(self, block: Id) -> list[Node] | None:
        """The blocks after the committed tip up to `block`, both ends known; None if there is a gap."""
        found: list[Node] = []
        while block != self.tip:
            node = self.nodes.get(block)
            if node is None:
                return None
            found.append(node)
            block = node.block.parent
        return found[::-1]

    def numbers_at(self, path: list[Node]) -> dict[Member, int]:
        """The last request of each member at the end of `path`."""
        numbers = dict(self.numbers)
        for node in path:
            numbers.update((request.proposer, request.number) for request in node.block.requests)
        return numbers

    def commit(self, path: list[Node], certificate: Certificate, interval: int) -> tuple[list[Block], list[Entry]]:
        """Commit `path`, whose last block `certificate` commits; stops where the era ends.

        Returns: the blocks and their entries, to be persisted.
        """
        blocks: list[Block] = []
        entries: list[Entry] = []
        for at, node in enumerate(path):
            end = EraEnd(tuple(later.link for later in path[at:]), certificate)
            entries += to_entries(node.link, certificate, end.links[1:] if node.block.change else ())
            blocks.append(node.block)
            if self._take(node.link, end, interval):
                break
        return blocks, entries

    def _take(self, link: Link, end: EraEnd, interval: int) -> bool:
        """Commit one block; whether that ends the era."""
        block = link.block
        passed = block.last // interval > self.last // interval
        self.chain.append(link)
        self.tip, self.tip_rank, self.last = block_id(block), block.rank, block.last
        self.nodes = {i: node for i, node in self.nodes.items() if node.block.first > self.last}
        self.numbers.update((request.proposer, request.number) for request in block.requests)
        if block.change is not None:
            membership = membership_after(block.change, self.era.membership)
            assert membership is not None, "a change was committed that nobody may vote for"
            self.ends.append(end)
            self.era = self.era.after(block, membership)
            self.memberships.append((block.last, membership))
            self.nodes = {}
            if block.change.kind is Kind.SWITCH:
                self.sealed = block.last
        elif not passed:
            return False
        if not self.sealed:
            self.dues[self.last] = (self._foundation(), self.era.membership)
        return block.change is not None

    def _foundation(self) -> Foundation:
        numbers = tuple(sorted(self.numbers.items()))
        return Foundation(self.era, self.tip, *self.tip_rank, numbers, tuple(self.ends))

    def prune(self, high: Certificate) -> None:
        """Forget forks below `high`. A quorum of timeouts can't ask for them: each holder of one now names `high`."""
        path = self.path(high.ballot.block)
        if path is not None:
            kept = {node.id for node in path}
            self.nodes = {i: n for i, n in self.nodes.items() if i in kept or n.block.rank > high.rank}

    def links(self) -> tuple[Link, ...]:
        """All blocks that are not committed, parents first."""
        return tuple(node.link for node in sorted(self.nodes.values(), key=lambda node: node.block.first))
