"""The loops behind `models.bandwidth.features` and `cells`: compiled, link by link, nothing from after a moment.

Arrays are float64 and C-contiguous; NaN means not known.
"""

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.kernel import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cut = tuple[float, Floats, Floats, Floats]

CLIP = 5.0
SMOOTHING = 0.3
FLOOR_SHARE = 0.02  # of the mean over the whole window: what is less counts as this much in a logarithm
FLOOR_MBPS = 0.01
LAGS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 19)
WINDOWS = (2, 3, 5, 10, 20, 40)
_MOVES = (3, 10, 30)
# The place of the one feature that is no ratio, the logarithm of the level.
LEVEL = len(LAGS) + len(WINDOWS) + 6
COLUMNS, SIMPLE_METHODS, WINDOW_COLUMNS = 13, 8, 9
FEATURES = LEVEL + 2 + 15 + 9 + SIMPLE_METHODS
_MEMORY = 16
_MOST_MBPS = 1e12
# With no error known, a link is taken to be off by a quarter; that fades as errors come.
_ERROR, _ERROR_ANSWERS = 0.25, 2.0
# Places of covariates, and of sums over a link's window.
_RTT, _JITTER, _LOSS, _RETRANS, _CWND, _DAY_S, _MILES, _LINKS, _RECEIVED, _CPU, _CPU_FAR, _MEM = range(12)
_TOTAL, _FLOOR, _LOG, _EWMA, _GAP, _START, _MOVED, _RESENT, _LEAST_RTT = range(WINDOW_COLUMNS)
_STEPPED, _STEP_SCALE = (_RTT, _JITTER, _RETRANS, _CWND), (1.0, 0.5, 1.0, 1.0)


@kernel
def _held(value: float, low: float, high: float) -> float:
    """`value` between the two; NaN stays."""
    if value < low:
        return low
    return high if value > high else value


@kernel
def _log_ratio(value: float, level: float, floor: float) -> float:
    return _held(np.log((value + floor) / (level + floor)), -CLIP, CLIP)


@kernel
def _mean(total: Floats, at: int, count: int) -> float:
    """Of the up to `count` newest cells at a moment."""
    first = max(at + 1 - count, 0)
    return float((total[at + 1] - total[first]) / (at + 1 - first))


@kernel
def _window(mbps: Floats, t_s: Floats, step_s: float, known: Floats, out: Floats) -> None:
    """Sums ``[WINDOW_COLUMNS, T + 1]``; those of sums begin with a 0, the others hold a value per cell."""
    level, start = mbps[0], 0
    least = np.nan
    out[:, 0] = 0.0
    for t in range(len(mbps)):
        out[_TOTAL, t + 1] = out[_TOTAL, t] + mbps[t]
        out[_FLOOR, t] = FLOOR_SHARE * out[_TOTAL, t + 1] / (t + 1) + FLOOR_MBPS
        out[_LOG, t] = np.log(mbps[t] + out[_FLOOR, t])
        # The first value weighs as if it had always been there, as opponents compute it too.
        level += SMOOTHING * (mbps[t] - level)
        out[_EWMA, t] = level
        out[_GAP, t] = (t_s[t] - t_s[t - 1]) / step_s if t else 1.0
        if out[_GAP, t] > 2.5:
            start = t
        out[_START, t] = start
        moved = abs(out[_LOG, t] - out[_LOG, t - 1]) if t else 0.0
        out[_MOVED, t + 1] = out[_MOVED, t] + moved
        resent = np.log1p(_held(known[t, _RETRANS], 0.0, np.inf))
        out[_RESENT, t + 1] = out[_RESENT, t] + (0.0 if np.isnan(resent) else _held(resent, 0.0, 1e3))
        if not np.isnan(known[t, _RTT]) and not known[t, _RTT] > least:
            least = known[t, _RTT]
        out[_LEAST_RTT, t] = least


@kernel
def _steps(mbps: Floats, known: Floats, w: Floats, out: Floats) -> None:
    """Cell by cell ``[T, COLUMNS]`` what a recurrent net reads; unknown is 0 beside a flag."""
    for t in range(len(mbps)):
        floor, before = w[_FLOOR, t], w[_EWMA, max(t - 1, 0)]
        out[t, 0] = _log_ratio(mbps[t], before, floor)
        out[t, 1] = _log_ratio(mbps[t], w[_EWMA, t], floor)
        out[t, 2] = _held(w[_LOG, t] - w[_LOG, t - 1], -CLIP, CLIP) if t else 0.0
        out[t, 3] = _held(np.log(max(w[_GAP, t], 0.1)) / 2, -CLIP, CLIP)
        out[t, 4] = 1.0 if mbps[t] <= floor else 0.0
        for i in range(len(_STEPPED)):
            k = _STEPPED[i]
            value = np.log1p(_held(known[t, k], 0.0, np.inf) * _STEP_SCALE[i])
            last = np.log1p(_held(known[max(t - 1, 0), k], 0.0, np.inf) * _STEP_SCALE[i])
            change = value / 5 if k == _RETRANS else value - last
            out[t, 5 + 2 * i] = 0.0 if np.isnan(change) else _held(change, -CLIP, CLIP)
            out[t, 6 + 2 * i] = 1.0 if np.isfinite(value) else 0.0


@kernel
def _line(mbps: Floats, at: int, ahead: float) -> float:
    """A line through the last 10 cells, its mean over the horizon, between half their least and twice their most."""
    count = min(at + 1, 10)
    mean_x, mean_y = -(count - 1) / 2, 0.0
    low, high = np.inf, 0.0
    for back in range(count):
        value = mbps[at - back]
        mean_y += value / count
        low, high = min(low, value), max(high, value)
    spread, slope = 1e-9, 0.0
    for back in range(count):
        off = -back - mean_x
        spread += off * off
        slope += off * (mbps[at - back] - mean_y)
    return _held(mean_y + slope / spread * ((ahead + 1) / 2 - mean_x), 0.5 * low, 2 * high)


@kernel
def _earlier(w: Floats, at: int, ahead: int) -> tuple[float, float]:
    """How the run before the pause went on from the same age: mean over the horizon, level then; NaN if unknown."""
    start = int(w[_START, at])
    if start == 0:
        return np.nan, np.nan
    first = int(w[_START, start - 1]) + at - start
    last = min(first + ahead, start - 1)
    if last - first < max(1, ahead // 2):
        return np.nan, np.nan
    total = w[_TOTAL]
    return float((total[last + 1] - total[first + 1]) / (last - first)), float(w[_EWMA, first])


@kernel
def _simple(mbps: Floats, w: Floats, at: int, ahead: int, out: Floats) -> None:
    """The simple methods ``[SIMPLE_METHODS]`` in Mbit/s."""
    inverse, first = 0.0, max(at - 4, 0)
    for t in range(first, at + 1):
        inverse += 1 / max(mbps[t], FLOOR_MBPS)
    ewma = w[_EWMA, at]
    mean, level = _earlier(w, at, ahead)
    out[0], out[1], out[2] = mbps[at], _mean(w[_TOTAL], at, 3), ewma
    out[3], out[4] = (at + 1 - first) / inverse, _mean(w[_TOTAL], at, 10)
    out[5], out[6] = _line(mbps, at, ahead), _mean(w[_TOTAL], at, 30)
    out[7] = ewma if np.isnan(mean) else ewma * _held(mean / max(level, FLOOR_MBPS), 0.2, 5.0)


@kernel
def _past_errors(mbps: Floats, w: Floats, at: int, ahead: int, out: Floats) -> float:
    """Of EWMA and last value, over moments whose truth is known: mean |log error| of both, bias of both; the count."""
    out[:] = 0.0
    count = 0
    total, floor = w[_TOTAL], w[_FLOOR]
    last = max(at - ahead + 1, 0)
    for t in range(max(last - _MEMORY, 0), last):
        # A truth must not reach over a pause.
        if w[_START, t + ahead] > t:
            continue
        count += 1
        mean = (total[t + ahead + 1] - total[t + 1]) / ahead + floor[t]
        for i, told in enumerate((w[_EWMA, t], mbps[t])):
            error = np.log(mean / (told + floor[t]))
            out[i] += abs(error)
            out[2 + i] += error
    out[:2] += _ERROR * _ERROR_ANSWERS
    out /= count + _ERROR_ANSWERS
    return float(count)


@kernel
def _covariates(known: Floats, w: Floats, at: int, level: float, out: Floats) -> None:
    """What is known of a moment beside its rate ``[15]``."""
    now = known[at]
    rtt = _held(now[_RTT], 0.05, np.inf)
    cwnd_mbit, day = now[_CWND] * 8, now[_DAY_S] * (2 * np.pi / 86400)
    out[0] = np.log(rtt)
    out[1] = np.log(rtt / _held(w[_LEAST_RTT, at], 0.05, np.inf))
    out[2] = np.log((now[_JITTER] + 0.01) / rtt)
    out[3] = np.sqrt(now[_LOSS])
    out[4] = np.log1p(now[_RETRANS])
    out[5] = np.log((cwnd_mbit + 0.1) / rtt / (level + FLOOR_MBPS))
    out[6], out[7] = np.sin(day), np.cos(day)
    out[8] = np.log(_held(now[_MILES], 1.0, np.inf))
    out[9] = now[_LINKS] / 8
    out[10] = np.log((now[_RECEIVED] + FLOOR_MBPS) / (level + FLOOR_MBPS))
    out[11], out[12], out[13] = now[_CPU] / 100, now[_CPU_FAR] / 100, now[_MEM]
    recent = (w[_RESENT, at + 1] - w[_RESENT, max(at - 4, 0)]) / 5
    out[14] = np.nan if np.isnan(now[_RETRANS]) else recent
    for i in range(15):
        out[i] = _held(out[i], -12.0, 12.0)


@kernel
def _moment(mbps: Floats, step_s: float, known: Floats, w: Floats, at: int, level: float, out: Floats) -> None:
    """What is seen of a moment whatever the horizon ``[LEVEL + 17]``."""
    floor, total = w[_FLOOR, at], w[_TOTAL]
    for i in range(len(LAGS)):
        out[i] = _log_ratio(mbps[at - LAGS[i]], level, floor) if at >= LAGS[i] else np.nan
    place = len(LAGS)
    for i in range(len(WINDOWS)):
        enough = at + 1 >= WINDOWS[i]
        out[place + i] = _log_ratio(_mean(total, at, WINDOWS[i]), level, floor) if enough else np.nan
    place += len(WINDOWS)
    for i in range(len(_MOVES)):
        out[place + i] = np.log(1e-3 + _mean(w[_MOVED], at, _MOVES[i]))
    still = 0
    for t in range(max(at - 9, 0), at + 1):
        still += mbps[t] <= floor
    out[place + 3] = still / 10
    out[place + 4], out[place + 5] = np.log1p(at), np.log1p(at - w[_START, at])
    out[LEVEL], out[LEVEL + 1] = np.log(level + FLOOR_MBPS), np.log(step_s)
    _covariates(known, w, at, level, out[LEVEL + 2 :])


@kernel
def see(
    mbps: Floats, t_s: Floats, step_s: Floats, known: Floats, horizons_s: Floats, ahead: Ints, at: Ints,
    steps: Floats, features: Floats, simple_mbps: Floats, level: Floats, floor: Floats, error: Floats,
) -> None:  # fmt: skip
    """Fill the columns of a `View` for links ``[B, T]``, moments ``at [B, P]`` and horizons in cells ``[B, H]``."""
    width = mbps.shape[1]
    w, past = np.zeros((WINDOW_COLUMNS, width + 1)), np.empty(4)
    for b in range(len(mbps)):
        _window(mbps[b], t_s[b], step_s[b], known[b], w)
        _steps(mbps[b], known[b], w, steps[b])
        for p in range(at.shape[1]):
            now = at[b, p]
            base, under = _mean(w[_TOTAL], now, 5), w[_FLOOR, now]
            level[b, p], floor[b, p] = base, under
            place = LEVEL + 17
            _moment(mbps[b], step_s[b], known[b], w, now, base, features[b, p, 0])
            for h in range(ahead.shape[1]):
                row, told = features[b, p, h], simple_mbps[b, p, h]
                row[:place] = features[b, p, 0, :place]
                _simple(mbps[b], w, now, ahead[b, h], told)
                count = _past_errors(mbps[b], w, now, ahead[b, h], past)
                error[b, p, h] = past[0]
                row[place], row[place + 1] = np.log(horizons_s[h]), np.log(ahead[b, h])
                row[place + 2], row[place + 3] = np.log(past[0] + 1e-3), np.log(past[1] + 1e-3)
                row[place + 4], row[place + 5], row[place + 6] = past[2], past[3], np.log1p(count)
                mean, then = _earlier(w, now, ahead[b, h])
                row[place + 7], row[place + 8] = _log_ratio(mean, base, under), _log_ratio(mean, then, under)
                for k in range(SIMPLE_METHODS):
                    row[place + 9 + k] = _log_ratio(told[k], base, under)


@kernel
def _in_order(times: Floats, values: Floats) -> Ints:
    """Places of the rows that count, by their time."""
    out = np.empty(len(times), np.int64)
    count, rising = 0, True
    for row in range(len(times)):
        if np.isfinite(times[row]) and 0 <= values[row] < _MOST_MBPS:
            rising = rising and (count == 0 or times[out[count - 1]] <= times[row])
            out[count] = row
            count += 1
    return out[:count] if rising else out[:count][np.argsort(times[out[:count]], kind="mergesort")]


@kernel
def _step(times: Floats, order: Ints, least_s: float, most_s: float) -> float:
    """The median spacing of the first rows."""
    first = times[order[:65]]
    spacing = first[1:] - first[:-1]
    spacing = np.sort(spacing[spacing > 0])
    return min(max(spacing[len(spacing) // 2], least_s), most_s) if len(spacing) else 1.0


@kernel
def cut(times: Floats, values: Floats, extras: Floats, least_s: float, most_s: float) -> Cut:
    """Rows as cells: the step, times of their last rows, means, and means of what is known ``[K, cells]``.

    The rules are those of `models.bandwidth.data`; `least_s` and `most_s` hold the step.
    """
    order = _in_order(times, values)
    step = _step(times, order, least_s, most_s)
    rows = len(order)
    at, mean, known = np.empty(rows), np.empty(rows), np.empty((len(extras), rows))
    count, first = 0, 0
    while first < rows:
        cell, last, total = np.rint((times[order[first]] - times[order[0]]) / step), first, values[order[first]]
        while last + 1 < rows and np.rint((times[order[last + 1]] - times[order[0]]) / step) == cell:
            last += 1
            total += values[order[last]]
        at[count], mean[count] = times[order[last]], total / (last + 1 - first)
        for k in range(len(extras)):
            whole, met = 0.0, 0
            for row in order[first : last + 1]:
                if np.isfinite(extras[k, row]):
                    whole, met = whole + extras[k, row], met + 1
            known[k, count] = whole / met if met else np.nan
        count, first = count + 1, last + 1
    return step, at[:count], mean[:count], known[:, :count].copy()


@kernel
def lay(
    step: float, at: Floats, mean: Floats, means: Floats, places: Ints,
    row: int, mbps: Floats, t_s: Floats, length: Ints, step_s: Floats, known: Floats,
) -> None:  # fmt: skip
    """Write the newest cells of a link into a row of a batch; `places` are the columns of its covariates."""
    width = mbps.shape[1]
    count = min(len(at), width)
    first = len(at) - count
    length[row], step_s[row] = count, step
    for t in range(count):
        mbps[row, t], t_s[row, t] = mean[first + t], at[first + t] - at[first]
        for i in range(len(places)):
            known[row, t, places[i]] = means[i, first + t]
    for t in range(count, width):
        t_s[row, t] = t_s[row, count - 1] + step * (t - count + 1)
