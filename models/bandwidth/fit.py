"""Makes the forecaster of a set of traces: members trained on most groups, calibration learned on the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from models.bandwidth.calibration import Levels
from models.bandwidth.data import Trace
from models.bandwidth.evaluate import balance, distributions, folds_of, of
from models.bandwidth.predict import Forecaster
from models.bandwidth.train import Args, examples, train


def fit(
    traces: Sequence[Trace], args: Args, members: int = 3, progress: Callable[[int, float], None] | None = None
) -> Forecaster:
    """A forecaster of `members` nets; one group in five is kept from all of them and calibrates their mean.

    Raises:
        ValueError: no trace goes on long enough for any horizon.
    """
    asked = examples(traces, args)
    held = folds_of(asked, 5, args.seed) == 0
    if held.all() or not held.any():  # one group alone: its bands will be too sure of themselves
        held = np.zeros(len(held), bool)
    learn = of(asked, ~held)
    nets = [train(learn, replace(args, seed=args.seed + i), progress) for i in range(members)]
    rest = of(asked, held) if held.any() else learn
    return Forecaster(nets, Levels.learn(distributions(nets, rest), rest.truth, rest.horizon, balance(rest)))
