"""The oracle of small cases, and that no rule beats it."""

import numpy as np
import pytest

from models.placement.learned.optimum import optimum
from models.placement.rules import Rule
from models.placement.simulator import outcome, simulate
from models.placement.tables import make_guests, make_nodes
from tests.unit.placement.kit import some_guests, some_nodes


def test_room_is_kept_for_what_comes():
    nodes = make_nodes(np.array([8.0, 4.0]), np.array([64.0, 64.0]))
    guests = make_guests(np.array([0.0, 1.0]), np.array([9.0, 9.0]), np.array([4.0, 8.0]), np.array([4.0, 4.0]))
    best = optimum(nodes, guests)
    assert best.placed.tolist() == [1, 0]
    assert best.rejected == best.rejected_bound == 0
    assert outcome(simulate(nodes, guests, Rule.FIRST_FIT, (0.0, 10.0))).rejected_cores == pytest.approx(8 / 12)


def test_who_has_left_needs_no_room():
    nodes = make_nodes(np.array([4.0]), np.array([64.0]))
    guests = make_guests(np.array([0.0, 5.0, 6.0]), np.array([5.0, 9.0, 9.0]), np.full(3, 4.0), np.full(3, 4.0))
    best = optimum(nodes, guests)
    assert (best.placed >= 0).sum() == 2
    assert best.rejected == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_no_rule_beats_it(seed):
    guests = some_guests(count=40, seed=seed)
    nodes = some_nodes(3, cells=1, cpu=24.0, memory=48.0)
    best = optimum(nodes, guests, limit_s=5.0)
    for rule in (Rule.FIRST_FIT, Rule.BEST_FIT, Rule.SITE_STICKY, Rule.NILAS):
        run = simulate(nodes, guests, rule, (0.0, float(guests.leave.max()) + 1))
        assert outcome(run).rejected_cores >= best.rejected_bound - 1e-9


def test_refuses_what_it_is_not_for():
    with pytest.raises(ValueError, match="one cell"):
        optimum(some_nodes(), some_guests(count=5))
    with pytest.raises(ValueError, match="whole cores"):
        guests = some_guests(count=5)
        optimum(some_nodes(cells=1), guests._replace(vcpus=guests.vcpus + 0.5))
