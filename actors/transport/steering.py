"""What is decided about one link every second: its mode, how congestion is controlled, how many connections it has."""

from collections import deque

import msgspec

from actors.config.schema import Transport
from actors.transport.messages import LinkSample
from actors.transport.modes import Mode, ModeDetector, Switch
from actors.transport.tuner import StreamTuner

_BUSY_SHARE = 0.5
_FULL_SHARE = 0.8
_SWITCHES_KEPT = 32


class Rules(msgspec.Struct, frozen=True):
    """What a mode means to the transport: congestion control, bounds of the number of connections, least frame size."""

    congestion: str
    streams_least: int
    streams_most: int
    frame_bytes: int = 0


RULES: dict[Mode, Rules] = {
    "datacenter": Rules("cubic", 1, 8, 131_072),
    "hybrid": Rules("bbr", 1, 64),
    "internet": Rules("bbr", 2, 256),
}


PLAIN = Rules("cubic", 1, 1)
"""What holds where AMST is switched off."""


class Steering:
    """Decisions about the link to one peer. Pure: the caller carries them out.

    Args:
        peer, site: names; entries of ``transport.links`` for either hold, the node's own first.
    """

    def __init__(self, settings: Transport, peer: str, site: str) -> None:
        entries = [each for name in (peer, site) for each in settings.links if each.peer == name]
        forced = next((each.mode for each in entries if each.mode != "auto"), None)
        capacity_mbit = next((each.capacity_mbit for each in entries if each.capacity_mbit), 0.0)
        self._settings = settings
        self.detector = ModeDetector(forced, capacity_mbit * 125_000)
        self.plain = False
        self.switches: deque[Switch] = deque(maxlen=_SWITCHES_KEPT)
        self.switches_total = 0
        rules = self.rules
        self._tuner = StreamTuner(settings.streams, rules.streams_least, rules.streams_most)
        self._streams_asked = 0

    @property
    def rules(self) -> Rules:
        """What holds now; a congestion control that is configured holds in every mode."""
        rules = PLAIN if self.plain else RULES[self.detector.mode]
        measured = self.plain or self._settings.congestion == "auto"
        congestion = rules.congestion if measured else self._settings.congestion
        most = max(1, min(rules.streams_most, self._settings.streams_max))
        frame_bytes = max(rules.frame_bytes, self._settings.frame_bytes)
        return Rules(congestion, min(rules.streams_least, most), most, frame_bytes)

    @property
    def streams(self) -> int:
        """How many connections the link should have."""
        return self._tuner.streams

    def start_from(self, streams: int) -> int:
        """Begin anew with so many connections, within the mode's bounds; the same hint again changes nothing."""
        if streams != self._streams_asked:
            self._streams_asked = streams
            self._tuner.hint(streams)
        return self._tuner.streams

    def follow(self, streams: int) -> int:
        """The peer wants so many connections: begin anew from there, within the mode's bounds."""
        self._tuner.hint(streams)
        return self._tuner.streams

    def simplify(self, *, plain: bool) -> bool:
        """Hold to one connection (`plain`), or no longer; true when that is news."""
        if plain == self.plain:
            return False
        self.plain = plain
        self._tuner.bound(self.rules.streams_least, self.rules.streams_most)
        if not plain:
            self._tuner.hint(self._settings.streams)
        return True

    def force(self, mode: Mode | None, at: float) -> Switch | None:
        """See `ModeDetector.force`."""
        return self._note(self.detector.force(mode, at))

    def tick(self, sample: LinkSample) -> Switch | None:
        """Take the second's measurements in; gives the switch of mode if there was one."""
        busy_share = min(1.0, sample.busy_share)
        full = sample.acked_bytes / busy_share if busy_share >= _FULL_SHARE else 0.0
        switch = self._note(self.detector.observe(sample.at, sample.rtt_ms, full))
        self._tuner.tick(sample.acked_bytes, sample.loss, busy=busy_share >= _BUSY_SHARE)
        return switch

    def _note(self, switch: Switch | None) -> Switch | None:
        if switch is not None:
            self.switches.append(switch)
            self.switches_total += 1
            self._tuner.bound(self.rules.streams_least, self.rules.streams_most)
        return switch
