"""The parser finds every page wherever the stream is cut, and nothing that it meets stops it."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import records as rec
from actors.encoding.parser import Mode
from tests.unit.encoding import kit
from tests.unit.encoding.machines import RECIPES

# Recipes whose stream has the guest's pages as records in the one channel that is ours, and how many at least.
WITH_PAGES = [name for name in RECIPES if name not in ("multifd", "mapped-ram")]
MACHINE_PAGES = (64 << 20) // 4096


@pytest.mark.parametrize("name", WITH_PAGES)
def test_every_page_of_a_recorded_stream_is_found(name: str, recorded: Callable[[str], bytes]) -> None:
    stream = recorded(name)
    found, parser = kit.found_pages([stream])
    assert parser.mode is Mode.SECTION, "the parser was in step to the end"
    # A named zero page is no record of its own: one for each RAM block and section at most.
    assert len(found) >= MACHINE_PAGES - 200
    page_bytes = sum(4096 for _, kind in found if kind != rec.ZERO_RECORD)
    zero_bytes = sum(9 for _, kind in found if kind == rec.ZERO_RECORD)
    assert len(stream) - page_bytes - zero_bytes < 1 << 20


@pytest.mark.parametrize("name", ["multifd", "mapped-ram"])
def test_pages_that_travel_elsewhere_leave_the_parser_unharmed(name: str, recorded: Callable[[str], bytes]) -> None:
    stream = recorded(name)
    found, _ = kit.found_pages([stream])
    assert not [kind for _, kind in found if kind == rec.PAGE_RECORD]


@pytest.mark.parametrize("name", ["several-rounds", "xbzrle", "background-snapshot", "two-blocks", "return-path"])
def test_cuts_change_nothing_that_is_found(name: str, recorded: Callable[[str], bytes]) -> None:
    stream = recorded(name)
    whole, _ = kit.found_pages([stream])
    starts = np.array([offset for offset, _ in whole])
    # Where something other than the next record of the same kind follows, and the stream's first and last bytes.
    gaps = starts[1:] - starts[:-1]
    edges = starts[1:][np.diff(gaps, prepend=gaps[0]) != 0]
    some = edges[:: max(1, len(edges) // 150)].tolist()
    edges = [*some, *range(0, 400, 7), *range(len(stream) - 400, len(stream), 7)]
    for shift in range(-14, 15):
        parts = kit.pieces(stream, [edge + shift for edge in edges])
        found, parser = kit.found_pages(parts)
        assert found == whole, f"cut {shift} bytes from the edges"
        assert parser.mode is Mode.SECTION


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_cuts_change_nothing_in_synthetic_streams(seed: int, data: st.DataObject) -> None:
    stream = kit.guest_stream(seed, pages=6, rounds=2)
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=40))
    assert kit.found_pages(kit.pieces(stream, cuts))[0] == kit.found_pages([stream])[0]


def test_byte_by_byte() -> None:
    stream = kit.guest_stream(5, pages=3, rounds=2)
    found, parser = kit.found_pages(kit.pieces(stream, range(len(stream))))
    assert found == kit.found_pages([stream])[0]
    assert parser.mode is Mode.SECTION


def test_pages_after_the_switchover_command_are_found() -> None:
    last = kit.page(4096, b"x" * 4096)
    stream = kit.FILE_HEADER + kit.CONFIGURATION + kit.section(1, kit.block_list(("ram", 8192))) + kit.SWITCHOVER
    stream += kit.section(3, kit.page(0, b"y" * 4096, "ram") + last + kit.EOS) + kit.DESCRIPTION
    found, _ = kit.found_pages([stream])
    assert [(kind, stream[at : at + 8]) for at, kind in found][-1] == (rec.PAGE_RECORD, struct.pack(">Q", 4096 | 0x28))


def test_device_state_is_left_at_its_footer_and_not_before() -> None:
    # The state holds a footer of its own section, but nothing that may follow one.
    state = b"ab" + struct.pack(">BI", 0x7E, 7) + b"\x99 more"
    stream = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 8192)))
    stream += kit.section(1, state, section_id=7, name="slirp")
    stream += kit.section(2, kit.page(0, b"y" * 4096, "ram") + kit.EOS)
    assert [kind for _, kind in kit.found_pages([stream])[0]] == [rec.PAGE_BODY]


def test_what_can_not_be_a_stream_is_passed_by() -> None:
    found, parser = kit.found_pages([b"HTTP/1.1 400 no", kit.page(0, bytes(4096)) * 10])
    assert (found, parser.mode) == ([], Mode.GIVEN_UP)


def test_rounds_are_counted_when_addresses_start_over() -> None:
    body = kit.page(0, b"a" * 4096, "ram") + kit.zero(4096) + kit.zero(8192)
    stream = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 1 << 16)))
    stream += kit.section(2, body + kit.EOS) * 3
    assert kit.found_pages([stream])[1].rounds == 2


@given(st.binary(max_size=300), st.integers(0, 2**32), st.integers(0, 4000))
@settings(max_examples=80, deadline=None)
def test_rubbish_in_the_middle_never_stops_the_parser(rubbish: bytes, seed: int, at: int) -> None:
    stream = kit.guest_stream(seed, pages=4, rounds=1)
    kit.found_pages([stream[:at] + rubbish + stream[at:]])
