"""Forecasts beside the later truth, of every method that made one: pure, times passed in."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from actors.prediction.messages import Role

SCORED_S = (5.0, 30.0)
"""Horizons at which forecasts are kept beside the truth."""
EVERY_S = 10.0
KEPT = 360  # an hour of them
ENOUGH = 20
# The model is passed over where its error exceeds that of the better simple method by so much, and comes back when it
# no longer does at all.
WORSE, BACK = 1.05, 1.0


@dataclass(frozen=True, slots=True)
class Band:
    """One method's forecast: mean and 80 % interval in bytes per second; `version` of a model, '' for the others."""

    method: str
    version: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Settled:
    """What every role said at `at` of the next `horizon_s` seconds, and what came."""

    at: float
    horizon_s: float
    said: Mapping[Role, Band]
    truth: float


@dataclass(frozen=True, slots=True)
class Worth:
    """See `actors.prediction.messages.Accuracy`."""

    truths: int = 0
    wape: float = -1.0
    coverage: float = -1.0
    width: float = -1.0
    skill_ewma: float = 0.0
    skill_last: float = 0.0


class Scores:
    """One link's forecasts: open until their horizon is over, then kept with their truth, the latest `KEPT`."""

    def __init__(self) -> None:
        self._open: deque[tuple[float, float, Mapping[Role, Band]]] = deque(maxlen=256)
        self._settled: dict[float, deque[Settled]] = {horizon: deque(maxlen=KEPT) for horizon in SCORED_S}
        self._passed_over: dict[float, bool] = dict.fromkeys(SCORED_S, False)
        self._made_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """True when forecasts are to be noted again."""
        return now_s - self._made_s >= EVERY_S

    def made(self, now_s: float, horizon_s: float, said: Mapping[Role, Band]) -> None:
        """Note what each role says now."""
        self._made_s = now_s
        self._open.append((now_s, horizon_s, said))

    def settle(self, now_s: float, truth: Callable[[float, float], float | None]) -> list[Settled]:
        """Close what is over, and return it; a window that was hardly measured is dropped, not counted."""
        waiting, closed = [], []
        for made_s, horizon_s, said in self._open:
            if made_s + horizon_s > now_s:
                waiting.append((made_s, horizon_s, said))
            elif (came := truth(made_s, made_s + horizon_s)) is not None:
                closed.append(Settled(made_s, horizon_s, said, came))
        self._open.clear()
        self._open.extend(waiting)
        self.restore(closed)
        return closed

    def restore(self, settled: Iterable[Settled]) -> None:
        """Take up what was settled, oldest first."""
        for one in settled:
            if one.horizon_s in self._settled:
                self._settled[one.horizon_s].append(one)
                self._judge(one.horizon_s)

    def passed_over(self, horizon_s: float, version: str) -> bool:
        """True where the model was clearly worse than a simple method lately, so that the EWMA answers."""
        nearest = near(horizon_s)
        newest = self._settled[nearest][-1] if self._settled[nearest] else None
        known = newest is not None and "model" in newest.said and newest.said["model"].version == version
        return known and self._passed_over[nearest]

    def worth(self, horizon_s: float, role: Role) -> Worth:
        """What `role` was worth lately at the scored horizon nearest to `horizon_s`; a model's version by itself."""
        settled = self._settled[near(horizon_s)]
        version = next((one.said[role].version for one in reversed(settled) if role in one.said), "")
        mine = [one for one in settled if role in one.said and (role == "spoke" or one.said[role].version == version)]
        if not mine:
            return Worth()
        total = sum(one.truth for one in mine)
        errors = [abs(one.said[role].mean - one.truth) for one in mine]
        inside = [one.said[role].low <= one.truth <= one.said[role].high for one in mine]
        widths = [one.said[role].high - one.said[role].low for one in mine]
        return Worth(
            truths=len(mine),
            wape=sum(errors) / total if total > 0 else -1.0,
            coverage=sum(inside) / len(mine),
            width=sum(widths) / total if total > 0 else -1.0,
            skill_ewma=_skill(mine, role, "ewma"),
            skill_last=_skill(mine, role, "last-value"),
        )

    def told(self) -> list[tuple[float, Role, Band]]:
        """Horizon, role and newest forecast of all that there is something to tell about."""
        newest = {
            (horizon_s, role): band
            for horizon_s, settled in self._settled.items()
            for one in settled
            for role, band in one.said.items()
        }
        return [(horizon_s, role, band) for (horizon_s, role), band in newest.items()]

    def _judge(self, horizon_s: float) -> None:
        settled = self._settled[horizon_s]
        version = settled[-1].said["model"].version if "model" in settled[-1].said else None
        mine = [one for one in settled if "model" in one.said and one.said["model"].version == version]
        if len(mine) < ENOUGH:
            self._passed_over[horizon_s] = False
            return
        error = _error(mine, "model")
        rival = min(_error(mine, "ewma"), _error(mine, "last-value"))
        limit = BACK if self._passed_over[horizon_s] else WORSE
        self._passed_over[horizon_s] = error > limit * rival


def _error(settled: list[Settled], role: Role) -> float:
    return sum(abs(one.said[role].mean - one.truth) for one in settled)


def _skill(settled: list[Settled], role: Role, rival: Role) -> float:
    """How much smaller the error of `role` is than that of `rival`, for the truths about which both spoke."""
    both = [one for one in settled if rival in one.said]
    theirs = _error(both, rival)
    return 1.0 - _error(both, role) / theirs if theirs > 0 else 0.0


def near(horizon_s: float) -> float:
    """The scored horizon that is nearest, as a ratio."""
    return min(SCORED_S, key=lambda scored: max(scored / horizon_s, horizon_s / scored))
