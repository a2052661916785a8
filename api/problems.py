"""Errors as RFC 9457 problem documents: the one place where an error becomes an HTTP response.

Codes, statuses and texts come from `actors.errors`. `fields` carries what the text was made of, so that a client can
raise the same error again with `actors.errors.error_from`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import compile_path

from actors.errors import (
    BadRequest,
    BodyInvalid,
    BodyTooLarge,
    DeadlineExceeded,
    MethodNotAllowed,
    NotFound,
    NovaCronError,
    TokenInvalid,
    Unreachable,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
MAX_BODY_BYTES = 1 << 20
RETRY_AFTER_S = 3
_SHOWN_PROBLEMS = 5

Responses = dict[int | str, dict[str, Any]]
_ANYWHERE: tuple[type[NovaCronError], ...] = (
    NovaCronError,
    BadRequest,
    BodyInvalid,
    BodyTooLarge,
    TokenInvalid,
    Unreachable,
    DeadlineExceeded,
)


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is stable and meant for programs, `detail` and `next_step` for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="URN of the kind of problem: `urn:novacron:error:` and the code")
    title: str = Field(description="the kind of problem in words, the same for every occurrence")
    status: int = Field(ge=400, le=599, description="HTTP status")
    detail: str = Field(description="what went wrong this time")
    code: str = Field(description="stable code, see docs/api.md")
    next_step: str = Field(description="what the reader can do about it")
    instance: str = Field(description="path of the request")
    fields: dict[str, str | int | float] = Field({}, description="values that `detail` was made of")


def problem(error: NovaCronError, instance: str) -> Problem:
    """The problem document of `error`, which the request for path `instance` met."""
    return Problem(
        type=f"urn:novacron:error:{error.code}",
        title=error.code.replace("-", " ").capitalize(),
        status=error.status,
        detail=str(error),
        code=error.code,
        next_step=error.next_step,
        instance=instance,
        fields=error.fields,
    )


def problem_response(error: NovaCronError, instance: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """`error` as a response, with the headers that HTTP wants beside some statuses."""
    extra = dict(headers or {})
    if isinstance(error, TokenInvalid):
        extra["WWW-Authenticate"] = 'Bearer realm="novacron"'
    if isinstance(error, Unreachable):
        extra["Retry-After"] = str(RETRY_AFTER_S)
    content = problem(error, instance).model_dump()
    return JSONResponse(content, status_code=error.status, headers=extra, media_type=MEDIA_TYPE)


def documented(*errors: type[NovaCronError]) -> Responses:
    """OpenAPI responses of a route that may raise `errors`, and of what every route may answer."""
    by_status: dict[int, list[str]] = {}
    for error in (*_ANYWHERE, *errors):
        codes = by_status.setdefault(error.status, [])
        if error.code not in codes:
            codes.append(error.code)
    return {
        status: {
            "description": "Problem: " + ", ".join(f"`{code}`" for code in codes),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, codes in sorted(by_status.items())
    }


def install(app: FastAPI) -> None:
    """Answer every error of `app`, its framework's included, with a problem document."""

    async def known(request: Request, error: NovaCronError) -> JSONResponse:
        return problem_response(error, request.url.path)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_invalid(error.errors()), request.url.path)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request, headers.get("Allow", ""))
        return problem_response(_from_http(request, error), request.url.path, headers)

    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return problem_response(NovaCronError(detail=type(error).__name__), request.url.path)

    handlers: list[tuple[type[Exception], Callable[[Request, Any], Awaitable[JSONResponse]]]] = [
        (NovaCronError, known),
        (RequestValidationError, invalid),
        (HTTPException, http),
        (Exception, unknown),
    ]
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


def _invalid(problems: Sequence[Any]) -> NovaCronError:
    """What pydantic found, as one error: in the body, else (path, query, headers) a plain bad request."""
    detail = "; ".join(_place(one) for one in problems[:_SHOWN_PROBLEMS])
    if len(problems) > _SHOWN_PROBLEMS:
        detail += f"; and {len(problems) - _SHOWN_PROBLEMS} more"
    if any(one["loc"][0] == "body" for one in problems):
        return BodyInvalid(detail=detail)
    return BadRequest(detail=detail)


def _place(one: Any) -> str:
    if one["type"] == "json_invalid":
        return f"not JSON at character {one['loc'][1]}: {one['ctx']['error']}"
    if one["loc"] == ("body",) and isinstance(one.get("input"), bytes):
        return "it must be a JSON object, sent as application/json"
    return f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"


def _allowed(request: Request, one_route: str) -> str:
    """Every method of the path; the framework names only those of the first route that has it."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    own = [operations for template, operations in paths.items() if compile_path(template)[0].match(request.url.path)]
    return ", ".join(sorted({method.upper() for operations in own for method in operations})) or one_route


def _from_http(request: Request, error: HTTPException) -> NovaCronError:
    match error.status_code:
        case 404:
            return NotFound(what=f"resource {request.url.path}")
        case 405:
            return MethodNotAllowed(path=request.url.path, method=request.method)
        case 413:
            return BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
        case status if status < 500:
            return BadRequest(detail=str(error.detail))
        case _:
            return NovaCronError(detail=str(error.detail))
