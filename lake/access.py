"""The access log as it is kept: objects of compressed NDJSON in the audit store, written in the background.

Cheap, since a record only joins a queue; durable, since what left the queue is an object that nothing replaces. What
is not kept yet when a process is killed is lost, at most `access_flush_s` of it; anything else that is lost is counted,
told to `on_lost` and, once there is a place to say so, said in the log itself.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import groupby
from typing import Final

import msgspec
import zstandard

from kaimon.base.access import Access, Sink, reporting_to
from kaimon.base.clock import Clock, utc_now
from kaimon.base.logs import get_logger
from kaimon.base.redact import redact
from kaimon.base.tracing import tracing
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, Store, silent_store

FOLDER: Final = "access"
LOST: Final = "access.lost"
"""What a record of the log itself says was lost: `count` records before it."""

_AT_ONCE: Final = 10_000
"""Records that are written without waiting, and the most in one object."""
STAMP: Final = "%H%M%S%f"
_ENCODER: Final = msgspec.json.Encoder()


def object_key(day: date, records: Sequence[Access], name: str) -> str:
    """Return the key of an object: below its day, named by the range of its records' times."""
    times = [record.at for record in records]
    return f"{FOLDER}/{day.isoformat()}/{min(times):{STAMP}}-{max(times):{STAMP}}-{name}.ndjson.zst"


def encoded(records: Sequence[Access]) -> bytes:
    """Return records as an object holds them; no token is in it, whatever carried it here."""
    return zstandard.compress(redact(_ENCODER.encode_lines(records).decode()).encode())


class AccessLog:
    """One process's part of the log. A sink for `kaimon.base.access.reporting_to`; safe to share among threads."""

    def __init__(
        self,
        store: Callable[[], Store],
        part: str,
        *,
        flush_s: float = 10.0,
        most: int = 200_000,
        on_lost: Callable[[str, int], None] = lambda _name, _lost: None,
        clock: Clock = utc_now,
    ) -> None:
        """Write to `store`; nothing is opened or written before there is a record.

        Args:
            store: opens the audit store.
            part: the part of kaimon that reports, in small letters: `ingest`, `pipelines`, `cli`.
            flush_s: seconds that a record waits at most, while the store can be written.
            most: records that wait at most when it cannot; the newest are dropped, and counted.
            on_lost: told (name of this log, records lost until now) when some were lost; it may raise.
            clock: what time it is.
        """
        self.name = f"{part}-{clock():%Y%m%dt%H%M%S}-{secrets.token_hex(4)}"
        self.lost = 0
        self._store = store
        self._flush_s = flush_s
        self._most = most
        self._on_lost = on_lost
        self._clock = clock
        self._records: deque[Access] = deque()
        self._objects: deque[tuple[str, bytes, int]] = deque()
        self._packed = 0
        self._told = 0
        self._said = 0
        self._number = 0
        self._failing = False
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def __call__(self, record: Access) -> None:
        """Take a record."""
        if self.waiting() >= self._most:
            with self._counting:
                self.lost += 1
            return
        self._records.append(record)
        if self._thread is None:
            self._start()
        if len(self._records) >= _AT_ONCE:
            self._wake.set()

    def waiting(self) -> int:
        """Return how many records are not kept yet."""
        return len(self._records) + self._packed

    def flush(self) -> bool:
        """Write what waits, and say whether all of it is kept."""
        with self._writing:
            self._pack()
            kept = self._put()
            if kept and self._say_lost():
                self._pack()
                kept = self._put()
        self._alarm()
        return kept

    def close(self) -> None:
        """Write what waits and take no more; what cannot be written now is lost, and counted."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if not self.flush():
            with self._counting:
                self.lost += self.waiting()
            self._alarm()

    def _start(self) -> None:
        with self._counting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="access-log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # there is no room for a thread now; the next record tries again
                self._thread = thread

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            if not self._closed:
                self.flush()

    def _say_lost(self) -> bool:
        """Put what was lost into the log itself, where a reader looks; return whether anything was."""
        if (lost := self.lost) == self._said:
            return False
        self._records.append(Access(at=self._clock(), kind="log", what=LOST, outcome="lost", count=lost - self._said))
        self._said = lost
        return True

    def _pack(self) -> None:
        """Make objects of the records that wait, each of one day."""
        taken = [self._records.popleft() for _ in range(len(self._records))]
        for day, group in groupby(taken, lambda record: record.at.date()):
            records = list(group)
            for first in range(0, len(records), _AT_ONCE):
                some = records[first : first + _AT_ONCE]
                self._number += 1
                name = f"{self.name}-{self._number:06d}"
                self._objects.append((object_key(day, some, name), encoded(some), len(some)))
                self._packed += len(some)

    def _put(self) -> bool:
        while self._objects:
            key, data, count = self._objects[0]
            try:
                self._store().put_new(key, data)
            except AlreadyExistsError:
                pass  # an earlier attempt whose fate was not known: nobody else has this name
            except Exception as error:  # noqa: BLE001 - whatever it is, the records wait
                if not self._failing:
                    self._failing = True
                    get_logger(__name__).error("access_log_not_written", error=str(error), waiting=self.waiting())
                return False
            self._objects.popleft()
            self._packed -= count
        if self._failing:
            self._failing = False
            get_logger(__name__).info("access_log_written_at_last")
        return True

    def _alarm(self) -> None:
        if (lost := self.lost) > self._told:
            self._told = lost
            get_logger(__name__).error("access_records_lost", log=self.name, lost=lost)
            try:
                self._on_lost(self.name, lost)
            except Exception:  # noqa: BLE001 - the writing goes on
                get_logger(__name__).exception("alarm_not_raised", log=self.name)


@contextmanager
def access_log(
    part: str,
    settings: LakeSettings | None = None,
    on_lost: Callable[[str, int], None] = lambda _name, _lost: None,
) -> Iterator[AccessLog]:
    """Let everything in this process report to the audit store for the length of a `with`; its end writes all out."""
    settings = settings or LakeSettings()
    log = AccessLog(
        partial(silent_store, "audit", settings),
        part,
        flush_s=settings.access_flush_s,
        most=settings.access_waiting,
        on_lost=on_lost,
    )
    try:
        with tracing(part) as also, reporting_to(log if also is None else partial(_both, log, also)):
            yield log
    finally:
        log.close()


def _both(log: AccessLog, also: Sink, record: Access) -> None:
    log(record)
    try:
        also(record)
    except Exception:  # noqa: BLE001 - no trace is worth what it tells of
        get_logger(__name__).exception("span_not_made")
