"""Structured logs on stderr, ours and those of every library that uses `logging`, in one form."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from actors.config.schema import Log


def set_up(log: Log, stream: TextIO | None = None, **always: str) -> None:
    """Send every log of this process to `stream` (stderr) in the form and from the level that `log` says.

    One event is one line: JSON with ``event``, ``level``, ``timestamp`` (UTC, ISO 8601) and whatever was given with
    it, or the same for eyes. `always` stands in each, as in ``set_up(config.log, node=config.node.name)``. It can be
    called again; the last call holds.
    """

    def add_always(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**always, **event}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_always,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    level = logging.getLevelNamesMapping()[log.level.upper()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers are made when modules are imported, before this call: a cache would keep the form from before it.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _rendering(log: Log) -> list[Processor]:
    # Tracebacks without the values of variables: keys and tokens are among them.
    if log.format == "console":
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str, sort_keys=False)]
