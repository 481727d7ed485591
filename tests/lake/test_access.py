"""The access log: kept, counted where it cannot be, read back, and deleted after its year."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from kaimon.base.access import Access, accessing, report, reporting_to
from kaimon.base.acting import Actor, acting_as
from lake.access import FOLDER, LOST, AccessLog, access_log
from lake.access_reads import merge_access, purge_access, read_access
from lake.settings import LakeSettings
from lake.stores import AlreadyExistsError, LocalStore, StoreError

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class FailingStore(LocalStore):
    """Refuses to put while it is told to; `unsure` puts and then says that it did not."""

    away = False
    unsure = False

    def put_new(self, key: str, data: bytes) -> None:
        if self.away:
            raise StoreError("away")
        super().put_new(key, data)
        if self.unsure:
            self.unsure = False
            raise StoreError("no answer")


@pytest.fixture
def store(tmp_path: Path) -> FailingStore:
    return FailingStore(tmp_path / "audit")


def record(number: int = 0, at: datetime = NOON, tenant: str | None = "acme") -> Access:
    return Access(
        at=at + timedelta(seconds=number), kind="call", what="GET /x", outcome="ok", tenant=tenant, count=number
    )


def numbers(
    store: LocalStore, first: datetime = NOON - DAY, last: datetime = NOON + DAY, tenant: str | None = None
) -> list[int]:
    return [found.count or 0 for found in read_access(store, first, last, tenant)]


@pytest.fixture
def log(store: FailingStore) -> Iterator[AccessLog]:
    made = AccessLog(lambda: store, "test", flush_s=3600)
    yield made
    made.close()


def test_what_was_reported_is_read_back_in_order_and_whole(store: FailingStore, log: AccessLog) -> None:
    full = Access(
        at=NOON, kind="storage", what="staging.put", outcome="ok", tenant="acme", object="acme/n/000000000001.parquet",
        who="system", origin="127.0.0.1", request_id="req_1", status=200, took_ms=1.5, bytes=7, count=1,
    )  # fmt: skip
    log(full)
    assert log.flush()
    assert list(read_access(store, NOON, NOON + DAY)) == [full]


def test_records_of_several_processes_come_in_the_order_of_their_times(store: FailingStore) -> None:
    logs = [AccessLog(lambda: store, "test", flush_s=3600) for _ in range(3)]
    for number in range(90):
        logs[number % 3](record(number))
        if number % 7 == 0:
            logs[number % 3].flush()
    for one in logs:
        one.close()
    assert numbers(store) == list(range(90))
    assert numbers(store, NOON + timedelta(seconds=10), NOON + timedelta(seconds=20)) == list(range(10, 20))


def test_records_lie_under_the_day_that_they_are_of(store: FailingStore, log: AccessLog) -> None:
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    for number in range(-2, 2):
        log(record(number, midnight))
    log.flush()
    assert store.prefixes(FOLDER) == ["2026-03-04", "2026-03-05"]
    assert numbers(store, midnight - DAY, midnight) == [-2, -1]
    assert numbers(store, midnight, midnight + DAY) == [0, 1]


def test_a_tenants_records_are_told_from_anothers(store: FailingStore, log: AccessLog) -> None:
    for number, tenant in enumerate(["acme", "acme-2", None, "acme"]):
        log(record(number, tenant=tenant))
    log.flush()
    assert numbers(store, tenant="acme") == [0, 3]
    assert numbers(store, tenant="acme-2") == [1]
    assert numbers(store) == [0, 1, 2, 3]


def test_a_record_is_kept_without_anybody_asking(store: FailingStore) -> None:
    log = AccessLog(lambda: store, "test", flush_s=0.01)
    try:
        log(record())
        for _ in range(1000):
            if numbers(store):
                break
            threading.Event().wait(0.02)
        assert numbers(store) == [0]
    finally:
        log.close()


def test_closing_keeps_what_waits(store: FailingStore) -> None:
    log = AccessLog(lambda: store, "test", flush_s=3600)
    log(record())
    log.close()
    assert numbers(store) == [0]


def test_a_process_that_reports_nothing_writes_nothing(store: FailingStore) -> None:
    AccessLog(lambda: store, "test").close()
    assert not store.root.exists()


def test_while_the_store_is_away_records_wait_and_none_is_lost_or_doubled(store: FailingStore, log: AccessLog) -> None:
    store.away = True
    log(record(0))
    assert not log.flush()
    log(record(1))
    assert not log.flush()
    assert log.waiting() == 2
    store.away, store.unsure = False, True
    assert not log.flush()
    assert log.flush()
    assert (log.waiting(), log.lost) == (0, 0)
    assert numbers(store) == [0, 1]


def test_what_is_lost_is_counted_alarmed_of_and_said_in_the_log_itself(store: FailingStore) -> None:
    told: list[tuple[str, int]] = []
    log = AccessLog(
        lambda: store,
        "test",
        flush_s=3600,
        most=2,
        on_lost=lambda *what: told.append(what),
        clock=lambda: NOON + DAY / 2,
    )
    store.away = True
    for number in range(5):
        log(record(number))
    assert not log.flush()
    assert (log.lost, told) == (3, [(log.name, 3)])
    store.away = False
    assert log.flush()
    found = list(read_access(store, NOON, NOON + DAY, "acme"))
    assert [(one.what, one.count) for one in found] == [("GET /x", 0), ("GET /x", 1), (LOST, 3)]
    log.close()
    assert told == [(log.name, 3)]


def test_what_cannot_be_kept_at_the_end_is_lost_aloud(store: FailingStore) -> None:
    told: list[tuple[str, int]] = []
    log = AccessLog(lambda: store, "test", flush_s=3600, on_lost=lambda *what: told.append(what))
    store.away = True
    log(record())
    log.close()
    assert told == [(log.name, 1)]


def test_an_alarm_that_cannot_be_raised_does_not_stop_the_writing(store: FailingStore) -> None:
    def fail(_name: str, _lost: int) -> None:
        raise OSError("no database")

    log = AccessLog(lambda: store, "test", flush_s=3600, most=1, on_lost=fail)
    log(record(0))
    log(record(1))
    assert log.flush()
    log.close()
    assert numbers(store)[0] == 0


def test_many_threads_lose_nothing(store: FailingStore) -> None:
    log = AccessLog(lambda: store, "test", flush_s=0.001)
    threads = [
        threading.Thread(target=lambda part=part: [log(record(part * 1000 + n)) for n in range(1000)])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(numbers(store)) == list(range(4000))


def test_no_token_is_in_the_log_whatever_carried_it_there(store: FailingStore, log: AccessLog) -> None:
    token = "kmn_hst_" + "7Zq1" * 8 + "0a1B2c"
    log(Access(at=NOON, kind="call", what=token, outcome="ok", object=f"x/{token}", request_id=token))
    log.flush()
    (found,) = [store.get(item.key) for item in store.list(FOLDER)]
    text = zstandard.ZstdDecompressor().decompressobj().decompress(found).decode()
    assert token not in text
    assert text.count("kmn_hst_[redacted]") == 3


def test_an_access_is_reported_however_it_ends(store: FailingStore) -> None:
    seen: list[Access] = []
    with reporting_to(seen.append), acting_as(Actor("prs_1", "cli:1", "req_1")):
        with accessing("storage", "lake.read", "acme", "events") as told:
            told.count = 3
        with pytest.raises(StoreError), accessing("storage", "lake.read", "acme", "events"):
            raise StoreError("no")
    assert [(one.outcome, one.count, one.who, one.origin, one.request_id) for one in seen] == [
        ("ok", 3, "prs_1", "cli:1", "req_1"),
        ("StoreError", None, "prs_1", "cli:1", "req_1"),
    ]
    report(record())
    assert len(seen) == 2


def test_a_year_is_kept_and_what_is_older_goes(store: FailingStore, log: AccessLog) -> None:
    today = date(2027, 3, 5)
    for days in (366, 365, 1):
        log(record(days, datetime(2027, 3, 5, tzinfo=UTC) - timedelta(days=days)))
    log.flush()
    assert purge_access(store, today, 365) == 1
    assert numbers(store, NOON - DAY, NOON + 400 * DAY) == [365, 1]
    assert purge_access(store, today, 365) == 0


def test_a_home_has_its_log_in_its_audit_store(settings: LakeSettings) -> None:
    with access_log("cli", settings):
        report(record())
    assert len(list((settings.home / "audit" / "access" / "2026-03-04").iterdir())) == 1


def test_an_object_of_the_log_is_never_replaced(store: FailingStore, log: AccessLog) -> None:
    log(record())
    log.flush()
    (found,) = store.list(FOLDER)
    with pytest.raises(AlreadyExistsError):
        store.put_new(found.key, b"forged")


def many(store: FailingStore, count: int = 30) -> None:
    """A day's records in an object each, of several processes."""
    logs = [AccessLog(lambda: store, "test", flush_s=3600) for _ in range(3)]
    for number in range(count):
        logs[number % 3](record(number))
        logs[number % 3].flush()
    for log in logs:
        log.close()


def names(store: FailingStore) -> list[str]:
    return [found.key for found in store.list(FOLDER)]


def test_a_days_many_objects_become_few_and_read_the_same(store: FailingStore) -> None:
    many(store)
    before = list(read_access(store, NOON - DAY, NOON + DAY))
    assert merge_access(store, NOON.date()) == 0  # the day is not over
    assert merge_access(store, (NOON + DAY).date()) == 30
    assert len(names(store)) == 1
    assert list(read_access(store, NOON - DAY, NOON + DAY)) == before
    assert merge_access(store, (NOON + DAY).date()) == 0
    many(store, 2)  # what comes late
    merge_access(store, (NOON + DAY).date())
    assert len(names(store)) == 2
    assert sorted(numbers(store)) == sorted([*range(30), 0, 1])
    assert numbers(store, NOON, NOON + timedelta(seconds=3), tenant="acme") == [0, 0, 1, 1, 2]


def test_a_merge_that_dies_or_may_not_delete_doubles_and_loses_nothing(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(store)

    def refuse(_keys: object) -> None:
        raise StoreError("these are locked")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", refuse)
        for _ in range(2):
            with pytest.raises(StoreError):
                merge_access(store, (NOON + DAY).date())
            assert numbers(store) == list(range(30))
    assert len(names(store)) == 31
    assert merge_access(store, (NOON + DAY).date()) == 30
    assert numbers(store) == list(range(30))
