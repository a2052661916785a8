"""``python -m api.openapi`` writes api/openapi.json; a test fails when that file is not current."""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("openapi.json")


def document() -> str:
    """The OpenAPI document as it is checked in."""
    from api.app import create_app

    nothing: Any = None  # neither is called to describe the routes
    app = create_app(backend=nothing, token="unused", boot_status=nothing)  # noqa: S106
    return json.dumps(app.openapi(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(document())
