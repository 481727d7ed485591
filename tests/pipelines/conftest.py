"""An agent by its books: what it does comes out as ledger rows, event rows and quarantined lines that balance."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from kaimon.base.clock import to_micros
from lake.columns import CAUSES
from lake.frames import frame_schema
from lake.reads import scan
from lake.schema import EVENT_LINE
from lake.segments import BatchRecord, Rejected, encode_segment, rows_of, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.assets import ASSETS
from pipelines.resources import Platform
from pipelines.tables import TenantTables
from tenancy.database import open_database
from tenancy.hints import mark_staged
from tenancy.tenants import create_tenant

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def _no_loss() -> dict[str, int]:
    return dict.fromkeys(CAUSES, 0)


@dataclass
class Cpu:
    seen: int = 0
    filtered: int = 0
    next_seq: int = 0
    pending: int = 0
    lost_rows: dict[str, int] = field(default_factory=_no_loss)
    lost_events: dict[str, int] = field(default_factory=_no_loss)


def _part(
    batch: dict[str, Any], rows: list[dict[str, Any]], broken: int
) -> tuple[BatchRecord, pa.Table, list[Rejected]]:
    """The batch as ingest puts it into a segment."""
    good = rows[broken:]
    lines = [row | {"time": to_micros(row["time"])} for row in good]
    table = pa.Table.from_pylist(lines, schema=EVENT_LINE)
    table = rows_of(table, pa.array(range(broken + 2, len(rows) + 2), pa.int32()))
    own = ("agent_id", "hostname", "claimed_hostname", "boot_id", "load_id", "batch_seq", "digest", "agent_version",
           "capture_mode", "blind_spots", "counters", "final", "rows", "occurrences", "rejected")  # fmt: skip
    times = {
        name: batch[name] and to_micros(batch[name]) for name in ("sent_at", "received_at", "first_time", "last_time")
    }
    host = {"os": batch["os"], "kernel": batch["kernel"], "arch": batch["arch"], "cloud": None}
    record = BatchRecord(**{name: batch[name] for name in own}, **times, host=host, previous_digest=None)
    return record, table, [Rejected(line + 2, "bad_json", "not JSON", b"not json") for line in range(broken)]


@dataclass
class Load:
    """One load of one agent's programs; `do`, `lose`, `filter_out` and `hold` change the books, `cut` makes a batch."""

    agent_id: str = "agt_00000000000000aa"
    hostname: str = "web-1"
    claims: str = "web-1"
    cpus: int = 2
    load_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self.counters = [Cpu() for _ in range(self.cpus)]
        self.batch_seq = 0
        self.waiting: list[dict[str, Any]] = []
        self.event_rows: list[dict[str, Any]] = []
        self.batch_rows: list[dict[str, Any]] = []
        self.quarantine_rows: list[dict[str, Any]] = []
        self.parts: list[tuple[BatchRecord, pa.Table, list[Rejected]]] = []

    def do(self, at: datetime, cpu: int = 0, count: int = 1, **columns: Any) -> dict[str, Any]:
        books = self.counters[cpu]
        row: dict[str, Any] = {
            "time": at,
            "monotonic_ns": to_micros(at) * 1000,
            "operation": "write",
            "path": f"/data/{books.next_seq}",
            "path_status": "resolved",
            "file_type": "regular",
            "result": 0,
            "count": count,
            "uid": 1000,
            "euid": 1000,
            "gid": 1000,
            "user": "ann",
            "pid": 42,
            "process": "python3",
            "cpu": cpu,
            "seq": books.next_seq,
        } | columns
        books.seen += count
        books.next_seq += 1
        self.waiting.append(row)
        return row

    def lose(self, cpu: int = 0, cause: str = "ring", rows: int = 1, events: int = 1) -> None:
        books = self.counters[cpu]
        books.seen += events
        books.next_seq += rows
        books.lost_rows[cause] += rows
        books.lost_events[cause] += events

    def filter_out(self, events: int, cpu: int = 0) -> None:
        self.counters[cpu].seen += events
        self.counters[cpu].filtered += events

    def hold(self, events: int, cpu: int = 0) -> None:
        """Change the occurrences in open windows; negative when a window closes into a row."""
        self.counters[cpu].seen += max(events, 0)
        self.counters[cpu].pending += events

    def cut(
        self,
        at: datetime,
        *,
        final: bool = False,
        outcome: str = "landed",
        broken: int = 0,
        quarantine: Callable[[dict[str, Any]], bool] = lambda _row: False,
    ) -> dict[str, Any]:
        """Make a batch of what waits.

        `broken`: how many of its first rows ingest cannot read; `quarantine`: which of the others landing refuses.
        """
        self.batch_seq += 1
        rows, self.waiting = self.waiting, []
        identity = {"agent_id": self.agent_id, "load_id": self.load_id, "batch_seq": self.batch_seq}
        arrival = {"received_at": at + timedelta(milliseconds=50), "received_day": at.date()}
        staged = {"node": "node-1", "segment_seq": self.batch_seq}
        good = rows[broken:]
        kept = [row for row in good if not quarantine(row)]
        batch = (
            identity
            | arrival
            | staged
            | {
                "hostname": self.hostname,
                "claimed_hostname": self.claims,
                "boot_id": "b",
                "digest": f"{self.load_id}-{self.batch_seq}",
                "agent_version": "0.1.0",
                "capture_mode": "sys_exit",
                "blind_spots": ["exec_opens", "io_uring_results"],
                "os": "Debian GNU/Linux 13",
                "kernel": "6.12",
                "arch": "x86_64",
                "counters": [{"cpu": cpu, **json.loads(json.dumps(vars(c)))} for cpu, c in enumerate(self.counters)],
                "final": final,
                "sent_at": at,
                "rows": len(good),
                "occurrences": sum(row["count"] for row in good),
                "rejected": broken,
                "quarantined": len(good) - len(kept),
                "first_time": min((row["time"] for row in good), default=None),
                "last_time": max((row["time"] for row in good), default=None),
                "outcome": outcome,
                "segment_digest": "d",
                "landed_at": at + timedelta(seconds=1),
            }
        )
        self.batch_rows.append(batch)
        self.parts.append(_part(batch, rows, broken))
        for line, row in enumerate(rows, start=2):
            if row in kept:
                day = row["time"].date()
                extra = {"hostname": self.hostname, "boot_id": "b", "event_day": day}
                self.event_rows.append(row | identity | {"received_at": arrival["received_at"]} | extra)
                continue
            raw = {**row, "time": to_micros(row["time"])}
            text = "not json" if line < broken + 2 else json.dumps(raw).replace("\\", "\\\\")
            reason = {"line": line, "code": "out_of_window", "detail": "late", "raw": text}
            self.quarantine_rows.append(identity | arrival | staged | reason)
        return batch

    @property
    def events(self) -> pl.DataFrame:
        return pl.DataFrame(self.event_rows, schema=frame_schema("events"))

    @property
    def batches(self) -> pl.DataFrame:
        return pl.DataFrame(self.batch_rows, schema=frame_schema("batches"))

    @property
    def quarantine(self) -> pl.DataFrame:
        return pl.DataFrame(self.quarantine_rows, schema=frame_schema("quarantine"))


@pytest.fixture
def load() -> Load:
    return Load()


@pytest.fixture(scope="session")
def new_load() -> type[Load]:
    return Load


@pytest.fixture(scope="session")
def noon() -> datetime:
    return NOON


class Home:
    """A `KAIMON_HOME` of its own: tenants, staged segments, and the assets run in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = open_database()
        self.lake = LakeSettings()
        self.staged: dict[tuple[str, str], int] = {}
        self.instance = dg.DagsterInstance.ephemeral()

    def tenant(self, tenant_id: str) -> str:
        create_tenant(self.db, tenant_id, subscription="active")
        return tenant_id

    def stage(self, tenant: str, *loads: Load, node: str = "node-1", skip: int = 0) -> None:
        """Stage each load's batches but the first `skip`, a segment a batch, as ingest would."""
        store = open_store("staging")
        for load in loads:
            for record, rows, rejected in load.parts[skip:]:
                seq = self.staged[tenant, node] = self.staged.get((tenant, node), 0) + 1
                data = encode_segment(node, seq, tenant, [(record, rows, rejected)])
                store.put_new(segment_key(tenant, node, seq), data)
                mark_staged(self.db, [(tenant, node, seq)])

    def run(self, *names: str, day: date | None = None) -> dg.ExecuteInProcessResult:
        """Materialize assets by name in one run, all but `events` for `day`."""
        selection = dg.AssetSelection.assets(*names) if names else dg.AssetSelection.assets("day_checks").downstream()
        return dg.materialize(
            ASSETS,
            selection=selection,
            partition_key=None if day is None else day.isoformat(),
            resources={"platform": Platform()},
            instance=self.instance,
            raise_on_error=False,
        )

    def table(self, tenant: str, name: str) -> pl.DataFrame:
        return scan(tenant, name).collect()

    def tables(self, tenant: str) -> TenantTables:
        return TenantTables(self.db, tenant, "test", self.lake)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("KAIMON_HOME", str(tmp_path))
    monkeypatch.setenv("KAIMON_LANDING_IDLE_S", "0")
    made = Home(tmp_path)
    yield made
    made.instance.dispose()
    made.db.close()
