"""Logs: one JSON object per line, for our events and for those of libraries alike."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from actors.config.schema import Log
from actors.log import set_up

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_what_was_given() -> None:
    stream = io.StringIO()
    set_up(Log(level="info", format="json"), stream, node="london-1")
    log.info("guest moved", guest="web1", took_s=2.5, node="paris-1")
    [line] = _lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "guest moved", "level": "info", "guest": "web1", "took_s": 2.5, "node": "paris-1"}


def test_libraries_speak_the_same_form() -> None:
    stream = io.StringIO()
    set_up(Log(), stream, node="london-1")
    logging.getLogger("uvicorn").warning("port %d is busy", 8443, extra={"peer": "x"})
    [line] = _lines(stream)
    assert {key: line[key] for key in ("event", "level", "node", "peer")} == {
        "event": "port 8443 is busy",
        "level": "warning",
        "node": "london-1",
        "peer": "x",
    }


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    set_up(Log(level="warning"), stream)
    log.info("quiet")
    logging.getLogger("lib").info("quiet")
    log.warning("loud")
    assert [line["event"] for line in _lines(stream)] == ["loud"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_do_not_show_the_values_of_variables(form: str) -> None:
    stream = io.StringIO()
    set_up(Log.model_validate({"format": form}), stream)
    try:
        token = "hunter" + str(2)
        raise ValueError(f"a secret of {len(token)} characters")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "in test_tracebacks" in text
    assert "hunter2" not in text


def test_the_last_call_holds_also_for_loggers_made_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up(Log(), first)
    early = structlog.get_logger()
    early.info("one")
    set_up(Log(format="console"), second)
    early.info("two")
    assert [line["event"] for line in _lines(first)] == ["one"]
    assert "two" in second.getvalue()
    assert "{" not in second.getvalue()


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    set_up(Log(), stream)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed", key=object)
    [line] = _lines(stream)
    assert line["exception"].endswith("ValueError: broken")
