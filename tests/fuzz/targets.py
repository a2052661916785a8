"""The targets by name, and the inputs that are kept: those that once found a fault, and a few that reach far."""

from pathlib import Path

from tests.fuzz import engine, hde, nbd, wire
from tests.fuzz.target import Target

TARGETS = {target.name: target for target in (*wire.TARGETS, *engine.TARGETS, *hde.TARGETS, *nbd.TARGETS)}
_CORPUS = Path(__file__).parent / "corpus"


def corpus(target: Target) -> list[bytes]:
    """The target's seeds and what is kept for it."""
    return [*target.seeds(), *(path.read_bytes() for path in sorted((_CORPUS / target.name).glob("*")))]
