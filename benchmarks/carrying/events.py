"""What AMST makes of a bad moment on the line: a stream dies, the rate falls to a tenth, the line is cut for 5 s."""

import bisect
import time
from collections.abc import Callable
from typing import Final

from actors.lab.lab import Lab
from actors.lab.line import Change, Line
from benchmarks.carrying.amst import End, Marks, pouring
from benchmarks.carrying.points import AMST, Point
from benchmarks.report import Row

CUT_S: Final = 5.0
BEFORE_S: Final = 5.0
AFTER_S: Final = 10.0
_BACK_SHARE: Final = 0.9
_BACK_S: Final = 0.5


def carried_between(marks: Marks, begin: float, end: float) -> float:
    """Bytes that arrived between two moments, drawn straight between the marks; (monotonic seconds, bytes so far)."""
    return _at(marks, end) - _at(marks, begin)


def _at(marks: Marks, moment: float) -> float:
    place = bisect.bisect_left(marks, moment, key=lambda mark: mark[0])
    if place == 0:
        return float(marks[0][1])
    if place == len(marks):
        return float(marks[-1][1])
    (t0, b0), (t1, b1) = marks[place - 1], marks[place]
    return b0 + (b1 - b0) * (moment - t0) / (t1 - t0)


def recovered_s(marks: Marks, since: float, until: float, wanted_bytes_per_s: float) -> float | None:
    """Seconds after `since` from which half a second carried 90 % of what is wanted; None: not before `until`."""
    moment = since
    while moment + _BACK_S <= until:
        if carried_between(marks, moment, moment + _BACK_S) >= _BACK_SHARE * wanted_bytes_per_s * _BACK_S:
            return round(moment - since, 2)
        moment += 0.05
    return None


def measure(lab: Lab, nodes: tuple[str, str], line: Line, point: Point, warm_s: float) -> list[Row]:
    """One row for each event, each with processes of its own."""

    def dies(source: End) -> float:
        source.ask("kill")
        return 1.0

    def falls(_source: End) -> float:
        line.change(Change(rate_bps=point.shape.rate_bps // 10))
        return 0.1

    def is_cut(_source: End) -> float:
        line.change(Change(state="hole"))
        time.sleep(CUT_S)
        line.change(Change(state="pass"))
        return 1.0

    events: list[tuple[str, Callable[[End], float]]] = [
        ("stream dies", dies), ("rate falls to a tenth", falls), (f"line silent for {CUT_S:g} s", is_cut)
    ]  # fmt: skip
    rows = []
    for name, happen in events:
        with pouring(lab, nodes) as (source, sink):
            time.sleep(warm_s + BEFORE_S)
            before = source.ask("tell")
            began = time.monotonic()
            share = happen(source)
            ended = time.monotonic()
            time.sleep(AFTER_S)
            marks: Marks = [(at, count) for at, count in sink.ask("tell")["marks"]]
            after = source.ask("tell")
        line.change(Change(rate_bps=point.shape.rate_bps))
        steady = carried_between(marks, began - BEFORE_S, began) / BEFORE_S
        since = carried_between(marks, ended, ended + AFTER_S) / AFTER_S
        wanted = steady * share
        rows.append(
            {
                "system": AMST,
                "event": name,
                **point.cells(),
                "before_mbit": round(steady * 8 / 1e6, 2),
                "goodput_mbit": round(since * 8 / 1e6, 2),
                "lost_share": round(max(0.0, 1 - since / wanted), 3) if wanted else None,
                "recovered_s": recovered_s(marks, ended, ended + AFTER_S, wanted),
                "resent_bytes": after["resent_bytes"] - before["resent_bytes"],
                "in_flight_bytes": before["in_flight_bytes"],
                "note": "",
            }
        )
    return rows
