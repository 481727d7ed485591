"""How fresh each tenant's data is, by our own watermarks: an asset's green light would also be lit by an old day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dagster import MetadataValue

from pipelines.tenant_loop import SHOWN
from tenancy.database import Database
from tenancy.watermarks import Watermark, waiting, watermarks


@dataclass(frozen=True)
class Freshness:
    """Each tenant's watermark, and for how many seconds those that are stale have waited, longest first."""

    landed: dict[str, Watermark]
    stale: dict[str, int]
    now: datetime

    def metadata(self) -> dict[str, Any]:
        """Return Dagster metadata: who is stale, and how far each tenant's landing has come. Ids and times only."""
        late_first = [*self.stale, *(tenant for tenant in self.landed if tenant not in self.stale)]
        rows = ["| tenant | arrived until | landed at | waits for (s) |", "|---|---|---|---|"]
        for tenant in late_first[:SHOWN]:
            mark = self.landed.get(tenant)
            times = ("—", "—") if mark is None else (_minute(mark.received_at), _minute(mark.landed_at))
            rows.append(f"| {tenant} | {times[0]} | {times[1]} | {self.stale.get(tenant, 0)} |")
        return {
            "tenants_stale": len(self.stale),
            "stale": MetadataValue.json(dict(list(self.stale.items())[:SHOWN])),
            "watermarks": MetadataValue.md("\n".join(rows)),
            "as_of": _minute(self.now),
        }


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def look(db: Database, stale_after_s: float) -> Freshness:
    """Return how fresh each tenant is; one of which something waits for longer than `stale_after_s` is stale."""
    lags = waiting(db, timedelta(seconds=stale_after_s))
    longest = sorted(lags.items(), key=lambda item: item[1], reverse=True)
    return Freshness(watermarks(db), {tenant: int(lag.total_seconds()) for tenant, lag in longest}, db.clock())
