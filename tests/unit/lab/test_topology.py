"""Topology files and the short form of a line's behaviour."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadRequest, ConfigInvalid
from actors.lab.topology import Shape, default_topology, parse_shape, read_topology


@pytest.mark.parametrize(
    ("text", "rate_mbit", "rtt_ms", "loss_percent", "jitter_ms"),
    [
        ("100mbit,50ms,0%", 100, 50, 0, 0),
        ("1gbit,1s", 1000, 1000, 0, 0),
        (" 512kbit , 300us , 0.5% , 2ms ", 0.512, 0.3, 0.5, 2),
        ("unlimited,0ms", 0, 0, 0, 0),
        ("100MBIT,50MS,1%", 100, 50, 1, 0),
    ],
)
def test_short_form(text: str, rate_mbit: float, rtt_ms: float, loss_percent: float, jitter_ms: float) -> None:
    shape = parse_shape(text)
    assert (shape.rate_mbit, shape.rtt_ms) == pytest.approx((rate_mbit, rtt_ms))
    assert (shape.loss_percent, shape.jitter_ms) == pytest.approx((loss_percent, jitter_ms))


@pytest.mark.parametrize(
    "text",
    ["", "100mbit", "100,50ms", "100mbit,50", "-1mbit,50ms", "100mbit,50ms,200%", "1mbit,1ms,0%,1ms,1", "mbit,ms",
     "1e9mbit,5ms", "100mbit,50ms,0"],
)  # fmt: skip
def test_short_form_that_can_not_be_read_is_named(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_shape(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        shape = parse_shape(text)
    except BadRequest:
        return
    assert parse_shape(str(shape)) == shape.model_copy(update={"jitter_ms": 0.0})


@given(st.integers(0, 10_000), st.integers(0, 5000), st.integers(0, 100))
def test_short_form_is_what_a_shape_prints(rate_mbit: int, rtt_ms: int, loss_percent: int) -> None:
    shape = Shape(rate_mbit=rate_mbit, rtt_ms=rtt_ms, loss_percent=loss_percent)
    assert parse_shape(str(shape)) == shape


def test_queue_holds_a_round_trip_unless_it_is_given() -> None:
    assert Shape(rate_mbit=100, rtt_ms=50).queue_bytes == 625_000
    assert Shape(rate_mbit=1, rtt_ms=1).queue_bytes == 128 << 10
    assert Shape(rate_mbit=0).queue_bytes == 16 << 20
    assert Shape(queue_kib=64).queue_bytes == 65536


def test_default_is_two_sites_100_mbit_and_50_ms_apart() -> None:
    topology = default_topology()
    assert [site.node_names for site in topology.sites] == [["london-1"], ["paris-1"]]
    (link,) = topology.links
    assert (link.name, link.rate_bps, link.delay_us) == ("london-paris", 100_000_000, 25_000)
    assert default_topology(shape=parse_shape("1gbit,10ms,1%")).links[0].loss_percent == 1


FILE = """\
name: trio
sites:
  - {name: north, nodes: 2}
  - name: south
  - name: west
links:
  - between: [north, south]
    rtt_ms: 20
  - {name: slow, between: [south, west], rate_mbit: 1, loss_percent: 2}
"""


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(FILE)
    topology = read_topology(file)
    assert [site.node_names for site in topology.sites] == [["north-1", "north-2"], ["south-1"], ["west-1"]]
    assert [link.name for link in topology.links] == ["north-south", "slow"]
    assert topology.links[0].rate_mbit == 100


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("nodes: 2", "nodes: 0", 3, "greater than"),
        ("rtt_ms: 20", "rtt_msec: 20", 8, "not permitted"),
        ("rate_mbit: 1,", "rate_mbit: fast,", 9, "valid number"),
        ("[south, west]", "[south, east]", 1, "two different sites"),
        ("name: west", "name: south", 1, "unique"),
        ("name: trio", "name: [trio", 2, "not valid YAML"),
        ("name: slow", "name: north-south", 1, "unique"),
        ("name: south", "name: South", 4, "match pattern"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, old: str, new: str, line: int, problem: str) -> None:
    file = tmp_path / "lab.yaml"
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigInvalid) as raised:
        read_topology(file)
    assert problem in str(raised.value.fields["problem"])
    assert (raised.value.fields["file"], raised.value.fields["line"]) == (str(file), line)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="can't be read"):
        read_topology(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["", "- 1", "7", "\x00", "sites: []"])
def test_file_that_is_something_else(tmp_path: Path, content: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(content)
    with pytest.raises(ConfigInvalid):
        read_topology(file)
