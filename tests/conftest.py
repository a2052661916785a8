"""For all tests: the event loop that actors run in; no deadlines of hypothesis, since a busy machine is no fault."""

from collections.abc import Callable, Mapping

import uvloop
from hypothesis import settings

settings.register_profile("novacron", deadline=None)
settings.load_profile("novacron")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    """Ray runs async actors in uvloop where that is installed, which is everywhere NovaCron is."""
    return {"uvloop": uvloop.new_event_loop}
