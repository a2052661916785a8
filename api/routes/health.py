"""Probes and metrics: open to everybody, for they tell nothing about guests."""

from fastapi import APIRouter, Request, Response

from actors.errors import NovaCronError
from api.models import Health, Readiness
from api.problems import Responses, documented

router = APIRouter(tags=["health"])
_INTERNAL: Responses = {500: documented(NovaCronError)[500]}
_NOT_READY: Responses = {503: {"model": Readiness, "description": "not ready yet, or no more"}}
_TEXT: Responses = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format"}
}


@router.get("/healthz", responses=_INTERNAL)
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses=_INTERNAL | _NOT_READY)
async def readyz(request: Request, response: Response) -> Readiness:
    """Every component's state and reason; 503 until the node is ready."""
    boot = request.app.state.boot_status()
    if not boot.ready:
        response.status_code = 503
    return Readiness.of(boot)


@router.get("/metrics", response_class=Response, responses=_INTERNAL | _TEXT)
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this process and of what the site's manager tells."""
    body, media_type = await request.app.state.metrics.render()
    return Response(body, media_type=media_type)
