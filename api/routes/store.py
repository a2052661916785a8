"""Content stores: look at one, register images, forget."""

from typing import Annotated

from fastapi import APIRouter, Query

from actors.errors import Conflict, NodeUnknown, NotFound
from actors.migration.messages import StoreQuery
from api.models import HostPath, StoreImageCreate, StoreView
from api.problems import documented
from api.routes import TOKEN, BackendDep, NodePath

router = APIRouter(prefix="/v1/nodes/{name}/store", tags=["store"], dependencies=[TOKEN])

ImagePath = Annotated[HostPath, Query(description="the image as it was registered")]


@router.get("", responses=documented(NodeUnknown))
async def show_store(backend: BackendDep, name: NodePath) -> StoreView:
    """What the node's store holds and what it was good for, and the images registered there."""
    return StoreView.of(await backend.store(StoreQuery(node=name)))


@router.delete("", responses=documented(NodeUnknown))
async def clear_store(backend: BackendDep, name: NodePath) -> StoreView:
    """Forget every block, and the images that were copied."""
    return StoreView.of(await backend.store(StoreQuery(node=name, action="clear")))


@router.post("/images", status_code=202, responses=documented(NodeUnknown, Conflict))
async def add_image(backend: BackendDep, name: NodePath, body: StoreImageCreate) -> StoreView:
    """Register an image on the node, or read it anew; the answer does not wait until it has been read."""
    return StoreView.of(await backend.store(StoreQuery(node=name, action="add", path=body.path)))


@router.delete("/images", responses=documented(NodeUnknown, NotFound))
async def remove_image(backend: BackendDep, name: NodePath, path: ImagePath) -> StoreView:
    """Forget a registered image; blocks that were copied stay until others take their place."""
    return StoreView.of(await backend.store(StoreQuery(node=name, action="remove", path=path)))
