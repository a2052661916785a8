"""What commands print: tables and progress for people, plain columns for pipes, JSON for programs."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from actors.errors import NovaCronError

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Standard output; colours and boxes only on a terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One plain line on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One plain line on standard error, where it does not disturb what a program reads."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def complain(error: NovaCronError) -> None:
    """The error and what can be done about it, on standard error."""
    note(f"novacron: {error}")
    note(f"  → {error.next_step}")


def as_json(value: object) -> None:
    """Indented JSON, keys as in the REST API."""
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def as_json_line(value: object) -> None:
    """JSON in one line."""
    say(msgspec.json.encode(value).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """`rows` under `columns`; `empty` says what it means that there are none."""
    if not rows:
        say(empty)
    elif sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        shown = Table(*columns)
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row))
        console().print(shown)
    else:
        lines = [[name.upper().replace(" ", "-") for name in columns], *([cell or "-" for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one a line; empty values are left out."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        if value:
            say(f"{name.ljust(width)}  {value}")


def size(count: float) -> str:
    """Bytes for people: 512 B, 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def rate(bytes_per_s: float) -> str:
    """A link's rate as operators name it: 94.3 Mbit/s."""
    return f"{bytes_per_s * 8 / 1e6:.1f} Mbit/s"


def seconds(value: float) -> str:
    """A duration: 450 ms, 9.2 s, 3 min 05 s; a dash when unknown (negative)."""
    if value < 0:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"
