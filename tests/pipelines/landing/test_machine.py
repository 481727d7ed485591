"""Whatever happens in whatever order, the tables come to what one sequential landing of the same batches gives."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from interruptions import Crashes, Killed
from polars.testing import assert_frame_equal

from kaimon.base.clock import to_micros
from kaimon.cli import quarantine
from lake.checksum import RowsChecksum
from lake.commits import Writer
from lake.frames import to_rows
from lake.ordering import ORDER
from lake.settings import LakeSettings
from lake.stores import LocalStore
from pipelines.landing import land, land_tenant
from pipelines.replay import ReplayError, replay_day
from pipelines.retention.vacuum import vacuum
from pipelines.seal import checksum_of, seal_day
from pipelines.tables import TenantTables
from tenancy.database import open_database
from tenancy.settings import TenancySettings
from tenancy.tenants import create_tenant

LOADS = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")
NODES = ("n1", "n2", "n3")
LATE = (timedelta(0), timedelta(days=1), timedelta(days=3), timedelta(days=30))
"""How far behind its arrival a batch's last row is; the last is outside landing's window."""
DAYS = [date(2026, 3, 10) - late for late in LATE]
IDENTITY = ["agent_id", "load_id", "cpu", "seq"]
STEPS = st.integers(1, 25)
GROUPS = st.sampled_from([2, 5, 100])
SPAN = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 20, tzinfo=UTC)


class Home:
    """A tenant's tables in a folder of their own, its clock after the days in question."""

    def __init__(self, staging: ModuleType) -> None:
        self.staging = staging
        self.path = Path(tempfile.mkdtemp(prefix="kaimon-model-"))
        self.lake = LakeSettings(home=self.path)
        self.now = datetime(2026, 3, 11, 3, tzinfo=UTC)
        self.db = open_database(TenancySettings(home=self.path), lambda: self.now)
        create_tenant(self.db, "acme")
        self.tables = TenantTables(self.db, "acme", "model", self.lake)
        self.staged: dict[str, int] = {}

    def stage(self, node: str, batches: list[Any]) -> None:
        self.staged[node] = self.staged.get(node, 0) + 1
        self.staging.stage(self.path, "acme", node, self.staged[node], batches)

    def land(self) -> None:
        land_tenant(self.db, "acme", "model", self.lake)

    def release(self) -> int:
        """Let out what is outside the window; return how many lines."""
        done = quarantine._replay(self.db, "acme", SPAN, True, release=True)
        return int(done["passing"])

    def read(self, table: str) -> pl.DataFrame:
        frame: pl.DataFrame = self.staging.read(self.path, "acme", table)
        return frame

    def close(self) -> None:
        self.db.close()
        shutil.rmtree(self.path)


class Model(RuleBasedStateMachine):
    """The product against a list of the batches that were sent, each once, in the order of their first sending."""

    staging: ClassVar[ModuleType]

    def __init__(self) -> None:
        super().__init__()
        self.home = Home(self.staging)
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("KAIMON_HOME", str(self.home.path))
        self.crashes = Crashes()
        for owner, name in ((Writer, "_write"), (land, "mark_open"), (LocalStore, "put_new"), (LocalStore, "get")):
            self.patch.setattr(owner, name, self.crashes.around(getattr(owner, name)))
        self.sent: dict[tuple[str, int], Any] = {}
        self.copies = 0
        self.behind = False
        self.released = False

    def batch(self, load: str, number: int, rows: int, late: timedelta) -> Any:
        """The batch of this number: what it holds was settled when it was first sent."""
        # No two arrive at the same moment: which of them describes the host would be nobody's promise.
        received = self.staging.later(seconds=2 * number + LOADS.index(load))
        lines = [{"seq": number * 1000 + index} for index in range(rows)]
        if rows and late:
            lines[-1]["time"] = to_micros(received - late)
        made = self.staging.Batch(number, tuple(lines), load=load, received=received)
        return self.sent.setdefault((load, number), made)

    def dying(self, steps: int, act: Callable[[], object]) -> bool:
        """Do something that is cut off after so many steps; say whether it came to its end before."""
        self.crashes.left = steps
        try:
            act()
        except Killed:
            return False
        except (ReplayError, ValueError) as error:
            # Whoever died before has left something to be landed first.
            if "cut off" not in str(error) and "has not landed yet" not in str(error):
                raise
            return False
        finally:
            self.crashes.left = 0
        return True

    @rule(
        node=st.sampled_from(NODES),
        picks=st.lists(
            st.tuples(st.sampled_from(LOADS), st.integers(1, 8), st.integers(0, 3), st.sampled_from(LATE)),
            min_size=1,
            max_size=3,
        ),
    )
    def stage(self, node: str, picks: list[tuple[str, int, int, timedelta]]) -> None:
        """An ingest node stages a segment, of batches that are new, sent again, or in it twice."""
        self.home.stage(node, [self.batch(*pick) for pick in picks])
        self.copies += len(picks)
        self.behind = True

    @rule(group=GROUPS)
    def lands(self, group: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(land, "GROUP_ROWS", group)
            self.home.land()
        self.behind = False

    @rule(group=GROUPS, steps=STEPS)
    def landing_dies(self, group: int, steps: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(land, "GROUP_ROWS", group)
            if self.dying(steps, self.home.land):
                self.behind = False

    @rule(day=st.sampled_from(DAYS), steps=st.one_of(st.just(0), STEPS), again=st.booleans())
    def seals(self, day: date, steps: int, again: bool) -> None:
        """A day is sealed, or its sealer dies."""
        self.dying(steps, lambda: seal_day(self.home.tables, day, again=again, range_rows=5, file_bytes=1))

    @rule(day=st.sampled_from(DAYS), steps=st.one_of(st.just(0), STEPS))
    def replays(self, day: date, steps: int) -> None:
        """A day is landed again, or whoever does it dies."""

        def act() -> None:
            assert replay_day(self.home.tables, day, apply=True, range_rows=5, file_bytes=1).same

        self.dying(steps, act)

    @rule(kept=st.sampled_from([timedelta(0), timedelta(days=7)]), steps=st.one_of(st.just(0), STEPS))
    def vacuums(self, kept: timedelta, steps: int) -> None:
        self.dying(steps, lambda: vacuum(self.home.tables, kept))

    @precondition(lambda self: self.sent)
    @rule(steps=st.one_of(st.just(0), STEPS))
    def releases(self, steps: int) -> None:
        """Somebody lets out what is outside the window by now."""
        if self.dying(steps, self.home.release):
            self.behind = True

    @rule()
    def a_day_goes_by(self) -> None:
        self.home.now += timedelta(days=1)

    @invariant()
    def nothing_is_there_twice_or_was_never_sent(self) -> None:
        events = self.home.read("events")
        assert events.select(IDENTITY).is_unique().all()
        sent = {(one.load, line["seq"]) for one in self.sent.values() for line in one.lines()}
        assert set(events.select("load_id", "seq").rows()) <= sent

    @invariant()
    def all_that_has_landed_is_there(self) -> None:
        if self.behind:
            return
        ledger = self.home.read("batches")
        assert ledger.filter(pl.col("outcome") != "replayed").height == self.copies
        inside = [
            (one.load, line["seq"])
            for one in self.sent.values()
            for line in one.lines()
            if line["time"] >= to_micros(one.received - timedelta(days=7))
        ]
        there = self.home.read("events").select("load_id", "seq").rows()
        assert set(inside) <= set(there)

    def teardown(self) -> None:
        try:
            self._compare()
        finally:
            self.patch.undo()
            self.home.close()

    def _compare(self) -> None:
        """Land and release what is left, and hold all of it against one sequential landing of everything."""
        self.home.land()
        self.home.release()
        self.home.land()
        plain = Home(self.staging)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KAIMON_HOME", str(plain.path))
                if self.sent:
                    plain.stage("only", list(self.sent.values()))
                plain.land()
                plain.release()
                plain.land()
            wanted = plain.read("events").sort(ORDER)
            assert_frame_equal(self.home.read("events").sort(ORDER), wanted)
            columns = ["agent_id", "load_id", "batch_seq", "digest", "rows", "quarantined", "rejected", "received_at"]
            landed = [
                home.read("batches").filter(outcome="landed").select(columns).sort(columns)
                for home in (self.home, plain)
            ]
            assert_frame_equal(*landed)
            assert_frame_equal(*(home.read("hosts") for home in (self.home, plain)))
            for day in DAYS:
                self._hold(day, wanted.filter(pl.col("event_day") == day))
        finally:
            plain.close()

    def _hold(self, day: date, wanted: pl.DataFrame) -> None:
        """A day's replay and its seal come to the checksum of the plain model's rows."""
        plain = RowsChecksum("events")
        plain.add(to_rows(wanted, "events"))
        found = replay_day(self.home.tables, day)
        assert (found.checksum, found.same) == (plain.hexdigest(), True)
        seal_day(self.home.tables, day, again=True)
        assert checksum_of(self.home.tables, day) in {plain.hexdigest(), None}
        assert wanted.is_empty() or checksum_of(self.home.tables, day) is not None


def test_any_interleaving_gives_the_table_of_the_sequential_model(
    staging: ModuleType, request: pytest.FixtureRequest
) -> None:
    full = request.config.getoption("--full")
    Model.staging = staging
    wanted = settings(
        max_examples=120 if full else 8,
        stateful_step_count=30 if full else 12,
        deadline=None,
        derandomize=not full,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if full else [])],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Model, settings=wanted)
