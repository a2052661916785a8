"""The session engine under a seeded simulation: everything arrives exactly once, in order, in bounded memory."""

import pytest

from tests.unit.transport.simulation import WINDOW_BYTES, Simulation

CUT_SHARES = (0.0, 0.02, 0.08, 0.2)


def _check_everything_arrived(run: Simulation) -> None:
    first, second = run.sides
    assert first.written.keys() == second.written.keys()
    for one, other in ((first, second), (second, first)):
        for channel, written in one.written.items():
            assert other.got[channel] == written
            assert channel in other.end_seen


@pytest.mark.parametrize("seed", range(60))
def test_every_byte_arrives_once_and_in_order_whatever_is_cut(seed: int) -> None:
    run = Simulation(seed, cut_share=CUT_SHARES[seed % 4], steal_share=0.1 * (seed % 3))
    run.run()
    _check_everything_arrived(run)
    assert not run.sides[0].resets
    assert not run.sides[1].resets
    if not run.cuts and not run.steal_share:
        assert all(side.engine.resent_bytes == 0 for side in run.sides), "nothing is resent on whole connections"
    if seed % 4 == 3:
        assert run.cuts > 3
        assert any(side.engine.resent_bytes for side in run.sides)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_given_up_channels_end_on_both_sides_and_spoil_no_other(seed: int) -> None:
    run = Simulation(seed, channels=6, bytes_per_channel=15000, reset_share=0.5, cut_share=0.03)
    run.run()
    first, second = run.sides
    for one, other in ((first, second), (second, first)):
        gone = one.given_up | other.given_up
        for channel in one.written:
            expected = bytes(one.written[channel])
            if channel in gone:
                assert expected.startswith(bytes(other.got[channel]))
            else:
                assert other.got[channel] == expected
        for channel in one.resets:
            assert channel in other.given_up, "only what was given up is reset"


def test_a_slow_reader_fills_the_window_and_no_more() -> None:
    run = Simulation(7, channels=1, bytes_per_channel=60000, cut_share=0.0)
    run.run()
    assert WINDOW_BYTES / 2 < run.most_buffered <= WINDOW_BYTES
