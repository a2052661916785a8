"""What every request meets before it is routed: the bearer token and the size limit.

It stands before routing and body parsing, so a caller without the token learns nothing, not even which routes exist,
and costs nothing but a comparison.
"""

import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.errors import BadRequest, BodyTooLarge, NovaCronError, TokenInvalid
from api.problems import MAX_BODY_BYTES, problem_response

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class Edge:
    """ASGI middleware: lets through requests with the token, and those for `OPEN_PATHS` (probes and scrapers).

    Args:
        app: what comes next.
        token: the bearer token; never empty.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        assert token, "an empty token would let everybody in"
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> NovaCronError | None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_PATHS and not self._has_token(headers):
            return TokenInvalid()
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return BadRequest(detail="Content-Length is not a number")
        # A body without Content-Length is cut off while it is read, by the middleware that comes next.
        return BodyTooLarge(limit_bytes=MAX_BODY_BYTES) if int(length[:20]) > MAX_BODY_BYTES else None

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # compare_digest takes the same time wherever the first difference lies.
        return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self._token)
