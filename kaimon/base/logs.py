"""Structured JSON logs on standard error, redacted."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from contextlib import nullcontext
from datetime import datetime
from types import TracebackType
from typing import Any, Final, TextIO
from weakref import WeakKeyDictionary

import msgspec
import structlog

from kaimon.base.redact import redact, redact_event

_components: Final = ["kaimon"]
_WAITING: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list[str]]] = WeakKeyDictionary()
"""Lines of requests that each event loop writes before its next turn."""


def configure_logs(component: str, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's logs to stderr as one JSON object a line.

    Args:
        component: the part that logs (`ingest`, `pipelines`, `cli`), in every line.
        level: the lowest level that is written.
    """
    _components.append(component)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _add_component(component),
        redact_event,
    ]
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_event,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    _redact_what_python_prints()
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def log_request(at: datetime, **details: Any) -> None:
    """Write the line that every request leaves, as `get_logger(…).info("request", …)` would, at a tenth of the cost.

    On an event loop it is written along with those of all requests that end in the same turn of it.

    Args:
        at: when the request ended (UTC).
        details: what JSON can say.
    """
    line = {"event": "request", **details, "level": "info", "component": _components[-1], "timestamp": at}
    # A token's letters are never escaped, so the whole line can be looked at at once.
    text = redact(msgspec.json.encode(line).decode())
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _write([text])
        return
    waiting = _WAITING.setdefault(loop, [])
    if not waiting:
        loop.call_soon(_write, waiting)
    waiting.append(text)


def _write(lines: list[str]) -> None:
    text = "\n".join(lines)
    lines.clear()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.write_lines(text)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger; event names are words with underscores, details are key=value."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class _Handler(logging.StreamHandler[TextIO]):
    """Says that a line could not be written, without the arguments that the standard library would print."""

    def write_lines(self, text: str) -> None:
        """Write lines that are ready."""
        with self.lock or nullcontext():
            self.stream.write(f"{text}\n")
            self.flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Write a line of its own in place of the one that failed."""
        place = f"{record.name}:{record.lineno}"
        self.stream.write(f'{{"event": "log_line_failed", "level": "error", "place": "{place}"}}\n')


def _redact_what_python_prints() -> None:
    """Log what Python itself would print as it is: whatever nobody caught, and warnings.

    A test runner that listens there already is left alone.
    """
    sys.excepthook = _log_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _log_unraisable
    logging.captureWarnings(capture=True)


def _log_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None and not issubclass(what.exc_type, SystemExit):
        thread = what.thread.name if what.thread else "unknown"
        trace = (what.exc_type, what.exc_value, what.exc_traceback)
        logging.getLogger("uncaught").critical("uncaught in thread %s", thread, exc_info=trace)


def _log_unraisable(what: sys.UnraisableHookArgs) -> None:
    """Log what was raised where nobody can catch it: as an object ends, or at the end of the program."""
    if what.exc_value is not None:
        trace = (what.exc_type, what.exc_value, what.exc_traceback)
        logging.getLogger("uncaught").critical("%s", what.err_msg or "uncaught as an object ended", exc_info=trace)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an exception that nobody caught, redacted, where Python would print it as it is."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("uncaught").critical("uncaught", exc_info=(kind, error, trace))


def _add_component(component: str) -> Any:
    def add(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["component"] = component
        return event

    return add
