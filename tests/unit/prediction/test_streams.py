"""The stream count rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bandwidth.streams import MOST, MSS_BYTES, streams_for

MBIT = 125_000


@pytest.mark.parametrize(
    ("rate", "rtt_s", "loss", "streams"),
    [
        (1250 * MBIT, 0.0005, 0.0, 2),  # near: two
        (100 * MBIT, 0.050, 0.0, 4),  # far without loss: the floor
        (1000 * MBIT, 0.100, 0.0, 6),  # 12.5 MB in flight: windows decide
        (100 * MBIT, 0.050, 0.001, 12),  # loss decides
        (1000 * MBIT, 0.200, 0.01, MOST),
        (0.0, 0.0, 0.0, 2),
    ],
)
def test_rule(rate, rtt_s, loss, streams):
    assert streams_for(rate, rtt_s, loss) == streams


@given(st.floats(1e4, 1e9), st.floats(0.011, 0.5), st.floats(1e-6, 0.05))
def test_that_many_streams_carry_the_rate_by_mathis_formula(rate, rtt_s, loss):
    streams = streams_for(rate, rtt_s, loss)
    one_stream = 1.22 * MSS_BYTES / (rtt_s * loss**0.5)
    assert streams == MOST or streams * one_stream >= rate * 0.999
