"""How a snapshot's bytes get from one member to another: piece by piece, asked for by the one that lacks them."""

from collections.abc import Callable

from actors.consensus.chain.parts import Tagged
from actors.consensus.ready import Member
from actors.control import snapshot
from actors.control.model import ControlState
from actors.control.parcels import PIECE_BYTES, AskState, Parcel, StateIs
from actors.errors import NovaCronError

_AGAIN_MS = 2000
_KEPT_MS = 30_000
Post = Callable[[Member, Parcel], bool]
"""Sends; false if it was dropped at once."""


class Giving:
    """The sending side: the bytes of one snapshot are held while somebody fetches them."""

    def __init__(self, load: Callable[[int], bytes | None], post: Post) -> None:
        """`load` gives the bytes of the snapshot of an entry, None if it is not the newest."""
        self._load, self._post = load, post
        self._index, self._bytes, self._used_ms = 0, b"", 0.0

    def asked(self, sender: Member, parcel: AskState, now_ms: float) -> None:
        """Answer with a piece."""
        if parcel.index != self._index:
            loaded = self._load(parcel.index)
            if loaded is None:
                self._post(sender, StateIs(parcel.index, 0, -1))
                return
            self._index, self._bytes = parcel.index, loaded
        self._used_ms = now_ms
        offset = max(0, parcel.offset)
        piece = self._bytes[offset : offset + PIECE_BYTES]
        self._post(sender, StateIs(parcel.index, offset, len(self._bytes), piece))

    def tick(self, now_ms: float) -> None:
        """Let go of what nobody asks for any more."""
        if self._index and now_ms - self._used_ms > _KEPT_MS:
            self._index, self._bytes = 0, b""


class Taking:
    """The receiving side, for one sender: one snapshot at a time; a newer one takes its place."""

    def __init__(self, sender: Member, post: Post) -> None:
        self._from, self._post = sender, post
        self._install: Tagged | None = None
        self._have = bytearray()
        self._asked_ms = 0.0

    def begin(self, install: Tagged, now_ms: float) -> None:
        """Fetch what `install`, an `Install` of either protocol, needs; the same again goes on where it was."""
        running, self._install = self._install, install
        if running is None or _named(running) != _named(install):
            self._have = bytearray()
            self._ask(now_ms)

    def tick(self, now_ms: float) -> None:
        """Ask again for what did not come."""
        if self._install is not None and now_ms - self._asked_ms > _AGAIN_MS:
            self._ask(now_ms)

    def told(self, parcel: StateIs, now_ms: float) -> tuple[Tagged, bytes, ControlState] | None:
        """Take a piece; when it was the last and all of it is right, what came with the sender's message."""
        install = self._install
        if install is None or parcel.index != install.message.snapshot.index:
            return None
        if not len(self._have) < parcel.total_bytes <= snapshot.BYTES_MAX or (
            parcel.offset == len(self._have) and not parcel.piece
        ):
            self._install = None
            return None
        if parcel.offset != len(self._have):
            return None
        self._have += parcel.piece
        if len(self._have) < parcel.total_bytes:
            self._ask(now_ms)
            return None
        whole, self._install, self._have = bytes(self._have), None, bytearray()
        if snapshot.digest_of(whole) != install.message.snapshot.digest:
            return None
        try:
            state = snapshot.decode(whole, f"a snapshot from member {self._from}")
        except NovaCronError:
            return None
        return (install, whole, state) if state.applied == install.message.snapshot.index else None

    def _ask(self, now_ms: float) -> None:
        assert self._install is not None, "nothing is fetched"
        self._asked_ms = now_ms
        self._post(self._from, AskState(self._install.message.snapshot.index, len(self._have)))


def _named(install: Tagged) -> tuple[int, bytes]:
    return install.message.snapshot.index, install.message.snapshot.digest
