"""Splits over groups: what is measured together stays together, and every data set is on every side."""

from dataclasses import replace

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.train import Examples


def folds_of(dataset: np.ndarray, group: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of every row ``[N]``, from 0: all of a group's are in one, each data set is spread over all."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(dataset), np.int64)
    for name in np.unique(dataset):
        here = np.flatnonzero(dataset == name)
        place = {each: i % folds for i, each in enumerate(rng.permutation(np.unique(group[here])))}
        out[here] = [place[each] for each in group[here]]
    return out


def of(asked: Examples, mask: np.ndarray) -> Examples:
    """The questions where `mask` is true; pieces stay as they are."""
    return replace(asked, **{n: getattr(asked, n)[mask] for n in Examples.__dataclass_fields__ if n != "steps"})


def balance(task: np.ndarray, group: np.ndarray) -> Array:
    """Weights ``[N]`` with which every task counts alike, within it every group, and within that every row."""
    weights = np.ones(len(task))
    for name in np.unique(task):
        here = np.flatnonzero(task == name)
        _, of_group, counts = np.unique(group[here], return_inverse=True, return_counts=True)
        weights[here] = 1.0 / (len(counts) * counts[of_group])
    return weights
