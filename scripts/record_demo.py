"""Runs ``novacron demo`` on a terminal of its own and draws what it showed as docs/demo.svg (the README's picture)."""

import io
import os
import pty
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 112
PICTURE = Path(__file__).parent.parent / "docs" / "demo.svg"


def shown(raw: bytes) -> list[str]:
    """The lines as they stood at last: a line drawn again and again over itself counts once."""
    lines = raw.decode(errors="replace").replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1].rsplit("\x1b[2K", 1)[-1] for line in lines]


def main() -> int:
    """Record, draw, and end as the demo did."""
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    raw = io.BytesIO()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        raw.write(data)
        return data

    status = pty.spawn([str(Path(sys.executable).with_name("novacron")), "demo"], read)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in shown(raw.getvalue()):
        console.print(Text.from_ansi(line))
    console.save_svg(str(PICTURE), title="make demo")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
