"""What every benchmark writes: the machine, the rows as JSON, and the same rows as a table."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from actors.errors import BadRequest

Cell = str | int | float | bool | None
Row = dict[str, Cell]
_WIDE = 1000


def machine_facts() -> dict[str, Cell]:
    """What a reader needs to compare runs: processor, cores, memory, kernel, and the versions of QEMU and libvirt."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "qemu": _first_line("qemu-system-x86_64", "--version"),
        "libvirt": _first_line("libvirtd", "--version"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def write(bench: str, rows: list[Row], path: Path) -> None:
    """Write the benchmark's file to `path`, replacing it whole."""
    document = {"bench": bench, "version": version("novacron"), "machine": machine_facts(), "rows": rows}
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.replace(path)


def read(path: Path) -> list[Row]:
    """The rows of a benchmark's file; none when there is no such file.

    Raises:
        BadRequest: it is something else.
    """
    try:
        rows = json.loads(path.read_text())["rows"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(detail=f"{path} is not a benchmark's file: {error}") from error
    return list(rows)


def show(title: str, rows: list[Row], columns: list[str]) -> None:
    """Print `columns` of `rows` as a table; a missing cell is a dash. In a file or pipe it gets all its width."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    console = Console()
    if not console.is_terminal:
        console.width = max(
            console.width, Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum
        )
    console.print(table)


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if type(cell) is int else str(cell)


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "absent"
    return done.stdout.splitlines()[0]
