"""``novacron store``: what nodes keep of guests' memory and disks, so that it need not cross the line again."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, say, size, table

if TYPE_CHECKING:
    from actors.encoding.messages import StoreImage, StoreState
    from api.cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Content stores: blocks that moves to a node need not bring.")

BLOCK_BYTES = 4096
LOOK_S = 0.5

OnNodes = Annotated[list[str] | None, typer.Option("--node", help="Only there; may be repeated. Without: every node.")]
Image = Annotated[str, typer.Argument(help="Absolute path on the node.")]


@app.command()
def add(
    context: typer.Context,
    image: Image,
    node: OnNodes = None,
    wait: Annotated[bool, typer.Option(help="Until it has been read.")] = True,
    json: Json = False,
) -> None:
    """Register a raw or qcow2 image, an initramfs or a folder, on each node that has it."""
    with client(context) as api:
        done = _each(api, node, lambda name: api.add_image(name, image))
        if wait:
            done = [_read(api, store, image) for store in done]
    if json:
        as_json({"stores": done})
    else:
        _tell_images(done)
    if any(found is None or found.state == "failed" for found in (_image(store, image) for store in done)):
        raise typer.Exit(1)


@app.command("list")
def list_images(context: typer.Context, node: OnNodes = None, json: Json = False) -> None:
    """List the registered images."""
    with client(context) as api:
        stores = _each(api, node, api.store)
    if json:
        as_json({"stores": stores})
    else:
        _tell_images(stores)


@app.command()
def remove(context: typer.Context, image: Image, node: OnNodes = None, json: Json = False) -> None:
    """Forget a registered image."""
    with client(context) as api:
        stores = _each(api, node, lambda name: api.remove_image(name, image))
    _tell(stores, f"{image} is no longer registered on", json)


@app.command()
def clear(context: typer.Context, node: OnNodes = None, json: Json = False) -> None:
    """Forget every block, and the images that were copied."""
    with client(context) as api:
        stores = _each(api, node, api.clear_store)
    _tell(stores, "The store is empty on", json)


@app.command()
def stats(context: typer.Context, node: OnNodes = None, json: Json = False) -> None:
    """Show how full each store is and what it was good for."""
    with client(context) as api:
        stores = _each(api, node, api.store)
    if json:
        as_json({"stores": stores})
        return
    rows = [
        [
            store.node, size(store.blocks * BLOCK_BYTES), size(store.capacity * BLOCK_BYTES),
            size(store.hits * BLOCK_BYTES), str(store.evicted), str(store.dropped), str(len(store.images)),
        ]
        for store in stores
    ]  # fmt: skip
    table(["node", "holds", "room", "spared", "evicted", "spoilt", "images"], rows, "No node answers.")


def _each(api: "Client", nodes: list[str] | None, ask: "Callable[[str], StoreState]") -> "list[StoreState]":
    """The answer of each node; one that refuses is told, unless all do."""
    from actors.errors import NotFound, NovaCronError

    names = nodes or [one.node for site in api.sites().sites for one in site.nodes]
    answers: list[StoreState] = []
    last: NovaCronError = NotFound(what="a node that answers")
    for name in names:
        try:
            answers.append(ask(name))
        except NovaCronError as error:
            last = error
            if len(names) > 1:
                note(f"{name}: {error}")
    if not answers:
        raise last
    return answers


def _image(store: "StoreState", path: str) -> "StoreImage | None":
    return next((image for image in store.images if image.path == path), None)


def _read(api: "Client", store: "StoreState", path: str) -> "StoreState":
    """The store once the image has been read; the API keeps the time."""
    while (image := _image(store, path)) is not None and image.state == "reading":
        time.sleep(LOOK_S)
        store = api.store(store.node)
    return store


def _tell_images(stores: "list[StoreState]") -> None:
    rows = [
        [store.node, image.path, image.kind, image.state, size(image.blocks * BLOCK_BYTES), image.reason]
        for store in stores
        for image in store.images
    ]  # fmt: skip
    table(["node", "image", "kind", "state", "content", "reason"], rows, "No image is registered.")


def _tell(stores: "list[StoreState]", what: str, json: bool) -> None:
    if json:
        as_json({"stores": stores})
    else:
        say(f"{what} {', '.join(store.node for store in stores)}.")
