"""Structured logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from kaimon.base.logs import get_logger, log_request

SECRET = "7Zq1" * 8 + "0a1B2c"
TOKEN = f"kmn_enr_{SECRET}"


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def fail() -> None:
    raise ValueError(f"bad token {TOKEN}")


def test_an_event_is_one_json_object_with_its_time_level_and_component(written: io.StringIO) -> None:
    get_logger("ingest.commit").info("segment_written", tenant="acme", rows=3)
    (line,) = lines(written)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset().total_seconds() == 0
    assert line == {"event": "segment_written", "tenant": "acme", "rows": 3, "level": "info", "component": "test"}


def test_the_standard_librarys_logs_look_the_same(written: io.StringIO) -> None:
    logging.getLogger("granian").warning("listening on %s", "127.0.0.1")
    (line,) = lines(written)
    assert (line["event"], line["level"], line["component"]) == ("listening on 127.0.0.1", "warning", "test")


def test_what_is_below_the_level_is_not_written(written: io.StringIO) -> None:
    get_logger("a").debug("quiet")
    logging.getLogger("b").debug("quiet")
    assert lines(written) == []


def test_an_event_with_line_breaks_stays_one_line(written: io.StringIO) -> None:
    get_logger("a").info("line\nbreak", path='a\n{"event": "forged"}')
    logging.getLogger("b").info("line\nbreak")
    assert len(lines(written)) == 2


@pytest.mark.parametrize("level", ["info", "error"])
def test_tokens_are_redacted_wherever_an_event_carries_them(written: io.StringIO, level: str) -> None:
    log = get_logger("a").bind(bound=TOKEN)
    getattr(log, level)(f"got_{TOKEN}", value=TOKEN, deep={"list": [TOKEN, TOKEN.encode()], TOKEN: 1})
    structlog.contextvars.bind_contextvars(request=TOKEN)
    try:
        log.info("in_context")
    finally:
        structlog.contextvars.clear_contextvars()
    assert SECRET not in written.getvalue()
    assert written.getvalue().count("kmn_enr_[redacted]") == 8


def test_tokens_are_redacted_from_the_names_of_fields(written: io.StringIO) -> None:
    get_logger("a").info("headers", **{TOKEN: 1})
    assert SECRET not in written.getvalue()


def test_tokens_are_redacted_from_tracebacks(written: io.StringIO) -> None:
    for log in (get_logger("a"), logging.getLogger("b")):
        try:
            fail()
        except ValueError:
            log.exception("failed")
    first, second = lines(written)
    for line in (first, second):
        assert "ValueError: bad token kmn_enr_[redacted]" in line["exception"]
        assert "in fail" in line["exception"]
    assert SECRET not in written.getvalue()


def test_tokens_are_redacted_from_chained_exceptions(written: io.StringIO) -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        get_logger("a").exception("failed")
    assert "RuntimeError: outer" in written.getvalue()
    assert SECRET not in written.getvalue()


def test_tokens_are_redacted_from_the_standard_librarys_arguments(written: io.StringIO) -> None:
    logging.getLogger("httpx").info("header %s of %s", TOKEN, {"authorization": TOKEN})
    logging.getLogger("httpx").warning(TOKEN, extra={"token": TOKEN}, stack_info=True)
    assert SECRET not in written.getvalue()
    assert len(lines(written)) == 2


def test_a_value_that_json_does_not_know_is_written_as_text(written: io.StringIO) -> None:
    from pathlib import Path

    get_logger("a").info("odd", path=Path("a"), values={1, 2}, error=OSError(28, "No space"))
    (line,) = lines(written)
    assert line["path"] == "a"
    assert sorted(line["values"]) == [1, 2]
    assert "No space" in line["error"]


def test_a_log_call_that_cannot_be_formatted_does_not_print_its_arguments() -> None:
    program = f"""
import logging
from kaimon.base.logs import configure_logs
configure_logs("test")
logging.getLogger("x").info("%d rows", "{TOKEN}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert SECRET not in done.stderr.replace(program, "")


def test_an_exception_that_nobody_catches_is_redacted_too() -> None:
    program = f"""
from kaimon.base.logs import configure_logs
configure_logs("test")
raise ValueError("bad token {TOKEN}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert SECRET not in done.stderr
    assert "bad token kmn_enr_[redacted]" in done.stderr


def test_lines_of_requests_look_the_same_and_are_written_before_the_loop_turns_again(written: io.StringIO) -> None:
    at = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)

    async def live() -> None:
        for number in range(3):
            log_request(at, number=number, request_id=TOKEN)
        await asyncio.sleep(0)
        assert len(lines(written)) == 3
        log_request(at, number=3)

    asyncio.run(live())
    log_request(at, number=4)
    found = lines(written)
    assert [line["number"] for line in found] == list(range(5))
    assert {line["timestamp"] for line in found} == {"2026-03-04T05:06:07.000089Z"}
    assert {(line["event"], line["level"], line["component"]) for line in found} == {("request", "info", "test")}
    assert SECRET not in written.getvalue()
