"""Servers of ours: granian with TLS 1.2 or newer, no plain HTTP, workers that end with whoever started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from starlette.types import ASGIApp

from kaimon.base.logs import configure_logs, get_logger
from kaimon.base.tls import ServerTls, ensure_development_tls

_PR_SET_PDEATHSIG: Final = 1
# The server's own words go the way of all our logs.
_LOGS: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": False}},
}


@dataclass(frozen=True)
class Listening:
    """What listens where: `part` names it in logs; `workers` are processes that share the port."""

    part: str
    host: str
    port: int
    tls: ServerTls
    workers: int = 1


def server_tls(home: Path, certificate: Path | None, key: Path | None) -> ServerTls:
    """Return the configured certificate, or the development one under `tls/` in the home."""
    if certificate is not None and key is not None:
        return ServerTls(certificate, key, certificate)
    return ensure_development_tls(home)


def serve_https(what: Listening, load: Callable[[], ASGIApp]) -> None:
    """Serve until SIGTERM or SIGINT; requests that are under way are answered first, for up to 60 s.

    Args:
        what: what listens where.
        load: makes the application in each worker process, where it must be importable.
    """
    # Parquet's and Polars' threads do not survive a fork.
    multiprocessing.set_start_method("spawn", force=True)
    get_logger(__name__).info(f"{what.part}_listening", host=what.host, port=what.port, workers=what.workers)
    Granian(
        f"kaimon:{what.part}",  # a name to show: `load` makes the application
        address=what.host,
        port=what.port,
        interface=Interfaces.ASGI,
        workers=what.workers,
        # One alone ends with the server, whose supervisor starts both.
        respawn_failed_workers=what.workers > 1,
        http=HTTPModes.http1,
        websockets=False,
        ssl_cert=what.tls.certificate,
        ssl_key=what.tls.key,
        ssl_protocol_min=SSLProtocols.tls12,
        log_dictconfig=_LOGS,
        log_access=False,
        workers_kill_timeout=60,
    ).serve(target_loader=partial(_load, what.part, load), wrap_loader=False)


def _load(part: str, load: Callable[[], ASGIApp]) -> ASGIApp:
    """Make the application in a worker process, which ends when the one that started it does."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    configure_logs(part)
    return load()
