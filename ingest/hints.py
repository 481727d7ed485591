"""Hints for landing, written behind the requests' backs and at most once a second."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from kaimon.base.logs import get_logger
from tenancy.database import Database
from tenancy.hints import mark_staged

_INTERVAL_S: Final = 1.0


class HintFlusher:
    """Gathers (tenant, node, seq) and writes the newest; a hint that is lost costs landing only time."""

    def __init__(self, db: Database, interval_s: float = _INTERVAL_S) -> None:
        """Write to `db`, with `interval_s` between two writes."""
        self._db = db
        self._interval_s = interval_s
        self._pending: dict[tuple[str, str], int] = {}
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()

    def note(self, tenant: str, node: str, seq: int) -> None:
        """Say that this segment is durable."""
        self._pending[tenant, node] = max(seq, self._pending.get((tenant, node), seq))
        self._wake.set()

    async def run(self) -> None:
        """Write whenever there is something, until closed; then once more."""
        while not self._closing.is_set():
            await self._wake.wait()
            await self._flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval_s)
        await self._flush()

    def close(self) -> None:
        """Let `run` come to its end."""
        self._closing.set()
        self._wake.set()

    async def _flush(self) -> None:
        self._wake.clear()
        taken, self._pending = self._pending, {}
        if not taken:
            return
        rows = [(tenant, node, seq) for (tenant, node), seq in taken.items()]
        try:
            await asyncio.to_thread(mark_staged, self._db, rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, requests must not suffer from it
            get_logger(__name__).warning("hints_not_written", count=len(rows), error=str(error))
            for tenant, node, seq in rows:
                self.note(tenant, node, seq)
