"""Whatever touches storage reports it: a new function of the lake cannot escape."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

import lake
from kaimon.base.access import Access, reporting_to
from lake.commits import Writer
from lake.conditional import require_conditional_put, require_fit
from lake.coverage import coverage
from lake.encoding import encode
from lake.files import drop_files, files_of, paths_in, put_file, read_files, rows_by_day, scan_files
from lake.frames import frame_schema, to_rows
from lake.held import held_by_day
from lake.holdings import Holdings, LocalHoldings, holdings
from lake.lifecycle import differences, write
from lake.lookup import Asked, counted, newest, touches
from lake.ordering import in_order
from lake.query import run_query
from lake.reads import scan, scan_days
from lake.sealed import SealedFiles
from lake.settings import LakeSettings, StoreName
from lake.stores import LocalStore, Store, open_store
from lake.tables import create_table, open_table
from lake.vacuum import KEPT, Unneeded, delete_unneeded, unneeded

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SILENT = {
    "lake.access.AccessLog": "the log itself, which would write about its writing",
    "lake.access.access_log": "as above",
    "lake.access.object_key": "a name",
    "lake.access.encoded": "bytes in memory",
    "lake.access_reads.read_access": "reads the store that it is given",
    "lake.access_reads.purge_access": "deletes from the store that it is given",
    "lake.access_reads.merge_access": "as above",
    "lake.stores.LocalStore": "a store as it is; open_store gives it with its reporting",
    "lake.holdings.Holdings": "what a place can do",
    "lake.holdings.LocalHoldings": "a place as it is; holdings gives it with its reporting",
    "lake.holdings.S3Holdings": "as above",
    "lake.holdings.measure": "counts what it is given",
    "lake.stores.silent_store": "for the access log",
    "lake.s3.S3Store": "a store as it is; open_store gives it with its reporting",
    "lake.clients.s3_client": "for stores, which are reported",
    "lake.clients.delta_options": "for tables, which are reported; a session that it assumes leaves a record",
    "lake.conditional.require_fit_once": "require_fit, of a store in S3",
    "lake.sessions.assume": "touches no object; reports by itself that it assumes",
    "lake.tables.silent_table": "for accesses that say themselves what they do",
    "lake.tables.renew": "as above",
    "lake.reads.frame_of": "of a table that is open: scan and Writer.scan report it",
    "lake.ordering.pieces_in_order": "sorts what it is given; its runs are scratch files, gone when it ends",
    "lake.runs.open_runs": "a scratch file of rows that somebody else has read",
    "lake.runs.Runs": "as above",
    "lake.durable.sync_file": "one step of a commit, which is reported",
    "lake.durable.sync_folder": "as above",
    "lake.durable.make_folders": "as above",
}
"""What touches bytes and leaves no record of its own, and why that is right."""

PURE = {
    "lake.checksum", "lake.columns", "lake.encoding", "lake.frames", "lake.implied", "lake.lean", "lake.ocsf",
    "lake.schema", "lake.describe", "lake.segments", "lake.segment_writer", "lake.native", "lake.reporting",
    "lake.sandbox", "lake.buckets", "lake.settings",
}  # fmt: skip
"""Modules that are about bytes in memory; the sandbox, whose queries are reported by who starts it; the reporting."""

OF_NOBODY = {
    "lake.conditional.require_conditional_put",
    "lake.conditional.require_fit",
    "lake.lifecycle.differences",
    "lake.lifecycle.write",
}
"""What is no one tenant's."""

PURE_FUNCTIONS = {
    "lake.commits.lease_name", "lake.coverage.told", "lake.coverage.hours_between", "lake.lifecycle.wanted",
    "lake.stores.check_key", "lake.tables.table_place", "lake.clients.polars_options", "lake.sessions.policy",
    "lake.stores.local_folder", "lake.tables.table_uri", "lake.tables.properties", "lake.files.DataFile.added",
    "lake.files.StoredFile.removed", "lake.sealed.seal_of", "lake.reads.span_of", "lake.sealed.choose_encodings",
    "lake.quarantined.still_there", "lake.lookup.above", "lake.lookup.Asked.conditions",
}  # fmt: skip


def a_file(settings: LakeSettings) -> Any:
    data = encode([], "events")
    return put_file("acme", "events", DAY, data, (0, NOON, NOON), settings)


def sealed(settings: LakeSettings, file_bytes: int) -> SealedFiles:
    values = {pl.String: "x", pl.Date: DAY, pl.Datetime("us", "UTC"): NOON}
    row = {name: values.get(kind, 1) for name, kind in frame_schema("events").items()}
    files = SealedFiles("acme", "events", DAY, "s1", settings, file_bytes)
    files.add(to_rows(pl.DataFrame([row], schema=frame_schema("events")), "events"))
    return files


def emptied(settings: LakeSettings) -> None:
    frame = pl.DataFrame(schema=frame_schema("deliveries"))
    Writer("acme", 1, settings).replace("deliveries", frame)


def vacuumed(settings: LakeSettings) -> Unneeded:
    create_table("acme", "events", settings)
    a_file(settings)
    return delete_unneeded(Writer("acme", 1, settings), "events", datetime.now(UTC) + 2 * KEPT)


def store_of(settings: LakeSettings) -> Store:
    return open_store("staging", settings)


class Bucket:
    """A bucket that takes whatever rules it is given."""

    def get_bucket_lifecycle_configuration(self, **_: Any) -> dict[str, Any]:
        return {"Rules": []}

    def put_bucket_lifecycle_configuration(self, **_: Any) -> None:
        pass


def in_a_bucket(settings: LakeSettings) -> LakeSettings:
    return LakeSettings(home=settings.home, staging_url="s3://bucket/staging")


CASES: dict[str, tuple[Callable[[LakeSettings], object], str]] = {
    "lake.tables.open_table": (lambda s: open_table("acme", "events", s), "lake.open"),
    "lake.tables.create_table": (lambda s: create_table("acme", "events", s), "lake.create"),
    "lake.reads.scan": (lambda s: scan("acme", "events", settings=s), "lake.read"),
    "lake.reads.scan_days": (lambda s: list(scan_days("acme", "events", DAY, DAY, s)), "lake.read"),
    "lake.coverage.coverage": (lambda s: coverage("acme", NOON, NOON, NOON, s), "lake.read"),
    "lake.lookup.touches": (lambda s: touches("acme", "/a", DAY, DAY, s), "lake.read"),
    "lake.lookup.newest": (lambda s: newest("acme", Asked(DAY, DAY, begins="/a"), ["path"], 1, s), "lake.read"),
    "lake.lookup.counted": (lambda s: counted("acme", Asked(DAY, DAY, file="/a"), timedelta(hours=1), s), "lake.read"),
    "lake.query.run_query": (lambda s: run_query("acme", "SELECT 1", NOON, datetime.now(UTC), s), "lake.query"),
    "lake.files.put_file": (a_file, "lake.put"),
    "lake.files.files_of": (lambda s: files_of(create_table("acme", "events", s), "events", DAY), "lake.create"),
    "lake.files.read_files": (lambda s: read_files("acme", "events", DAY, s), "lake.open"),
    "lake.files.rows_by_day": (lambda s: rows_by_day("acme", "events", DAY, DAY, s), "lake.open"),
    "lake.files.scan_files": (lambda s: scan_files("acme", "events", [a_file(s)], s), "lake.read"),
    "lake.files.drop_files": (lambda s: drop_files("acme", "events", [a_file(s)], s), "lake.delete"),
    "lake.held.held_by_day": (lambda s: (emptied(s), held_by_day("acme", s)), "lake.held"),
    "lake.files.paths_in": (lambda s: paths_in("acme", "events", DAY, s), "lake.list"),
    "lake.vacuum.unneeded": (lambda s: unneeded("acme", "events", NOON, s), "lake.list"),
    "lake.vacuum.delete_unneeded": (vacuumed, "lake.delete"),
    "lake.ordering.in_order": (lambda s: list(in_order("acme", "events", [a_file(s)], s)), "lake.read"),
    "lake.sealed.SealedFiles.add": (lambda s: sealed(s, 1), "lake.put"),
    "lake.sealed.SealedFiles.close": (lambda s: sealed(s, 1 << 30).close(), "lake.put"),
    "lake.commits.Writer.swap_files": (
        lambda s: Writer("acme", 1, s).swap_files("events", [], [a_file(s)]),
        "lake.replace",
    ),
    "lake.commits.Writer.fence_off": (lambda s: Writer("acme", 1, s).fence_off("events"), "lake.fence"),
    "lake.commits.Writer.versions": (lambda s: Writer("acme", 1, s).versions("events", ["n"]), "lake.open"),
    "lake.commits.Writer.scan": (lambda s: Writer("acme", 1, s).scan("events"), "lake.read"),
    "lake.commits.Writer.may_hold": (
        lambda s: Writer("acme", 1, s).may_hold("batches", "batch_seq", 1, 1),
        "lake.open",
    ),
    "lake.commits.Writer.append": (
        lambda s: Writer("acme", 1, s).append("deliveries", pl.DataFrame(schema=frame_schema("deliveries"))),
        "lake.append",
    ),
    "lake.commits.Writer.append_files": (
        lambda s: Writer("acme", 1, s).append_files("events", [a_file(s)]),
        "lake.append",
    ),
    "lake.commits.Writer.replace": (emptied, "lake.replace"),
    "lake.commits.Writer.drop_days": (lambda s: Writer("acme", 1, s).drop_days("events", DAY), "lake.drop"),
    "lake.conditional.require_fit": (lambda s: require_fit("staging", s), "staging.put"),
    "lake.conditional.require_conditional_put": (lambda s: require_conditional_put(store_of(s), "x"), "staging.put"),
    "lake.lifecycle.differences": (lambda s: differences(in_a_bucket(s), Bucket()), "bucket.lifecycle.read"),
    "lake.lifecycle.write": (lambda s: write(in_a_bucket(s), Bucket()), "bucket.lifecycle.write"),
    "lake.holdings.holdings": (lambda s: holdings(s.staging_url, "staging").folders("acme"), "staging.list"),
    "lake.stores.open_store": (lambda s: list(store_of(s).list("acme")), "staging.list"),
}
"""Each public function of the lake that touches storage, and a call that does."""


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(lake.__path__, "lake."):
        yield importlib.import_module(found.name)


def public() -> Iterator[str]:
    """Every public function and method of every module, by its full name; data classes have none that touch storage."""
    for module in modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}"
            elif inspect.isclass(value) and f"{module.__name__}.{name}" not in SILENT:
                for method, body in vars(value).items():
                    if not method.startswith("_") and inspect.isfunction(body):
                        yield f"{module.__name__}.{name}.{method}"


def unsettled(name: str) -> bool:
    module = ".".join(name.split(".")[:2])
    known = module in PURE or name in PURE_FUNCTIONS or name in SILENT or name in CASES
    return not known and not name.startswith(("lake.stores.Store.", "lake.coverage.Coverage", "lake.query.QueryResult"))


def test_no_public_function_of_the_lake_escapes_the_access_log() -> None:
    assert not [name for name in public() if unsettled(name)], "say in CASES, PURE or SILENT what it does to storage"
    there = set(public())
    assert not [name for name in {*CASES, *PURE_FUNCTIONS} if name not in there], "what is gone needs no case"


@pytest.mark.parametrize("name", CASES)
def test_each_storage_function_reports_who_did_what_to_whom(name: str, settings: LakeSettings) -> None:
    call, what = CASES[name]
    seen: list[Access] = []
    with reporting_to(seen.append):
        call(settings)
    found = [one for one in seen if one.what == what]
    assert found
    assert all(one.kind == "storage" and one.who == "system" for one in found)
    assert found[0].outcome == "ok"
    assert name in OF_NOBODY or all(one.tenant == "acme" for one in found)
    if name in {"lake.tables.open_table", "lake.reads.scan", "lake.files.put_file", "lake.query.run_query"}:
        assert len(found) == 1


def test_each_way_into_what_a_place_holds_leaves_a_record(tmp_path: Path) -> None:
    (tmp_path / "acme" / "events").mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "acme" / "events" / name).write_bytes(b"x")
    ways: dict[str, Callable[[Holdings], object]] = {
        "folders": lambda place: place.folders("acme"),
        "held": lambda place: list(place.held("acme")),
        "delete": lambda place: place.delete(list(place.held("acme"))[:1]),
        "erase": lambda place: place.erase("acme"),
    }
    assert {method for method in vars(LocalHoldings) if not method.startswith("_")} == ways.keys()
    seen: list[Access] = []
    with reporting_to(seen.append):
        for way in ways.values():
            way(holdings(tmp_path.as_uri(), "outbox"))
    assert [(one.what, one.tenant, one.object, one.count) for one in seen] == [
        ("outbox.list", "acme", "acme", 1),
        ("outbox.list", "acme", "acme", 2),
        ("outbox.list", "acme", "acme", 2),
        ("outbox.delete", "acme", "acme/events/one", None),
        ("outbox.erase", "acme", "acme", None),
    ]


@pytest.mark.parametrize("name", ["staging", "lake", "audit", "public", "outbox"])
def test_each_way_into_a_store_leaves_one_record(name: StoreName, settings: LakeSettings) -> None:
    tenant = "acme" if name in {"staging", "lake", "outbox"} else None
    ways: dict[str, Callable[[Store], object]] = {
        "put": lambda store: store.put_new("acme/a/1", b"abc"),
        "get": lambda store: store.get("acme/a/1"),
        "list": lambda store: list(store.list("acme/a")),
        "prefixes": lambda store: store.prefixes("acme"),
        "delete": lambda store: store.delete(["acme/a/1"]),
    }
    assert {method for method in vars(LocalStore) if not method.startswith("_")} == (ways.keys() - {"put"}) | {
        "put_new"
    }
    store = open_store(name, settings)
    seen: list[Access] = []
    with reporting_to(seen.append):
        for way in ways.values():
            way(store)
    told = [(one.what, one.tenant, one.object, one.bytes, one.count) for one in seen]
    assert told == [
        (f"{name}.put", tenant, "acme/a/1", 3, None),
        (f"{name}.get", tenant, "acme/a/1", 3, None),
        (f"{name}.list", tenant, "acme/a", None, 1),
        (f"{name}.list", tenant, "acme", None, 1),
        (f"{name}.delete", tenant, "acme/a/1", None, None),
    ]


def test_what_fails_is_reported_with_its_error(settings: LakeSettings) -> None:
    store = open_store("staging", settings)
    store.put_new("acme/a/1", b"a")
    seen: list[Access] = []
    with reporting_to(seen.append):
        with pytest.raises(Exception, match="acme"):
            store.put_new("acme/a/1", b"b")
        with pytest.raises(Exception, match="acme"):
            store.get("acme/a/2")
    assert [(one.what, one.outcome) for one in seen] == [
        ("staging.put", "AlreadyExistsError"),
        ("staging.get", "MissingError"),
    ]


def test_a_listing_that_is_left_early_is_no_error(settings: LakeSettings) -> None:
    store = open_store("staging", settings)
    for number in range(3):
        store.put_new(f"acme/a/{number}", b"a")
    seen: list[Access] = []
    with reporting_to(seen.append):
        for _ in store.list("acme/a"):
            break
    assert [(one.what, one.outcome, one.count) for one in seen] == [("staging.list", "ok", 1)]


def test_only_the_lake_itself_uses_its_silent_doors() -> None:
    root = Path(lake.__path__[0]).parent
    for package in ("kaimon", "tenancy", "ingest", "pipelines", "dashboards"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            assert "silent_store" not in text, path
            assert "silent_table" not in text, path
            assert not re.search(r"\b(LocalStore|LocalHoldings|S3Holdings)\(", text), path
