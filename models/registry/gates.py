"""The gates: what speaks against putting a version to use. Pure."""

from collections.abc import Mapping

from models.registry.card import Evaluation, Metric


def objections(candidate: Evaluation, in_use: Evaluation | None, in_use_name: str | None) -> list[str]:
    """Why `candidate` must not answer in place of `in_use`; empty when nothing speaks against it.

    No figure that counts may be worse than a baseline's or than the same figure of the version in use by more than
    its tolerance, over all figures it must be better than each of them in the mean, and what its bands promise must
    hold. `in_use` is that version's evaluation on the same data; None with a name: there is none.
    """
    counted = [metric for metric in candidate.metrics if metric.gate]
    if not counted:
        return ["its evaluation has no figure that counts"]
    found = []
    for name in sorted({name for metric in counted for name in metric.baselines}):
        values = {metric.name: metric.baselines[name] for metric in counted if name in metric.baselines}
        found += _against(f"baseline {name}", counted, values)
    if not any(metric.baselines for metric in counted):
        found.append("it was compared with no baseline")
    if in_use_name is not None:
        found += _against_in_use(counted, candidate, in_use, in_use_name)
    found += [
        f"{one.name}: a band that promises {one.promised:.0%} holds {one.covered:.1%} of the truths"
        for one in candidate.calibration
        if not abs(one.covered - one.promised) <= one.tolerance
    ]
    return found


def _against_in_use(counted: list[Metric], candidate: Evaluation, in_use: Evaluation | None, name: str) -> list[str]:
    if in_use is None or in_use.data_hash != candidate.data_hash:
        return [f"{name}, which is in use, has no evaluation on the same data ({candidate.data}); record one first"]
    values = {metric.name: metric.value for metric in in_use.metrics}
    missing = [metric.name for metric in counted if metric.name not in values]
    if missing:
        return [f"the evaluation of {name}, which is in use, lacks {', '.join(missing)}"]
    return _against(f"{name}, which is in use", counted, values)


def _against(rival: str, counted: list[Metric], values: Mapping[str, float]) -> list[str]:
    found, gains = [], []
    for metric in counted:
        if metric.name not in values:
            continue
        gain = _gain(metric, values[metric.name])
        gains.append(gain)
        if not gain >= -metric.tolerance:  # a NaN passes no gate
            found.append(f"{metric.name}: {metric.value:.4g}, {rival}: {values[metric.name]:.4g}")
    mean = sum(gains) / len(gains)
    if not mean > 0:
        found.append(f"over all figures it is not better than {rival} ({mean:+.1%})")
    return found


def _gain(metric: Metric, rival: float) -> float:
    """How much better than `rival` it is, relative to it."""
    better = rival - metric.value if metric.better == "lower" else metric.value - rival
    return better / max(abs(rival), 1e-12)
