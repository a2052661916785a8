"""Makes the forecaster of a set of traces: members that each leave out other groups, and are judged on these."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from models.bandwidth.calibration import Levels
from models.bandwidth.data import Trace
from models.bandwidth.folds import balance, folds_of, of
from models.bandwidth.growing import grow
from models.bandwidth.member import Member
from models.bandwidth.moments import draw
from models.bandwidth.predict import Forecaster
from models.bandwidth.train import Args, examples, train

_FOLDS_OF_ONE = 5
_JUDGED = 300  # moments of each data set and fold


def fit(
    traces: Sequence[Trace], args: Args, members: int = 3, progress: Callable[[int, float], None] | None = None
) -> Forecaster:
    """A forecaster of `members`, calibrated on groups that the one asked about them never saw.

    Each member, net and trees, leaves out another part of the groups, so that together they have seen all groups and
    have been judged on all of them (cross-conformal prediction: Vovk, 2015; CV+: Barber and others, 2021; orders of
    truths as scores: Chernozhukov and others, 2021; groups that count alike: Dunn and others, 2023). One alone leaves
    out a fifth, and is judged on that.

    Raises:
        ValueError: no trace goes on long enough for any horizon.
    """
    asked = examples(traces, args)
    fold = folds_of(asked.dataset, asked.group, members if members > 1 else _FOLDS_OF_ONE, args.seed)
    made: list[Member] = []
    judged = []
    for i in range(members):
        out = fold == i
        whole = out.all() or not out.any()  # one group alone: its bands will be too sure of themselves
        learn = asked if whole else of(asked, ~out)
        own = replace(args, seed=args.seed + i)
        made.append(Member(train(learn, own, progress).served(), grow(learn, own)))
        groups = set(asked.group if whole else asked.group[out])
        judged.append([trace for trace in traces if f"{trace.dataset}/{trace.group}" in groups])
    return Forecaster(made, _levels(made, judged, args.seed))


def _levels(members: Sequence[Member], judged: Sequence[Sequence[Trace]], seed: int) -> Levels:
    """From what each member, guarded as it is served, says of the traces beside it."""
    orders, kinds, tasks, groups = [], [], [], []
    rng = np.random.default_rng(seed)
    for member, traces in zip(members, judged, strict=True):
        alone = Forecaster([member], Levels.plain())
        for each in draw(traces, _JUDGED, rng):
            order, kind = alone.orders(each.links, each.horizons_s, each.truth)
            known = np.isfinite(order)
            orders.append(order[known])
            kinds.append(kind[known])
            names = [f"{each.trace.dataset}/{horizon:g}" for horizon in each.horizons_s]
            tasks.append(np.broadcast_to(names, order.shape)[known])
            groups.append(np.full(known.sum(), f"{each.trace.dataset}/{each.trace.group}"))
    task, group = np.concatenate(tasks), np.concatenate(groups)
    return Levels.learn(np.concatenate(orders), np.concatenate(kinds), balance(task, group))
