"""A net as it is served says what torch says; weights that are none are refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bandwidth.inference import BINS, EDGES, Lstm
from models.bandwidth.module import Net, Shape
from models.bandwidth.seeing import COLUMNS, FEATURES, LEVEL, SIMPLE_METHODS

torch.set_num_threads(1)


def drawn(seed: int, hidden: int = 5, width: int = 7, times: float = 1.0) -> Net:
    """A net whose weights, scalers and columns are drawn; `times` makes its gates saturate."""
    torch.manual_seed(seed)
    net = Net(Shape(COLUMNS, FEATURES, hidden, width)).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(times)
        net.mean.normal_()
        net.scale.uniform_(0.1, 3)
        net.mean[torch.rand(FEATURES) < 0.1] = torch.nan  # never met in training
        net.used.copy_(torch.rand(COLUMNS) < 0.8)
    return net


@given(
    seed=st.integers(0, 2**31), hidden=st.integers(1, 20), width=st.integers(1, 40),
    links=st.integers(1, 5), cells=st.integers(1, 64), times=st.sampled_from([0.1, 1.0, 5.0]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_it_is_what_torch_computes(seed: int, hidden: int, width: int, links: int, cells: int, times: float) -> None:
    net = drawn(seed, hidden, width, times)
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 2, (links, cells, COLUMNS)).astype(np.float32)
    link, at = rng.integers(links, size=12), rng.integers(cells, size=12)
    features = rng.normal(0, 3, (12, FEATURES)).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.nan
    features[:3, LEVEL] = 50.0
    simple = rng.normal(0, 0.5, (12, SIMPLE_METHODS)).astype(np.float32)
    with torch.inference_mode():
        centre, shares = net(*(torch.from_numpy(each) for each in (steps, link, at, features, simple)))
    told, cdf = net.served()(steps, link, at, features, simple)
    np.testing.assert_allclose(told, centre.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(np.diff(cdf, axis=1), np.exp(shares.numpy()), atol=1e-5)
    assert np.all(cdf[:, 0] == 0)
    np.testing.assert_allclose(cdf[:, -1], 1, atol=1e-5)


def test_bins_grow_from_the_centre() -> None:
    sizes = np.diff(EDGES)
    assert len(sizes) == BINS
    assert np.all(np.diff(sizes[BINS // 2 :]) > 0)
    np.testing.assert_allclose(EDGES, -EDGES[::-1], atol=1e-12)


def test_only_an_lstm_is_served() -> None:
    with pytest.raises(ValueError, match=r"not the weights of an LSTM|must have the shape"):
        Net(Shape(COLUMNS, FEATURES, 4, 8, "gru")).served()
    with pytest.raises(ValueError, match="not the weights of an LSTM"):
        Net(Shape(COLUMNS, FEATURES, 4, 8, "none")).served()


@pytest.mark.parametrize("name", ["mean", "memory.weight_ih_l0", "head.6.bias"])
def test_weights_of_another_shape_are_refused(name: str) -> None:
    arrays = drawn(0).served().arrays
    with pytest.raises(ValueError, match=f"{name} must have the shape"):
        Lstm({**arrays, name: arrays[name][:-1]})
    with pytest.raises(ValueError, match="nothing"):
        Lstm({key: one for key, one in arrays.items() if key != name})


def test_serving_imports_no_torch() -> None:
    program = "import sys, models.bandwidth.predict, actors.prediction.asking; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
