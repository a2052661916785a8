"""What links carried as CSV, in the columns that models are trained on.

`trace_id` is a stretch of one link without a pause of a minute, `t` counts its seconds from 0, `group` is the link:
splits of the data keep a group together.
"""

from collections.abc import AsyncIterator

import msgspec

from actors.prediction.messages import Recorded, RecordedQuery
from api.backend import Backend

COLUMNS = ("trace_id", "group", "t", "bw_mbps", "rtt_ms", "jitter_ms", "loss", "retrans", "tod_s", "unix_s")
HEADER = ",".join(COLUMNS)
PAGE = 5000
PAUSE_S = 60.0
_DAY_S = 86_400


async def as_csv(backend: Backend, query: RecordedQuery) -> AsyncIterator[str]:
    """The header with the first page, then a page at a time. Raises what the backend raises."""
    begun: dict[str, tuple[float, float]] = {}
    head, more = f"{HEADER}\n", True
    while more:
        page = await backend.recorded(query)
        yield head + "".join(_line(one, begun) for one in page.samples)
        head, more = "", page.more and bool(page.samples)
        if more:
            query = msgspec.structs.replace(query, after=page.samples[-1].number)


async def followed(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    """`first`, then the rest."""
    yield first
    async for text in rest:
        yield text


def _line(one: Recorded, begun: dict[str, tuple[float, float]]) -> str:
    link = f"{one.node}-{one.peer}"
    start, newest = begun.get(link, (one.at, one.at))
    if one.at - newest > PAUSE_S:
        start = one.at
    begun[link] = (start, one.at)
    cells = (
        f"{link}-{start:.0f}", link, f"{one.at - start:.3f}", f"{one.bytes_per_s * 8 / 1e6:.4f}", f"{one.rtt_ms:.3f}",
        f"{one.jitter_ms:.3f}", f"{one.loss:.6f}", str(one.retransmits), f"{one.at % _DAY_S:.0f}", f"{one.at:.3f}",
    )  # fmt: skip
    return ",".join(cells) + "\n"
