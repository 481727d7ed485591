"""Backfills a tenant's days: seal, checks, rollups, facts anew from `events`, which is the record; then the weeks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date

from lake.checksum import RowsChecksum
from lake.files import read_files
from lake.frames import to_rows
from lake.ordering import in_order
from lake.sealed import seal_of
from pipelines.day_checks import check_day
from pipelines.findings.day import make_findings
from pipelines.resources import Platform
from pipelines.rollup_checks import check_rollups
from pipelines.rollups.day import ALL
from pipelines.seal import TABLE, is_over, kept_checksum, seal_day
from pipelines.summaries.day import is_due, make_facts
from pipelines.summaries.period import Period, week_of
from pipelines.tables import TenantTables
from tenancy.audit import append
from tenancy.days import get


@dataclass(frozen=True)
class Backfilled:
    """What a backfill of a day would touch, or has touched.

    `files`, `bytes`, `rows` and `events` are of the day's `events` as it was found; `checksum` is computed from them in
    order, `kept` is the one that was kept when exactly these files were sealed (None: none was). `state` is the day's
    state before, or after if `applied`. `tables` are the rows of that day in each rollup, before or after. `broken` are
    the rules that its checks found broken: of the day itself, then no rollup was touched, or of its rollups.
    """

    day: date
    files: int
    bytes: int
    rows: int
    events: int
    checksum: str
    kept: str | None
    state: str
    tables: dict[str, int]
    applied: bool = False
    sealed_files: int = 0
    new_facts: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether the rows are those that were sealed, if they were."""
        return self.kept in {None, self.checksum}


def survey_day(tables: TenantTables, day: date) -> Backfilled:
    """Say what a backfill of a day would touch; nothing is changed, and every row is read.

    Raises:
        polars.exceptions.PolarsError: the rows cannot be read.
    """
    files = read_files(tables.tenant, TABLE, day, tables.settings)
    ordered = frozenset(file.path for file in files if seal_of(file))
    checksum, rows, events = RowsChecksum(TABLE), 0, 0
    for part in in_order(tables.tenant, TABLE, files, tables.settings, is_ordered=ordered):
        checksum.add(to_rows(part, TABLE))
        rows, events = rows + part.height, events + int(part["count"].sum())
    state = get(tables.db, tables.tenant, day)
    return Backfilled(
        day=day,
        files=len(files),
        bytes=sum(file.size for file in files),
        rows=rows,
        events=events,
        checksum=checksum.hexdigest(),
        kept=kept_checksum(tables, day, files),
        state="none" if state is None else state.state,
        tables=_rolled(tables, day),
    )


def backfill_day(platform: Platform, tables: TenantTables, day: date) -> Backfilled:
    """Seal a day anew if it is over, check it, and if it passes roll it up and compute its facts.

    Each step may be the last one of a process: doing all of it again comes to the same.

    Raises:
        pipelines.seal.ChecksumError: the rows are not those that were sealed; nothing has changed.
        lake.commits.CommitError: another writer took over; what is done is done, and going on is doing it again.
        polars.exceptions.PolarsError: the rows cannot be read; nothing has changed.
        RuntimeError: the checks could not be made.
        tenancy.leases.LeaseHeldError: as `CommitError`.
    """
    before = survey_day(tables, day)
    with tables.db.transaction() as session:
        append(tables.db, session, tables.tenant, "day.backfill", day.isoformat(), rows=before.rows)
    over = is_over(day, tables.db.clock())
    sealed = seal_day(tables, day, again=True)["files"] if over else 0
    checked = check_day(platform, tables.db, day, tables.holder, [tables.tenant])
    if checked.outcome.failed:
        raise RuntimeError(f"{day}: its checks could not be made: {checked.outcome.failed[tables.tenant]}")
    broken = checked.broken.get(tables.tenant, [])
    facts = 0
    if not broken:
        for roll in ALL.values():
            roll(tables, day)
        make_findings(tables, day)
        rolled = check_rollups(platform, tables.db, day, tables.holder, [tables.tenant])
        if rolled.outcome.failed:
            raise RuntimeError(f"{day}: its rollups could not be checked: {rolled.outcome.failed[tables.tenant]}")
        broken = rolled.broken.get(tables.tenant, [])
    if not broken:
        facts = make_facts(tables, Period("day", day))["new_facts"]
    after = survey_day(tables, day)
    return replace(after, applied=True, sealed_files=sealed, new_facts=facts, broken=broken)


def weeks_told(tables: TenantTables, days: list[date]) -> list[Period]:
    """Return the weeks of these days that are over and told, in order: their facts rest on the days'."""
    weeks = sorted({week_of(day) for day in days}, key=lambda week: week.start)
    return [week for week in weeks if is_due(tables, week)]


def backfill_week(tables: TenantTables, week: Period) -> int:
    """Compute a week's facts anew from its days' tables; return how many new ones there are, 0 or 1.

    Raises:
        lake.commits.CommitError: another writer took over.
        tenancy.leases.LeaseHeldError: the same.
    """
    return make_facts(tables, week)["new_facts"]


def _rolled(tables: TenantTables, day: date) -> dict[str, int]:
    return {name: tables.unlocked(name).scan(name, day, day).collect().height for name in ALL}
