"""Recorded streams, each made once in a session and only if a test asks for it."""

from collections.abc import Callable

import pytest

from actors.encoding import decoder, encoder
from tests.unit.encoding.machines import RECIPES, record


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    encoder.warm_up()
    decoder.warm_up()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The stream of one of `RECIPES`."""
    streams: dict[str, bytes] = {}

    def get(name: str) -> bytes:
        if name not in streams:
            streams[name] = record(RECIPES[name], tmp_path_factory.mktemp("qemu"))
        return streams[name]

    return get
