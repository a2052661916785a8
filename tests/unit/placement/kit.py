"""Small clusters and traces for the tests of placement."""

import numpy as np

from models.placement.tables import Guests, Nodes, make_guests, make_nodes


def some_guests(count=300, seed=1, **columns) -> Guests:
    """Random guests over a day, in tenants of about five."""
    rng = np.random.default_rng(seed)
    arrive = np.sort(rng.uniform(0, 86_400, count))
    vcpus = rng.choice([1.0, 2.0, 4.0, 8.0, 24.0], count)
    extra = {"tenant": rng.integers(0, count // 5 + 1, count), "cells": np.where(vcpus > 16, 2, 1)} | columns
    return make_guests(arrive, arrive + rng.exponential(20_000, count), vcpus, vcpus * 2, **extra)


def some_nodes(count=9, cells=2, cpu=16.0, memory=40.0, sites=3) -> Nodes:
    """Equal nodes, the sites one after the other."""
    site = np.arange(count) * sites // count
    return make_nodes(np.full(count, cpu), np.full(count, memory), cells=cells, site=site)
