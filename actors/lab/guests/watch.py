"""Follows a guest's console over the nodes that it visits, each of which keeps its own file of it."""

import time
from collections.abc import Mapping
from pathlib import Path

from actors.errors import DeadlineExceeded
from actors.lab.guests.ticks import Tick, Verdict, lines, parse_ticks, verdict

_POLL_S = 0.1


class Watch:
    """The console of one guest, joined in the order of its visits.

    Args:
        guest: its name, for messages.
        files: the console's file on each node, as this machine sees it.
        first: the node it starts on.
    """

    def __init__(self, guest: str, files: Mapping[str, Path], first: str) -> None:
        self._guest = guest
        self._files = dict(files)
        self._node = first
        self._read = dict.fromkeys(files, 0)
        self._console = b""

    @property
    def verdict(self) -> Verdict:
        """What the guest has said so far."""
        return verdict(self._console)

    @property
    def said(self) -> list[str]:
        """All its undamaged lines so far."""
        return lines(self._console)

    @property
    def ticks(self) -> list[Tick]:
        """All its ticks so far."""
        return parse_ticks(self._console)

    def arrived(self, node: str) -> None:
        """From now on the guest prints on `node`; what it still printed where it was is read first."""
        self.read()
        self._node = node

    def read(self) -> None:
        """Take what is new."""
        file, seen = self._files[self._node], self._read[self._node]
        content = file.read_bytes() if file.exists() else b""
        # A file shorter than before was begun anew when the guest came back.
        self._console += content[seen:] if len(content) >= seen else content
        self._read[self._node] = len(content)

    def until_ticks(self, more: int, deadline_s: float) -> Verdict:
        """The verdict when `more` ticks have been added.

        Raises:
            DeadlineExceeded: they did not come.
        """
        self.read()
        goal = self.verdict.ticks + more
        until = time.monotonic() + deadline_s
        while True:
            self.read()
            now = self.verdict
            if now.ticks >= goal:
                return now
            if time.monotonic() > until:
                what = f"{more} more ticks of guest {self._guest} on {self._node} (problems: {now.problems})"
                raise DeadlineExceeded(what=what, deadline_s=deadline_s)
            time.sleep(_POLL_S)
