"""Two session engines over a simulated network: a seed replays delays, losses, duplicates and the programs' moods."""

import random
from collections import defaultdict, deque

from actors.transport.channel import Limits
from actors.transport.frames import Frame
from actors.transport.session import CONTROL, Opened, SessionEngine, WasReset

PAYLOAD_BYTES = 1000
WINDOW_BYTES = 16384


class Pipe:
    """One direction of one connection: in order, delayed; what is in it when it is cut is lost, except a prefix."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.capacity = 6


class Side:
    """One node: an engine, the connections it believes in, and an application that writes, reads and ends."""

    def __init__(self, *, initiator: bool) -> None:
        limits = Limits(
            payload_bytes=PAYLOAD_BYTES,
            window_bytes=WINDOW_BYTES,
            window_max_bytes=WINDOW_BYTES,
            peer_window_bytes=WINDOW_BYTES,
            queue_bytes=4 * PAYLOAD_BYTES,
        )
        self.engine = SessionEngine(initiator=initiator, limits=limits)
        self.connections: set[int] = set()
        self.written: dict[int, bytearray] = defaultdict(bytearray)
        self.got: dict[int, bytearray] = defaultdict(bytearray)
        self.services: dict[int, str] = {}
        self.resets: dict[int, str] = {}
        self.given_up: set[int] = set()
        self.ended: set[int] = set()
        self.end_seen: set[int] = set()
        self.open: set[int] = set()

    def collect(self) -> None:
        for event in self.engine.events():
            if isinstance(event, Opened):
                assert event.channel not in self.services, "opened twice"
                self.services[event.channel] = event.service
                self.open.add(event.channel)
            elif isinstance(event, WasReset):
                self.resets[event.channel] = event.reason
                self.open.discard(event.channel)


class Simulation:
    """Runs both sides step by step.

    Args:
        seed: replays the run exactly.
        channels: opened by each side at random moments.
        bytes_per_channel: written in each direction of each channel, at most.
        reset_share: probability that a side gives a channel up in the middle.
        cut_share: probability per step that some connection is cut.
        steal_share: probability per step and connection that overdue frames are looked for.
    """

    def __init__(
        self,
        seed: int,
        channels: int = 3,
        bytes_per_channel: int = 40000,
        reset_share: float = 0.0,
        cut_share: float = 0.01,
        steal_share: float = 0.1,
    ) -> None:
        self.random = random.Random(seed)
        self.sides = (Side(initiator=True), Side(initiator=False))
        self.pipes: dict[tuple[int, int], Pipe] = {}
        self.down_for: dict[tuple[int, int], int] = {}
        self.goal = bytes_per_channel
        self.to_open = [channels, channels]
        self.reset_share = reset_share
        self.cut_share = cut_share
        self.steal_share = steal_share
        self.now_s = 0.0
        self.next_connection = 0
        self.cuts = 0
        self.most_buffered = 0

    def run(self, steps_max: int = 60000) -> None:
        """Step until both applications have ended and read everything, then check that nothing is left."""
        for _ in range(steps_max):
            self.step()
            if self.finished():
                return
        raise AssertionError(f"not finished: {[(s.engine.channels, s.engine.resets_pending) for s in self.sides]}")

    def finished(self) -> bool:
        quiet = not any(self.to_open) and all(s.engine.channels == [CONTROL] for s in self.sides)
        return quiet and not any(s.engine.resets_pending for s in self.sides)

    def step(self) -> None:
        self.now_s += 1.0
        live = [c for c in self.sides[0].connections if c in self.sides[1].connections]
        if len(live) < 3 and self.random.random() < 0.2:
            self.connect()
        if live and self.random.random() < self.cut_share:
            self.cut(self.random.choice(live))
        for key in [key for key, left in self.down_for.items() if left <= 0]:
            self.notice(key)
        for key in self.down_for:
            self.down_for[key] -= 1
        for number, side in enumerate(self.sides):
            self.application(number, side)
            self.carry(number, side)
            self.deliver(number, side)
            side.collect()

    def connect(self) -> None:
        number = self.next_connection
        self.next_connection += 1
        for end, side in enumerate(self.sides):
            side.connections.add(number)
            self.pipes[number, end] = Pipe()

    def cut(self, connection: int) -> None:
        """Both directions lose a random suffix; each side notices at its own time."""
        self.cuts += 1
        for end in (0, 1):
            pipe = self.pipes[connection, end]
            for _ in range(self.random.randint(0, len(pipe.frames))):
                pipe.frames.pop()
            pipe.capacity = 0
            self.down_for[connection, end] = self.random.randint(0, 60)

    def notice(self, key: tuple[int, int]) -> None:
        """The side notices: what had arrived is still read (TCP delivers it first), then the connection is gone."""
        del self.down_for[key]
        connection, end = key
        incoming = self.pipes[connection, 1 - end]
        while incoming.frames:
            self.sides[end].engine.receive(incoming.frames.popleft())
        self.sides[end].connections.remove(connection)
        self.sides[end].engine.connection_down(connection)
        self.sides[end].collect()

    def carry(self, end: int, side: Side) -> None:
        for connection in side.connections:
            pipe = self.pipes[connection, end]
            if len(side.connections) > 1 and self.random.random() < self.steal_share:
                side.engine.steal(self.now_s, 20.0)
            stuck = pipe.capacity == 0 and self.random.random() < 0.1
            while (len(pipe.frames) < pipe.capacity and self.random.random() < 0.7) or stuck:
                may_send = side.engine.may_send
                frame = side.engine.next_frame(connection, bulk=self.random.random() < 0.9, now_s=self.now_s)
                assert may_send or frame is None
                if frame is None:
                    break
                if stuck:  # written into a connection that is already dead
                    break
                pipe.frames.append(frame)

    def deliver(self, end: int, side: Side) -> None:
        for connection in side.connections:
            pipe = self.pipes[connection, 1 - end]
            while pipe.frames and self.random.random() < 0.6:
                frame = pipe.frames.popleft()
                side.engine.receive(frame)
                if self.random.random() < 0.05:
                    side.engine.receive(frame)
        for channel in side.engine.channels:
            buffered = side.engine.buffered_bytes(channel)
            assert buffered <= WINDOW_BYTES, "the receiver holds more than its window"
            self.most_buffered = max(self.most_buffered, buffered)

    def application(self, number: int, side: Side) -> None:
        if self.to_open[number] and self.random.random() < 0.05:
            self.to_open[number] -= 1
            channel = side.engine.open(f"s{self.to_open[number]}", self.random.randint(0, 3))
            side.open.add(channel)
        for channel in sorted(side.open):
            if channel in side.given_up or channel in side.resets:
                continue
            self.write(side, channel)
            self.read(side, channel)
            if self.random.random() < self.reset_share / 100:
                side.engine.reset(channel, "changed its mind")
                side.given_up.add(channel)

    def write(self, side: Side, channel: int) -> None:
        if channel in side.ended or self.random.random() < 0.3:
            return
        room = side.engine.send_room(channel)
        if room and len(side.written[channel]) < self.goal:
            data = self.random.randbytes(self.random.randint(1, room))
            side.written[channel] += data
            side.engine.send(channel, data)
        elif len(side.written[channel]) >= self.goal or self.random.random() < 0.001:
            side.ended.add(channel)
            side.engine.end(channel, closed=self.random.random() < 0.5)

    def read(self, side: Side, channel: int) -> None:
        while channel not in side.end_seen and self.random.random() < 0.5:
            data = side.engine.take(channel)
            if data is None:
                return
            if data == b"":
                side.end_seen.add(channel)
            side.got[channel] += data
