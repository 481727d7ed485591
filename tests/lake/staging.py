"""Makes staged segments as ingest would, and says what the tables must hold once they have landed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kaimon.base.clock import to_micros
from lake.reads import scan
from lake.schema import EVENT_LINE
from lake.segments import BatchRecord, Rejected, encode_segment, rows_of, segment_key
from lake.settings import LakeSettings
from lake.stores import open_store

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
CAUSES = ("ring", "scratch", "shed", "refused", "evicted")


@dataclass(frozen=True)
class Batch:
    """A batch as an agent sends it: `rows` are the events' (cpu, seq), or whole overrides of a line."""

    number: int
    rows: tuple[dict[str, Any], ...] = ()
    agent: str = "agt_0000000000000001"
    load: str = "11111111-1111-1111-1111-111111111111"
    received: datetime = NOON
    bad: tuple[bytes, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[dict[str, Any]]:
        moment = to_micros(self.received) - 1_000_000
        base = {
            "monotonic_ns": 1, "operation": "open", "path_status": "resolved", "file_type": "regular", "count": 1,
            "uid": 0, "euid": 0, "gid": 0, "pid": 7, "process": "cat", "cpu": 0,
        }  # fmt: skip
        return [
            base | {"time": moment + index, "path": f"/data/{self.load[:4]}/{row['seq']}"} | row | {"line": index + 2}
            for index, row in enumerate(self.rows)
        ]

    def part(self) -> tuple[BatchRecord, pa.Table, list[Rejected]]:
        lines = self.lines()
        times = [line["time"] for line in lines]
        said = repr((self.agent, self.load, self.number, lines, self.bad, sorted(self.overrides.items())))
        record = BatchRecord(
            agent_id=self.agent,
            hostname=f"host-{self.agent[-1]}",
            claimed_hostname=f"host-{self.agent[-1]}",
            boot_id="22222222-2222-2222-2222-222222222222",
            load_id=self.load,
            batch_seq=self.number,
            digest=hashlib.sha256(said.encode()).hexdigest(),
            previous_digest=None,
            agent_version="0.1.0",
            capture_mode="sys_exit",
            blind_spots=["failed_calls"],
            host={"os": "linux", "kernel": "6.1", "arch": "x86_64", "cloud": None},
            counters=[
                {
                    "cpu": 0, "seen": 0, "filtered": 0, "next_seq": 0, "pending": 0,
                    "lost_rows": dict.fromkeys(CAUSES, 0), "lost_events": dict.fromkeys(CAUSES, 0),
                }
            ],
            final=False,
            sent_at=to_micros(self.received) - 500_000,
            received_at=to_micros(self.received),
            rows=len(lines),
            occurrences=sum(line["count"] for line in lines),
            rejected=len(self.bad),
            first_time=min(times, default=None),
            last_time=max(times, default=None),
        )  # fmt: skip
        table = rows_of(
            pa.Table.from_pylist(lines, schema=EVENT_LINE), pa.array([line["line"] for line in lines], pa.int32())
        )
        rejected = [Rejected(len(lines) + 2 + index, "bad_line", "why", raw) for index, raw in enumerate(self.bad)]
        return replace(record, **self.overrides), table, rejected


def batch(number: int, rows: int = 3, **more: Any) -> Batch:
    """A batch of `rows` events, numbered so that no two batches of a load share a (cpu, seq)."""
    first = number * 1000
    return Batch(number, tuple({"seq": first + index} for index in range(rows)), **more)


def stage(home: Path, tenant: str, node: str, seq: int, batches: Sequence[Batch]) -> None:
    """Put one segment of these batches into the staging store."""
    data = encode_segment(node, seq, tenant, [one.part() for one in batches])
    open_store("staging", LakeSettings(home=home)).put_new(segment_key(tenant, node, seq), data)


def read(home: Path, tenant: str, table: str) -> pl.DataFrame:
    """Read a whole table."""
    return scan(tenant, table, settings=LakeSettings(home=home)).collect()


def assert_each_once(home: Path, tenant: str, sent: Sequence[Batch]) -> None:
    """Hold the tables against what was sent, by ledger and by content; `sent` is what must be there, each once."""
    expected = sorted(
        (one.agent, one.load, one.number, line["cpu"], line["seq"], line["time"], line["path"])
        for one in sent
        for line in one.lines()
    )
    events = read(home, tenant, "events").with_columns(pl.col("time").cast(pl.Int64))
    there = events.select("agent_id", "load_id", "batch_seq", "cpu", "seq", "time", "path").sort(pl.all())
    assert there.rows() == expected
    ledger = read(home, tenant, "batches")
    landed = ledger.filter(pl.col("outcome") == "landed")
    identities = landed.select("agent_id", "load_id", "batch_seq").rows()
    assert sorted(identities) == sorted((one.agent, one.load, one.number) for one in sent)
    assert landed["rows"].sum() - landed["quarantined"].sum() == len(expected)
    hosts = read(home, tenant, "hosts")
    assert sorted(hosts["agent_id"]) == sorted({one.agent for one in sent})
    for agent, last_seen in hosts.select("agent_id", "last_seen").rows():
        assert last_seen == max(one.received for one in sent if one.agent == agent)


def later(**delta: float) -> datetime:
    """A moment after noon."""
    return NOON + timedelta(**delta)
