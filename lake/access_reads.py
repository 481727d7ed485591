"""The access log read back, its small objects merged, its old ones deleted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
import zstandard

from kaimon.base.access import OK, Access
from lake.access import FOLDER, LOST, STAMP, encoded, object_key
from lake.stores import AlreadyExistsError, Store

MERGED: Final = "access.merged"
"""What the first record of a merged object says it is made of: `object` names the objects, which count no more."""

_RECORDS: Final = 100_000
"""Records in a merged object, about."""
_NAME: Final = re.compile(r"access/(\d{4}-\d{2}-\d{2})/(\d{12})-(\d{12})-[a-z]+-[0-9a-z-]+\.ndjson\.zst")
_DECODER: Final = msgspec.json.Decoder(Access)


def read_access(store: Store, first: datetime, last: datetime, tenant: str | None = None) -> Iterator[Access]:
    """Yield the records of [`first`, `last`) in the order of their times, of one tenant if it is given.

    Args:
        store: the audit store.
        first: aware.
        last: aware.
        tenant: only records that name it, and those of the log itself.

    Raises:
        lake.stores.StoreError: an object cannot be read.
    """
    first, last = first.astimezone(UTC), last.astimezone(UTC)
    for name in store.prefixes(FOLDER):
        if first.date() <= (day := date.fromisoformat(name)) <= last.date():
            yield from _of_day(store, day, first, last, tenant)


def purge_access(store: Store, today: date, keep_days: int) -> int:
    """Delete the objects of days that ended more than `keep_days` days before `today` (UTC); return how many.

    Raises:
        lake.stores.StoreError: some could not be deleted; the next time they are tried again.
    """
    gone = 0
    for name in store.prefixes(FOLDER):
        if date.fromisoformat(name) + timedelta(days=keep_days) < today:
            keys = [found.key for found in store.list(f"{FOLDER}/{name}")]
            store.delete(keys)
            gone += len(keys)
    return gone


def merge_access(store: Store, today: date) -> int:
    """Make few large objects of the many small ones of each day before `today` (UTC); return how many went.

    A merged object names those that it is made of, and from when it is there they count no more: at no moment is a
    record read twice or not at all. In a store that keeps what it holds, they stay, and are passed over.

    Raises:
        lake.stores.StoreError: the store failed; the next time goes on from there.
    """
    gone = 0
    for name in store.prefixes(FOLDER):
        if (day := date.fromisoformat(name)) >= today:
            continue
        keys = [found.key for found in store.list(f"{FOLDER}/{name}") if _NAME.fullmatch(found.key)]
        covered = _covered(store, keys)
        left = [key for key in keys if key in covered]
        rest = [key for key in keys if key not in covered and not _is_merged(key)]
        for group, records in _groups(store, rest):
            if len(group) > 1:
                _merge(store, day, group, records)
                left += group
        store.delete(left)
        gone += len(left)
    return gone


def _merge(store: Store, day: date, keys: Sequence[str], records: list[Access]) -> None:
    names = " ".join(key.rpartition("/")[2] for key in keys)
    first = min(record.at for record in records)
    head = Access(at=first, kind="log", what=MERGED, outcome=OK, object=names, count=len(keys))
    name = f"merged-{hashlib.sha256(names.encode()).hexdigest()[:24]}"
    try:
        store.put_new(object_key(day, records, name), encoded([head, *sorted(records, key=_time)]))
    except AlreadyExistsError:
        return  # an earlier attempt, whose answer was lost


def _groups(store: Store, keys: Sequence[str]) -> Iterator[tuple[list[str], list[Access]]]:
    group: list[str] = []
    records: list[Access] = []
    for key in keys:
        group.append(key)
        records += map(_DECODER.decode, _lines(store.get(key)))
        if len(records) >= _RECORDS:
            yield group, records
            group, records = [], []
    if records:
        yield group, records


def _covered(store: Store, keys: Sequence[str]) -> set[str]:
    """Return the keys whose records are in a merged object as well."""
    covered: set[str] = set()
    for key in keys:
        if _is_merged(key):
            head = _DECODER.decode(_lines(store.get(key))[0])
            covered |= {f"{key.rpartition('/')[0]}/{name}" for name in (head.object or "").split()}
    return covered


def _is_merged(key: str) -> bool:
    return "-merged-" in key


def _of_day(store: Store, day: date, first: datetime, last: datetime, tenant: str | None) -> Iterator[Access]:
    """Yield a day's records in order; objects overlap, so one is opened when those before it have come that far."""
    waiting: list[Access] = []
    for begins, key in _objects_of(store, day, first, last):
        ready = [record for record in waiting if record.at < begins]
        yield from ready
        waiting = sorted([*waiting[len(ready) :], *_records(store.get(key), first, last, tenant)], key=_time)
    yield from waiting


def _objects_of(store: Store, day: date, first: datetime, last: datetime) -> Iterator[tuple[datetime, str]]:
    keys = [found.key for found in store.list(f"{FOLDER}/{day.isoformat()}")]
    covered = _covered(store, keys)
    for key in keys:
        if (name := _NAME.fullmatch(key)) is None or key in covered:
            continue
        begins, ends = (
            datetime.strptime(f"{day.isoformat()} {text}", f"%Y-%m-%d {STAMP}").replace(tzinfo=UTC)
            for text in (name[2], name[3])
        )
        if begins < last and ends >= first:
            yield begins, key


def _records(data: bytes, first: datetime, last: datetime, tenant: str | None) -> list[Access]:
    lines: Iterable[bytes] = _lines(data)
    if tenant is not None:
        # Cheaper than decoding every line; what it lets through is looked at again.
        needles = (f'"tenant":"{tenant}"'.encode(), f'"what":"{LOST}"'.encode())
        lines = [line for line in lines if needles[0] in line or needles[1] in line]
    records = map(_DECODER.decode, lines)
    return [
        record
        for record in records
        if first <= record.at < last
        and record.what != MERGED
        and (tenant is None or record.tenant == tenant or record.what == LOST)
    ]


def _lines(data: bytes) -> list[bytes]:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines()


def _time(record: Access) -> datetime:
    return record.at
