"""The actors through which an arriving guest comes; each holds a lock, so that the keeper can end it if it must."""

from pathlib import Path

import structlog

from actors.locks import hold

log = structlog.get_logger()
TRANSPORT, DECODER = "transport.lock", "decoder.lock"
CARRIERS = (TRANSPORT, DECODER)


def carry(run_dir: Path, name: str) -> None:
    """Hold the lock `name` as long as this process lives."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        hold(run_dir / name)
    except OSError as error:
        log.warning("the keeper could not end moves to this node by itself", lock=name, error=str(error))
