"""Landing one tenant: a lease, a repair, then group after group, each committed in an order that a crash can read."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from kaimon.base.access import accessing
from kaimon.base.logs import get_logger
from lake.commits import CommitConflictError, StaleLeaseError, Writer, lease_name
from lake.encoding import encode
from lake.files import DataFile, put_file
from lake.quarantined import REPLAYED
from lake.segments import Segment, SegmentError
from lake.settings import LakeSettings
from lake.stores import Store, open_store
from pipelines.clones import alarm_of_clones, find_clones, suspects
from pipelines.conflicts import alarm_of_conflicts
from pipelines.landing.hosts import merge_hosts
from pipelines.landing.ledger import landed_digests
from pipelines.landing.plan import Plan, batch_days, plan
from pipelines.landing.rules import BEHIND
from pipelines.landing.staged import read_runs, read_staged, staged_run
from pipelines.landing.watermark import note_watermark
from pipelines.progress import Progress
from pipelines.renames import alarm_of_renames, find_renames
from tenancy.database import Database
from tenancy.days import mark_open
from tenancy.hints import all_hints, drop, staged_since
from tenancy.leases import HeldLease, LeaseHeldError, held_lease

GROUP_ROWS: Final = 2_000_000
GROUP_SEGMENTS: Final = 2_000
"""What is landed together at most; memory follows from it."""

_BATCH: Final = ["agent_id", "load_id", "batch_seq"]
_DAY: Final = timedelta(days=1)
_DECISIONS: Final = 3
"""How often a run reads everything anew after another commit came between, before it leaves it to the next run."""


class RepairError(Exception):
    """Tables, ledger and segments do not agree in a way that no crash explains; nothing lands until people look."""


@dataclass
class Landed:
    """What one run landed. `rows` and `batches` are what is new in the tables; `days` are those it opened again.

    `clones` are the agents whose id two machines were using, `renamed` those that go by another name now.
    """

    tenant: str
    segments: int = 0
    batches: int = 0
    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    days: set[date] = field(default_factory=set)
    clones: set[str] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)
    repaired: bool = False
    held_elsewhere: bool = False

    def add(self, done: Plan) -> None:
        """Count a committed group."""
        told = Counter(done.batches["outcome"].to_list())
        self.segments += len(
            set(zip(done.batches["node"].to_list(), done.batches["segment_seq"].to_list(), strict=True))
        )
        self.batches += told["landed"]
        self.duplicates += told["duplicate"]
        self.conflicts += told["conflict"]
        self.rows += done.rows
        self.quarantined += done.quarantine.height
        self.days |= done.touched


def land_tenant(
    db: Database,
    tenant: str,
    holder: str,
    settings: LakeSettings | None = None,
    should_stop: Callable[[], bool] | None = None,
    *,
    listing: bool = True,
    group_rows: int | None = None,
) -> Landed:
    """Land what a tenant has staged.

    Args:
        db: the control database: lease, hints, day states.
        tenant: whose segments.
        holder: who lands, for people to read in the lease.
        settings: where the stores are.
        should_stop: asked between groups; what is committed by then stays.
        listing: find segments by listing the store, which is the truth; else by hints alone, which is cheaper.
        group_rows: rows landed together at most, but for a segment that has more; `GROUP_ROWS` if not given.

    Returns:
        What landed; nothing, with `held_elsewhere`, if another run has the tenant.

    Raises:
        lake.commits.CommitError: another writer took over, or kept coming between.
        lake.segments.SegmentError: a segment is not what its name says.
        lake.stores.StoreError: the staging store failed.
        RepairError: what is there cannot be explained.
    """
    try:
        with held_lease(db, lease_name(tenant), holder, db.settings.lease_ttl_s) as lease:
            landing = _Landing(db, tenant, lease, settings or LakeSettings(), listing, group_rows or GROUP_ROWS)
            with accessing("run", "land", tenant) as told:
                landed = landing.run(should_stop or (lambda: False))
                told.count = landed.rows
                return landed
    except LeaseHeldError:
        return Landed(tenant, held_elsewhere=True)


def pending_tenants(db: Database, store: Store, since: datetime | None = None) -> list[str]:
    """Return the tenants that may have something to land.

    Args:
        db: the control database.
        store: the staging store.
        since: ask the hints given from then on; None asks all hints and lists every tenant's folder: the truth.
    """
    if since is not None:
        return sorted({hint.tenant_id for hint in staged_since(db, since)})
    return sorted({hint.tenant_id for hint in all_hints(db)} | set(store.prefixes("")))


class _Landing:
    """One run for one tenant under one lease."""

    def __init__(  # noqa: PLR0917 - what a run is
        self, db: Database, tenant: str, lease: HeldLease, settings: LakeSettings, listing: bool, group_rows: int
    ) -> None:
        self.db = db
        self.tenant = tenant
        self.lease = lease
        self.settings = settings
        self.listing = listing
        self.group_rows = group_rows
        self.store = open_store("staging", settings)
        self.writer = Writer(tenant, lease.fence, settings)
        self.landed = Landed(tenant)

    def run(self, should_stop: Callable[[], bool]) -> Landed:
        """Repair, then land; begin again where another commit came between."""
        for attempt in range(1, _DECISIONS + 1):
            try:
                self._land(self._repair(), should_stop)
                break
            except CommitConflictError:
                if attempt == _DECISIONS:
                    raise
                get_logger(__name__).warning("landing_decides_anew", tenant=self.tenant, attempt=attempt)
                time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter, no secret
        return self.landed

    def _nodes(self) -> Sequence[str]:
        """Every node that ever staged for the tenant and whose segments are still there.

        Never by hints alone: a repair must know every node of the group that it finishes.
        """
        return self.store.prefixes(self.tenant)

    def _land(self, standing: dict[str, int], should_stop: Callable[[], bool]) -> None:
        if should_stop():
            return
        runs = self._runs(standing)
        progress, of = Progress("land", self.tenant, unit="segments"), sum(map(len, runs.values()))
        for group in _groups(read_runs(self.store, self.tenant, runs), self.group_rows):
            todo = self._plan(group)
            before = {node: standing[node] for node in todo.targets}
            self._commit(todo, before, "events", "quarantine", "batches")
            self._finish(todo.targets, before, todo.batches, todo.touched)
            standing |= todo.targets
            progress.tell("commit", self.landed.segments, of)
            if should_stop():
                return

    def _runs(self, standing: Mapping[str, int]) -> dict[str, range]:
        """Return what each node has staged beyond where it stands."""
        if self.listing:
            return {node: staged_run(self.store, self.tenant, node, landed) for node, landed in standing.items()}
        hints = [hint for hint in all_hints(self.db, self.tenant) if hint.node in standing]
        return {hint.node: range(standing[hint.node] + 1, hint.seq + 1) for hint in hints}

    def _plan(self, group: list[Segment]) -> Plan:
        records = [record for segment in group for record in segment.batches]
        numbers = [record.batch_seq for record in records]
        # A batch's number is nearly always greater than any that has landed: then no file need be opened.
        seen = bool(numbers) and self.writer.may_hold("batches", "batch_seq", min(numbers), max(numbers))
        known = landed_digests(self.writer.scan("batches", anew=False), records) if seen else {}
        return plan(group, known, self.db.clock())

    def _commit(self, todo: Plan, before: Mapping[str, int], *tables: str) -> None:
        """Commit a plan that was made when the nodes stood at `before`, table by table.

        Each gets its commit even without rows: where the tables stand tells a repair what is missing, and a fence
        that is in all of them stops a stale holder at the first.
        """
        # A day that is checked between here and `_finish` sees half of the group: it is opened again there.
        mark_open(self.db, self.tenant, todo.touched)
        frames = {"quarantine": todo.quarantine, "batches": todo.batches}
        for table in tables:
            self._hold()
            if table == "events":
                self.writer.append_files(table, self._files(todo), todo.targets, before)
            else:
                self.writer.append(table, frames[table], todo.targets, before)
        told = set(todo.batches["outcome"].to_list())
        for outcome, level in (("duplicate", "info"), ("conflict", "error")):
            if outcome in told:
                _tell(self.tenant, todo.batches.filter(pl.col("outcome") == outcome), f"batch_{outcome}", level)
        self.landed.add(todo)

    def _files(self, todo: Plan) -> list[DataFile]:
        """Write a plan's events, a file a day."""
        files = []
        for day, part in todo.days.items():
            try:
                data = encode(part.parts(), "events")
            except ValueError as error:
                raise SegmentError(f"{self.tenant}: rows of {day} cannot be read: {error}") from error
            told = part.rows, part.first, part.last
            files.append(put_file(self.tenant, "events", day, data, told, self.settings))
        return files

    def _finish(
        self, targets: Mapping[str, int], before: Mapping[str, int], batches: pl.DataFrame, days: set[date]
    ) -> None:
        """Do what follows from the ledger: days are open, conflicts, clones and new names told, hosts known.

        Doing it again changes nothing.
        """
        mark_open(self.db, self.tenant, days)
        self.landed.days |= days
        alarm_of_conflicts(self.db, self.tenant, batches)
        known = self.writer.scan("hosts", anew=False).collect()
        self._look_for_clones(known, batches)
        self.landed.renamed |= set(alarm_of_renames(self.db, self.tenant, find_renames(known, batches)))
        self._hold()
        hosts = merge_hosts(known, batches)
        self.writer.replace("hosts", hosts, None, targets, before)
        note_watermark(self.db, self.tenant, batches, self.settings)
        for node, seq in targets.items():
            drop(self.db, self.tenant, node, seq)

    def _look_for_clones(self, hosts: pl.DataFrame, batches: pl.DataFrame) -> None:
        """Raise an alarm where two loads of one agent take turns.

        Before `hosts` forgets which load it knew: a run that dies in between looks again.
        """
        if not (agents := suspects(hosts, batches)):
            return
        arrived: list[date] = batches["received_day"].to_list()
        near = self.writer.scan("batches", min(arrived) - _DAY, max(arrived) + _DAY)
        ledger = near.filter(pl.col("agent_id").is_in(agents)).collect()
        self.landed.clones |= set(alarm_of_clones(self.db, self.tenant, find_clones(ledger)))

    def _hold(self) -> None:
        """Stop before a commit that would be refused anyway, or that could only make work for the next holder."""
        if self.lease.lost.is_set():
            raise StaleLeaseError(f"{self.tenant}: the lease was lost")

    def _repair(self) -> dict[str, int]:
        """Finish what a run that died has begun: afterwards every table stands where `batches` stands.

        Returns:
            Where that is: the last landed sequence of every node.
        """
        nodes = self._nodes()
        stand = {table: self.writer.versions(table, nodes) for table in ("events", "quarantine", "batches", "hosts")}
        begun = {node: stand["events"][node] for node in nodes if stand["events"][node] != stand["batches"][node]}
        before = {node: stand["batches"][node] for node in begun}
        apart = {node: stand["quarantine"][node] for node in nodes}
        if any(apart[node] != stand["batches"][node] for node in nodes if node not in begun) or any(
            before[node] > begun[node] for node in begun
        ):
            raise RepairError(f"{self.tenant}: tables stand at {stand}")
        if begun:
            self._resume(begun, before, {node: apart[node] for node in begun})
            stand["batches"] |= begun
        lagging = {node: stand["batches"][node] for node in nodes if stand["hosts"][node] < stand["batches"][node]}
        if lagging:
            before = {node: stand["hosts"][node] for node in lagging}
            batches = self._ledger(before, lagging)
            self._finish(lagging, before, batches, batch_days(batches) | self._event_days(batches))
        return stand["batches"]

    def _resume(self, begun: dict[str, int], before: dict[str, int], apart: dict[str, int]) -> None:
        """Finish a group whose rows are in `events`: the same segments and ledger give the same rows."""
        group = [
            read_staged(self.store, self.tenant, (node, seq))
            for node in sorted(begun)
            for seq in range(before[node] + 1, begun[node] + 1)
        ]
        todo = self._plan(group)
        self._verify("events", todo.by_batch, _first_day(todo.batches))
        if apart == begun:
            # A mark names another segment than its own.
            staged = todo.quarantine.filter(pl.col("code") != REPLAYED).group_by("node", "segment_seq").len()
            self._verify("quarantine", staged, None)
            self._commit(todo, before, "batches")
        elif apart == before:
            self._commit(todo, before, "quarantine", "batches")
        else:
            raise RepairError(f"{self.tenant}: quarantine stands at {apart}, between {before} and {begun}")
        get_logger(__name__).warning("landing_repaired", tenant=self.tenant, nodes=len(begun), segments=len(group))
        self.landed.repaired = True

    def _verify(self, table: str, planned: pl.DataFrame, first_day: date | None) -> None:
        """Hold what a dead run committed against what this one would have: `len` rows for each of the other columns."""
        key = [name for name in planned.columns if name != "len"]
        wanted = planned.sort(key)
        rows = self.writer.scan(table, first_day)
        rows = rows.join(wanted.lazy().select(key), on=key, how="semi")
        there = rows.group_by(key).len().sort(key).collect()
        if not there.equals(wanted):
            raise RepairError(
                f"{self.tenant}: {table} has {there['len'].sum()} rows where {wanted['len'].sum()} belong"
            )

    def _ledger(self, after: Mapping[str, int], upto: Mapping[str, int]) -> pl.DataFrame:
        """Return the ledger's rows of some nodes' segments after one sequence and up to another."""
        span = pl.any_horizontal(
            (pl.col("node") == node) & pl.col("segment_seq").is_between(after[node] + 1, upto[node]) for node in upto
        )
        return self.writer.scan("batches").filter(span).collect()

    def _event_days(self, batches: pl.DataFrame) -> set[date]:
        """Return the days of these batches' rows in `events`."""
        rows = self.writer.scan("events", _first_day(batches))
        rows = rows.join(batches.lazy().select(_BATCH), on=_BATCH, how="semi")
        return set(rows.select(pl.col("event_day").unique()).collect()["event_day"].to_list())


def _first_day(batches: pl.DataFrame) -> date:
    """Return a day before which no event of these batches can have landed."""
    arrived: date = min(batches["received_day"].to_list())
    # Lines that somebody let out of quarantine may be of any day.
    let_out: list[date] = batches.filter(pl.col("outcome") == "replayed")["first_time"].dt.date().drop_nulls().to_list()
    return min([arrived - BEHIND - timedelta(days=1), *let_out])


def _groups(segments: Iterable[Segment], most: int) -> Iterator[list[Segment]]:
    """Cut segments into groups that fit in memory, in order."""
    group: list[Segment] = []
    rows = 0
    for segment in segments:
        if group and (rows + segment.height > most or len(group) >= GROUP_SEGMENTS):
            yield group
            group, rows = [], 0
        group.append(segment)
        rows += segment.height
    if group:
        yield group


def _tell(tenant: str, batches: pl.DataFrame, event: str, level: str) -> None:
    """Log batches by identity."""
    logger = get_logger(__name__)
    for row in batches.select("agent_id", "load_id", "batch_seq", "node", "segment_seq", "digest").iter_rows(
        named=True
    ):
        getattr(logger, level)(event, tenant=tenant, **row)
