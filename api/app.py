"""The FastAPI application."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from actors.boot.status import BootStatus
from api import problems
from api.backend import Backend
from api.control_models import StateEventView
from api.edge import Edge
from api.metrics import Metered, Metrics
from api.models import LinkSwitchView
from api.move_models import MigrationEvent
from api.problems import MAX_BODY_BYTES, Problem
from api.routes import audit, cluster, facts, flags, guests, health, members, migrations, state_events, store, sweeps

DESCRIPTION = """Moves running QEMU/KVM guests between hosts and sites.

Every request but those for `/healthz`, `/readyz` and `/metrics` needs `Authorization: Bearer TOKEN`.
Every error is an RFC 9457 problem document with a stable `code` and a `next_step`."""


def create_app(backend: Backend, token: str, boot_status: Callable[[], BootStatus]) -> FastAPI:
    """The API over `backend`, open to whoever has `token`; `boot_status` feeds `/readyz`."""
    app = FastAPI(
        title="NovaCron",
        version=version("novacron"),
        description=DESCRIPTION,
        docs_url=None,  # the interactive pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.backend = backend
    app.state.boot_status = boot_status
    app.state.metrics = Metrics(backend, boot_status)
    problems.install(app)
    for routes in (health, cluster, members, migrations, guests, sweeps, store, facts, flags, audit, state_events):
        app.include_router(routes.router)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(Edge, token=token)
    app.add_middleware(Metered, metrics=app.state.metrics)  # outermost: counts refusals too
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document plus the schemas that only `$ref`s in `responses` name."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        for model in (Problem, MigrationEvent, LinkSwitchView, StateEventView):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema
