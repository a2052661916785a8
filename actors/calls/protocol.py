"""The caller's side as those see it who call: `Directory` in production, something in memory in tests."""

from typing import Protocol, TypeVar

import msgspec

from actors.calls.messages import Address
from actors.config.schema import Topology

_Response = TypeVar("_Response", bound=msgspec.Struct)


class Calls(Protocol):
    """The part of `actors.calls.directory.Directory` that actors use."""

    @property
    def node(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def topology(self) -> Topology: ...

    def on(self, service: str, node: str) -> Address: ...
    def central(self, service: str, site: str = "") -> Address: ...
    async def call(
        self, to: Address, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response: ...
