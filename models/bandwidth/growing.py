"""Growing of a member's trees: one ensemble over all data sets and horizons, by scikit-learn's histograms.

Needs scikit-learn (``pip install novacron[research]``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from models.bandwidth.features import LEVEL
from models.bandwidth.forest import DEEPEST, Forest
from models.bandwidth.train import Args, Examples

_HIDDEN = 0.25
_LEAVES, _FEWEST, _RATE, _RIDGE = 63, 30, 0.1, 1.0


def grow(asked: Examples, args: Args) -> Forest:
    """Trees for the median of what is asked; the same seed gives the same trees.

    Every data set counts by the root of its size, as in the net's training. Of some questions the level is hidden: what
    is learned must hold for links of any rate.
    """
    features = asked.features.copy()
    features[np.random.default_rng(args.seed).random(len(features)) < _HIDDEN, LEVEL] = np.nan
    spread = np.nanmax(features, 0, initial=-1e9) - np.nanmin(features, 0, initial=1e9)
    used = np.flatnonzero(spread > 1e-9)
    _, which, counts = np.unique(asked.dataset, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(counts[which])
    model = HistGradientBoostingRegressor(
        loss="absolute_error",
        max_iter=args.trees,
        learning_rate=_RATE,
        max_leaf_nodes=_LEAVES,
        max_depth=DEEPEST,
        min_samples_leaf=_FEWEST,
        l2_regularization=_RIDGE,
        early_stopping=False,
        random_state=args.seed,
    )
    with threadpool_limits(1):  # on a busy machine its threads wait for each other most of the time
        model.fit(features[:, used], asked.truth, sample_weight=weight / weight.mean())
    return Forest(arrays_of(model, used))


def arrays_of(model: Any, used: np.ndarray) -> dict[str, NDArray[Any]]:
    """Of a fitted model over the columns `used`: its trees as `Forest` takes them."""
    grown = [each.nodes for (each,) in model._predictors]
    sizes = np.array([len(nodes) for nodes in grown])
    roots = np.cumsum(sizes) - sizes
    nodes = np.concatenate(grown)
    leaf, first = nodes["is_leaf"].astype(bool), np.repeat(roots, sizes)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64) + first) for side in ("left", "right"))
    # A tree's root, then pairs: each node's two children side by side.
    inner = np.flatnonzero(~leaf)
    pair = 2 * np.arange(len(inner)) + 1 + np.searchsorted(roots, inner, side="right") - 1
    place = np.empty(len(nodes), np.int64)
    place[roots] = roots
    place[left[inner]], place[right[inner]] = pair, pair + 1
    cut = nodes["num_threshold"].astype(np.float32)
    # Rounded down, so that a float32 is on the same side as before.
    cut = np.where(cut > nodes["num_threshold"], np.nextafter(cut, np.float32(-np.inf)), cut)
    below = place.copy()
    below[inner] = pair
    blank_right = ~leaf & (nodes["missing_go_to_left"] == 0)
    back = np.argsort(place)
    return {
        "roots": roots,
        "depth": np.array([each["depth"].max() for each in grown]),
        "seen": (2 * np.where(leaf, 0, used[np.where(leaf, 0, nodes["feature_idx"])]) + blank_right)[back],
        "cut": np.where(leaf, np.inf, cut)[back],
        "below": below[back],
        "value": np.where(leaf, nodes["value"], 0)[back],
        "start": np.ravel(model._baseline_prediction),
    }
