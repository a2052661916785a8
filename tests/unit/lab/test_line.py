"""What is said to the link emulators, and how their answers are read."""

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import Failed, Unreachable
from actors.lab import netem, wanlink
from actors.lab.line import Change
from actors.lab.netem import Behaviour, NetemLine
from actors.lab.plan import LinkPlan, make_plan
from actors.lab.topology import default_topology

WAY: dict[str, int] = {
    "rate_bps": 100_000_000, "delay_us": 25_000, "jitter_us": 0, "loss_ppm": 0, "queue_bytes": 625_000, "state": 1,
    "queued_bytes": 3, "in_packets": 10, "in_bytes": 1000, "out_packets": 7, "out_bytes": 700, "lost_packets": 1,
    "queue_drops": 1, "hole_drops": 1, "cut_drops": 0,
}  # fmt: skip
PLANNED = Behaviour(rate_bps=100_000_000, delay_us=25_000, jitter_us=0, loss_ppm=0, queue_bytes=625_000)


@pytest.fixture
def link(tmp_path: Path) -> LinkPlan:
    """The default lab's line, its control socket in a directory of this test's."""
    return make_plan(default_topology(), "0" * 32, 77, "netem", tmp_path, tmp_path / "run").links[0]


def test_a_change_becomes_one_line_per_direction() -> None:
    assert wanlink.encode_change(Change(rate_bps=5, state="cut")) == [
        "set ab rate_bps=5 state=2",
        "set ba rate_bps=5 state=2",
    ]
    assert wanlink.encode_change(Change(direction="ba", loss_ppm=0)) == ["set ba loss_ppm=0"]
    assert wanlink.encode_change(Change(direction="ab")) == []


def test_the_answer_to_show_is_read() -> None:
    state = wanlink.decode_state(json.dumps({"ab": WAY, "ba": WAY | {"state": 0, "out_bytes": 9}}).encode())
    assert (state.ab.state, state.ba.state) == ("hole", "pass")
    assert (state.ab.out_bytes, state.ba.out_bytes) == (700, 9)


@given(
    st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b'{"ab":{}}', b'{"ab":{"state":7}}', b'{"ab":1}', b"[]"]))
)
def test_any_other_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(Failed):
        wanlink.decode_state(answer)


def test_an_emulator_that_is_not_there_or_falls_silent_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        wanlink.WanLink(tmp_path / "none.sock").state()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "mute.sock"))
    listener.listen()

    def close_in_the_middle() -> None:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.sendall(b'{"ab":')
        connection.close()

    peer = threading.Thread(target=close_in_the_middle)
    peer.start()
    with pytest.raises(Unreachable, match="closed in the middle"):
        wanlink.WanLink(tmp_path / "mute.sock").state()
    peer.join()
    listener.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "limit 626 delay 25000us rate 100000000bit"),
        ({"jitter_us": 2000, "loss_ppm": 5000}, "limit 642 delay 25000us 2000us loss 0.5% rate 100000000bit"),
        ({"state": "hole"}, "limit 626 delay 25000us loss 100% rate 100000000bit"),
        ({"rate_bps": 0, "queue_bytes": 15000}, "limit 11 delay 25000us"),
    ],
)
def test_netem_is_told_the_whole_behaviour(changes: dict[str, Any], words: str) -> None:
    way = Behaviour(**({name: getattr(PLANNED, name) for name in PLANNED.__struct_fields__} | changes))
    first, second = netem.qdisc_commands("wan0", way)
    assert " ".join(first) == f"tc qdisc replace dev wan0 root handle 1: netem {words}"
    assert " ".join(second).startswith("tc qdisc replace dev wan0 parent 1:1 handle 2: pfifo limit ")


def test_netem_refuses_only_while_cut() -> None:
    assert [command[1] for command in netem.cut_commands("wan0", "pass")] == ["add", "delete"]
    reject = " ".join(netem.cut_commands("wan0", "cut")[-1])
    assert reject.endswith("forward oifname wan0 counter reject with icmpx host-unreachable")


class Routers:
    """Records what is run on the routers, and answers as `tc` does."""

    def __init__(self, drops: int = 0) -> None:
        self.ran: list[tuple[str, str]] = []
        self.drops = drops

    def __call__(self, site: str, argv: Sequence[str]) -> str:
        self.ran.append((site, " ".join(argv)))
        netem_figures = {"kind": "netem", "bytes": 5000, "packets": 9, "drops": self.drops, "backlog": 100, "qlen": 1}
        return json.dumps([netem_figures, {"kind": "pfifo", "bytes": 5000}])


def test_netem_keeps_the_loss_while_the_line_is_a_hole(link: LinkPlan) -> None:
    link.control.parent.mkdir(parents=True)
    routers = Routers(drops=3)
    line = NetemLine(link, routers)
    line.change(Change(direction="ab", loss_ppm=10_000))
    line.change(Change(direction="ab", state="hole"))
    assert "loss 100%" in [words for site, words in routers.ran if site == "london" and "netem" in words][-1]
    line.change(Change(direction="ab", state="pass"))
    assert "loss 1%" in [words for site, words in routers.ran if "netem" in words][-1]
    assert all(site == "london" for site, _ in routers.ran)
    state = line.state()
    assert (state.ab.loss_ppm, state.ba.loss_ppm) == (10_000, 0)
    assert (state.ab.in_packets, state.ab.out_packets, state.ab.lost_packets) == (12, 9, 3)
    assert (state.ab.out_bytes, state.ab.queued_bytes) == (5000, 100)
    assert routers.ran[-1][0] == "paris"


def test_netem_cuts_both_ways_at_their_own_routers(link: LinkPlan) -> None:
    link.control.parent.mkdir(parents=True)
    routers = Routers()
    NetemLine(link, routers).change(Change(state="cut"))
    rejects = [site for site, words in routers.ran if "reject" in words]
    assert rejects == ["london", "paris"]


@pytest.mark.parametrize("statistics", ["", "[]", "{}", '[{"kind":"noqueue"}]', '[{"kind":"netem","bytes":"x"}]'])
def test_netem_that_is_gone_is_told(statistics: str) -> None:
    with pytest.raises(Failed):
        netem.read_way(PLANNED, statistics)
