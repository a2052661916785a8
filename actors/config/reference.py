"""Writes `docs/configuration.md`, the list of every key, from the schema.

``python -m actors.config.reference docs/configuration.md``
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.config.load import json_schema

_HEAD = """# Configuration

A node reads one YAML file. `novacron config check FILE` shows every problem of it with file, line and field;
`novacron config schema` prints its JSON schema for editors. Two sections are needed, all others have defaults:

```yaml
node: {name: london-1}
topology:
  sites:
    - name: london
      nodes: [{name: london-1, address: 10.1.0.1}]
    - name: paris
      nodes: [{name: paris-1, address: 10.2.0.1}]
```

The environment overrides the file: `NOVACRON_<SECTION>__<KEY>`, for example `NOVACRON_TRANSPORT__STREAMS=8`; a list, as
in `NOVACRON_TOPOLOGY__SITES`, is written as YAML or JSON. Values in the file are not converted: `port: "8443"` is an
error. A key that does not exist, or stands twice, is an error too. This list is generated from
`actors/config/schema.py`.
"""


def reference() -> str:
    """The text of `docs/configuration.md`."""
    schema = json_schema()
    kinds = schema["$defs"]
    parts = [_HEAD]
    for name, section in schema["properties"].items():
        kind = kinds[section["$ref"].rpartition("/")[2]]
        parts.append(f"\n## {name}\n\n{_first_line(kind)}\n\n| key | kind | default | |\n| --- | --- | --- | --- |\n")
        parts += [f"| `{key}` | {what} | {default} | {text} |\n" for key, what, default, text in _rows(kind, kinds, "")]
    return "".join(parts)


def _rows(kind: dict[str, Any], kinds: dict[str, Any], within: str) -> Iterator[tuple[str, str, str, str]]:
    needed = kind.get("required", [])
    for key, field in kind["properties"].items():
        default = "**needed**" if key in needed else _default(field)
        yield within + key, _kind(field), default, field.get("description", "")
        if "$ref" in (inner := field.get("items", {})):
            yield from _rows(kinds[inner["$ref"].rpartition("/")[2]], kinds, f"{within}{key}[].")


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(field["enum"])
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    words = {"string": "text", "integer": "whole number", "array": "list", "null": "nothing"}
    name = "path" if field.get("format") == "path" else words.get(field["type"], field["type"])
    low, over, high = field.get("minimum"), field.get("exclusiveMinimum"), field.get("maximum")
    limits = [f"{sign} {limit}" for sign, limit in (("≥", low), (">", over), ("≤", high)) if limit is not None]
    return f"{name} {', '.join(limits)}".strip()


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _first_line(kind: dict[str, Any]) -> str:
    return str(kind.get("description", "")).splitlines()[0]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
