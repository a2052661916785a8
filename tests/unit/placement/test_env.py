"""The Gymnasium environment."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from models.placement.env import PlacementEnv, Reward
from models.placement.features import FEATURES
from models.placement.rules import Rule
from models.placement.simulator import outcome, simulate
from models.placement.windows import Window
from tests.unit.placement.kit import some_guests, some_nodes

WINDOW = Window(some_nodes(), some_guests(), (40_000.0, 80_000.0))


def test_keeps_gymnasiums_contract():
    check_env(PlacementEnv([WINDOW, WINDOW._replace(nodes=some_nodes(6))]), skip_render_check=True)


def test_the_best_fitting_action_does_what_the_rule_does():
    env = PlacementEnv([WINDOW])
    seen, _ = env.reset(seed=1, options={"window": 0})
    cpu, memory = FEATURES.index("cpu_left"), FEATURES.index("memory_left")
    total, ended, info = 0.0, False, {}
    while not ended:
        left = np.where(seen["mask"] == 1, seen["nodes"][:, [cpu, memory]].min(axis=1), np.inf)
        seen, reward, ended, _, info = env.step(np.int64(np.argmin(left)))
        total += reward
    rule = outcome(simulate(*WINDOW[:2], Rule.BEST_FIT, WINDOW.span))
    assert info["guests"] == rule.guests
    assert info["rejected_cores"] == pytest.approx(rule.rejected_cores, abs=0.02)
    assert total < 0


def test_a_masked_action_only_loses_the_guest():
    env = PlacementEnv([WINDOW], Reward(split=0.0, broken=0.0), nodes_max=20)
    seen, _ = env.reset(seed=1)
    assert seen["mask"][9:].sum() == 0
    assert not seen["nodes"][9:].any()
    _, reward, *_ = env.step(np.int64(19))
    assert reward < 0


def test_refuses_what_it_can_not_show():
    with pytest.raises(ValueError, match="at least one window"):
        PlacementEnv([])
    with pytest.raises(ValueError, match="9 nodes"):
        PlacementEnv([WINDOW], nodes_max=8)
