"""What every actor has: `actors.calls.service`."""

import gc

import msgspec
import pytest

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service

_CALLER = Caller(node="here", site="home", same_site=True)


class _Desk(Service):
    pass


def _collected(thing: object) -> bool:
    """Whether the collector goes through `thing`."""
    return any(one is thing for one in gc.get_objects())


@pytest.mark.asyncio
async def test_the_first_ping_ends_the_start() -> None:
    """What is there by then is left alone by the collector; what comes later is not."""
    desk, early = _Desk(), [[1]]
    body = msgspec.msgpack.encode(Empty())
    assert _collected(early)
    try:
        await desk.serve(_CALLER, "ping", body)
        assert not _collected(early)
        later = [[2]]
        await desk.serve(_CALLER, "ping", body)
        assert _collected(later)
    finally:
        gc.unfreeze()
