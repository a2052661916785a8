"""The called side: typed methods, found by name, with msgpack bodies checked on arrival."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar, get_type_hints

import msgspec
import structlog

from actors.calls.messages import Caller, Empty, Reply
from actors.calls.settled import settle
from actors.errors import BodyInvalid, NotFound, NovaCronError, Refused

log = structlog.get_logger()
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])


def exposed(*, to_peers: bool = False) -> Callable[[_Method], _Method]:
    """Mark ``async def method(self, caller, request: Struct) -> Struct`` as callable.

    `to_peers` opens it to nodes of other sites too.
    """

    def mark(method: _Method) -> _Method:
        method.__dict__["_exposed_to_peers"] = to_peers
        return method

    return mark


class _Entry(msgspec.Struct, frozen=True):
    name: str
    request: type
    to_peers: bool


class Service:
    """Base of every actor. Subclasses mark their methods with `exposed`; `serve` is the only door."""

    _entries: ClassVar[dict[str, _Entry]] = {}
    _has_settled = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        marked = inspect.getmembers(cls, lambda m: inspect.isfunction(m) and "_exposed_to_peers" in m.__dict__)
        cls._entries = {
            name: _Entry(name, get_type_hints(method)["request"], method.__dict__["_exposed_to_peers"])
            for name, method in marked
        }

    @exposed()
    async def ping(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002  every exposed method has this shape
        """Answer at once: the actor's process and event loop are alive. The first one ends the actor's start."""
        if not self._has_settled:
            self._has_settled = True
            settle()
        return Empty()

    async def serve(self, caller: Caller, method: str, body: bytes) -> bytes:
        """Run `method` on `body`; the answer is an encoded `Reply`, also for errors. Never raises."""
        try:
            reply = Reply(body=msgspec.msgpack.encode(await self._run(caller, method, body)))
        except NovaCronError as error:
            reply = Reply(error=error.code, fields=error.fields)
        except Exception as error:
            log.exception("call failed", service=type(self).__name__, method=method, caller=caller.node)
            reply = Reply(error=NovaCronError.code, fields={"detail": f"{type(self).__name__}.{method}: {error!r}"})
        return msgspec.msgpack.encode(reply)

    async def _run(self, caller: Caller, method: str, body: bytes) -> Any:
        entry = self._entries.get(method)
        if entry is None:
            raise NotFound(what=f"method {method} in {type(self).__name__}")
        if not (caller.same_site or entry.to_peers):
            raise Refused(detail=f"{method} is not open to other sites")
        try:
            request: Any = msgspec.msgpack.decode(body, type=entry.request)
        except ValueError as error:  # msgspec's own, or a string that is not UTF-8
            raise BodyInvalid(detail=f"{method}: {error}") from error
        return await getattr(self, entry.name)(caller, request)
