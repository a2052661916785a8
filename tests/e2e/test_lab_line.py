"""The emulated line does what it says: measured from inside the nodes, with its own counters beside."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from actors.lab.lab import Lab
from actors.lab.line import Change, Line
from actors.lab.topology import default_topology
from tests.e2e.conftest import remove_lab

NAME = "line"
# Sends UDP packets with a number in each; receives until none has come for a second, and prints the numbers' story.
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
pause = __import__("threading").Event().wait
for i in range(int(sys.argv[2])):
    s.sendto(i.to_bytes(4, "big") + bytes(int(sys.argv[3]) - 4), (sys.argv[1], 9000))
    if i % 20 == 19: pause(0.004)
"""
RECEIVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9000))
print("ready", flush=True)
s.settimeout(20)
seen = []
try:
    while True:
        seen.append(int.from_bytes(s.recv(65536)[:4], "big"))
        s.settimeout(1.5)
except TimeoutError:
    print(len(seen), seen == sorted(seen))
"""
FLOOD = """
import socket, sys
s = socket.create_connection((sys.argv[1], 9001))
try:
    while True: s.sendall(bytes(65536))
except OSError: pass
"""
DRAIN = """
import socket
s = socket.create_server(("", 9001))
print("ready", flush=True)
c, _ = s.accept()
while c.recv(1 << 20): pass
"""
CONNECT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 16509), timeout=float(sys.argv[2])).close()
    print("connected")
except TimeoutError: print("timeout")
except OSError as error: print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def bare_lab() -> Iterator[Lab]:
    """Two sites without NovaCron."""
    remove_lab(NAME)
    yield Lab.up(default_topology(NAME))
    remove_lab(NAME)


@pytest.fixture
def line(bare_lab: Lab) -> Iterator[Line]:
    """The line between the sites, as the topology says at the beginning of each test."""
    bare_lab.restore_links()
    yield bare_lab.link("london-paris")
    bare_lab.restore_links()


def ping_times_ms(lab: Lab, count: int) -> list[float]:
    """Round-trip times from London to Paris."""
    shown = lab.run("london-1", ["busybox", "ping", "-c", str(count), "-i", "0.05", lab.node("paris-1").address])
    return [float(found) for found in re.findall(r"time=([\d.]+) ms", shown)]


def until(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    """Wait for `condition`."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"


def python(lab: Lab, node: str, code: str, *words: str) -> "subprocess.Popen[bytes]":
    """Start a Python program on a node."""
    return lab.popen(node, [sys.executable, "-c", code, *words], stdout=subprocess.PIPE)


def ready(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the first line of a program."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def send_numbers(lab: Lab, count: int, size_bytes: int) -> tuple[int, bool]:
    """Send numbered packets to Paris: how many arrived, and whether in order."""
    with python(lab, "paris-1", RECEIVE) as receiver:
        ready(receiver)
        address = lab.node("paris-1").address
        lab.run("london-1", [sys.executable, "-c", SEND, address, str(count), str(size_bytes)])
        assert receiver.stdout is not None
        arrived, ordered = receiver.stdout.readline().split()
    return int(arrived), ordered == b"True"


def connect(lab: Lab, timeout_s: float) -> str:
    """What connecting from London to Paris comes to."""
    return lab.run("london-1", [sys.executable, "-c", CONNECT, lab.node("paris-1").address, str(timeout_s)]).strip()


def test_a_round_trip_takes_the_delays_of_both_ways(bare_lab: Lab, line: Line) -> None:
    at_50_ms = min(ping_times_ms(bare_lab, 10))
    line.change(Change(direction="ab", delay_us=100_000))
    at_125_ms = min(ping_times_ms(bare_lab, 10))
    # The least of ten: on a busy machine single packets are late, none is ever early.
    assert 50.0 <= at_50_ms < 60.0
    assert 125.0 <= at_125_ms < 137.5


def test_jitter_varies_the_delay_and_keeps_the_order(bare_lab: Lab, line: Line) -> None:
    line.change(Change(direction="ab", jitter_us=20_000))
    times = ping_times_ms(bare_lab, 40)
    assert max(times) - min(times) > 10.0
    assert min(times) >= 30.0
    assert send_numbers(bare_lab, 500, 100) == (500, True)


@pytest.mark.parametrize("rate_bps", [8_000_000, 40_000_000])
def test_a_flood_comes_through_at_the_rate(bare_lab: Lab, line: Line, rate_bps: int) -> None:
    line.change(Change(rate_bps=rate_bps, delay_us=5000, queue_bytes=100_000))
    with python(bare_lab, "paris-1", DRAIN) as drain:
        ready(drain)
        with python(bare_lab, "london-1", FLOOD, bare_lab.node("paris-1").address) as flood:
            start_bytes = line.state().ab.out_bytes
            until(lambda: line.state().ab.out_bytes > start_bytes + rate_bps // 16, "TCP has found its speed")
            before, before_s = line.state().ab, time.monotonic()
            until(lambda: line.state().ab.out_bytes > before.out_bytes + rate_bps // 8, "a second's worth came")
            after, after_s = line.state().ab, time.monotonic()
            flood.kill()
    measured_bps = (after.out_bytes - before.out_bytes) * 8 / (after_s - before_s)
    assert measured_bps == pytest.approx(rate_bps, rel=0.2)


def test_loss_takes_its_share_at_random(bare_lab: Lab, line: Line) -> None:
    line.change(Change(direction="ab", loss_ppm=200_000))
    before = line.state().ab
    arrived, ordered = send_numbers(bare_lab, 2000, 100)
    after = line.state().ab
    # 2,000 packets at 20 %: 400 ± 18; five of those deviations either way.
    assert after.lost_packets - before.lost_packets == pytest.approx(400, abs=90)
    assert arrived == pytest.approx(1600, abs=90)
    assert ordered


def test_a_full_queue_drops_what_comes_last(bare_lab: Lab, line: Line) -> None:
    line.change(Change(direction="ab", rate_bps=1_000_000, queue_bytes=10_000))
    before = line.state().ab
    arrived, _ = send_numbers(bare_lab, 300, 1000)
    after = line.state().ab
    drops = after.queue_drops - before.queue_drops
    assert drops > 100
    assert arrived == pytest.approx(300 - drops, abs=5)
    assert after.queued_bytes <= 10_000


def test_bytes_are_counted_each_way(bare_lab: Lab, line: Line) -> None:
    before = line.state()
    assert send_numbers(bare_lab, 400, 1000) == (400, True)
    after = line.state()
    # 1,000 bytes and 28 of UDP's and IP's headers each.
    assert after.ab.in_bytes - before.ab.in_bytes == pytest.approx(400 * 1028, abs=3000)
    assert after.ab.out_bytes - before.ab.out_bytes == pytest.approx(400 * 1028, abs=3000)
    assert after.ab.out_packets - before.ab.out_packets == pytest.approx(400, abs=20)
    assert after.ba.in_bytes - before.ba.in_bytes < 3000


def test_a_cut_line_refuses_at_once_and_heals(bare_lab: Lab, line: Line) -> None:
    line.change(Change(state="cut"))
    assert connect(bare_lab, 20.0) == "EHOSTUNREACH"
    assert line.state().ab.cut_drops >= 1
    line.change(Change(state="pass"))
    assert connect(bare_lab, 20.0) == "connected"


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_a_hole_swallows_one_direction_silently(bare_lab: Lab, line: Line, direction: str) -> None:
    line.change(Change(direction=direction, state="hole"))  # type: ignore[arg-type]
    assert connect(bare_lab, 2.0) == "timeout"
    state = line.state()
    dark, bright = (state.ab, state.ba) if direction == "ab" else (state.ba, state.ab)
    assert dark.hole_drops >= 1
    assert bright.state == "pass"
    line.change(Change(state="pass"))
    assert connect(bare_lab, 20.0) == "connected"
