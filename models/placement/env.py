"""Placement as a Gymnasium environment: one request a step, one row of features a node, the node as the action."""

from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from models.placement.features import FEATURES, observe
from models.placement.rules import PLAIN, Rule
from models.placement.simulator import Run, advance, begin, counted, outcome, place, play
from models.placement.slots import cards_for
from models.placement.tables import BLOCKS16
from models.placement.windows import Window

_BOUND = 100.0
Observation = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Reward:
    """What a step costs; every term is 0 or less, and 1 is a rejected guest of mean size."""

    rejected: float = 1.0
    """For each mean guest's worth of cores that no node could take since the last step."""
    split: float = 0.05
    """For the share of the tenant's guests that are in another site than the new one."""
    broken: float = 0.01
    """For each whole block of 16 cores that the placement breaks up."""


class PlacementEnv(gymnasium.Env[Observation, np.int64]):
    """Plays windows, one an episode, each begun warm: best fit places what came before its span.

    Observation: ``nodes`` (nodes_max, features) and ``mask`` (nodes_max,), 1 where no hard rule forbids the node. Rows
    beyond the window's nodes are 0 and masked. Requests that no node can take are denied without a step. An action
    that is masked places nothing: the guest counts as rejected.
    """

    def __init__(self, windows: list[Window], reward: Reward | None = None, nodes_max: int | None = None) -> None:
        """`nodes_max`: rows of an observation, by default those that the largest window needs.

        Raises:
            ValueError: there is no window, or one has more nodes than `nodes_max`.
        """
        if not windows:
            raise ValueError("an environment needs at least one window")
        most = max(len(window.nodes.cpu) for window in windows)
        self.rows = most if nodes_max is None else nodes_max
        if most > self.rows:
            raise ValueError(f"a window has {most} nodes, nodes_max is {self.rows}")
        self._windows, self._reward = windows, reward or Reward()
        boxes = spaces.Dict(
            {
                "nodes": spaces.Box(-_BOUND, _BOUND, (self.rows, len(FEATURES)), np.float32),
                "mask": spaces.MultiBinary(self.rows),
            }
        )
        self.observation_space = cast(spaces.Space[Observation], boxes)
        self.action_space = spaces.Discrete(self.rows)
        self._next = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin a window at random, or number ``options["window"]``."""
        super().reset(seed=seed)
        index = int((options or {}).get("window", self.np_random.integers(len(self._windows))))
        window = self._windows[index]
        self.run: Run = begin(window.nodes, window.guests, window.span)
        self._scale = max(float(window.guests.vcpus.mean()), 1e-9)
        n = len(window.nodes.cpu)
        self._features, self._slots = np.zeros((n, len(FEATURES))), np.full(n, -1, np.int64)
        self._denied = 0.0
        warm = int(np.searchsorted(window.guests.arrive, window.span[0]))
        play(self.run, 0, warm, int(Rule.BEST_FIT), PLAIN)
        self._next = warm - 1
        self._seek()
        return self._observe(), {"window": index}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Put the request on node `action` and go on to the next that some node can take."""
        run, g, n = self.run, self._next, int(action)
        valid = n < len(self._slots) and self._slots[n] >= 0
        reward, blocks = 0.0, float(run.state.sums[BLOCKS16])
        if valid:
            reward -= self._reward.split * float(self._features[n, FEATURES.index("tenant_elsewhere")])
            cards = cards_for(run.nodes, run.state, run.guests, g, n)
            place(run, g, n, int(self._slots[n]), cards)
            lost = blocks - float(run.state.sums[BLOCKS16]) - float(run.guests.vcpus[g])
            reward -= self._reward.broken * max(lost, 0.0) / 16
        else:
            self._deny(g)
        ended = not self._seek()
        reward -= self._reward.rejected * self._denied / self._scale
        self._denied = 0.0
        return self._observe(), reward, ended, False, outcome(run)._asdict() if ended else {}

    def _deny(self, g: int) -> None:
        place(self.run, g, -1, 0, 0)
        self._denied += float(self.run.guests.vcpus[g])

    def _seek(self) -> bool:
        """Go to the next request that some node can take; False at the end of the span."""
        run = self.run
        while self._next + 1 < len(run.guests.arrive) and counted(run, run.guests.arrive[self._next + 1]):
            self._next += 1
            now = float(run.guests.arrive[self._next])
            advance(run, now, int(Rule.BEST_FIT), PLAIN)
            if observe(run.nodes, run.state, run.guests, self._next, now, self._features, self._slots):
                return True
            self._deny(self._next)
        self._next = len(run.guests.arrive)
        self._slots[:] = -1
        advance(run, float(run.span[1]), int(Rule.BEST_FIT), PLAIN)
        return False

    def _observe(self) -> Observation:
        nodes, mask = np.zeros((self.rows, len(FEATURES)), np.float32), np.zeros(self.rows, np.int8)
        fits = np.flatnonzero(self._slots >= 0)
        nodes[fits], mask[fits] = self._features[fits], 1
        return {"nodes": nodes, "mask": mask}
