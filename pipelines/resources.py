"""The resource through which every asset reaches the control database and the lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dagster import AssetExecutionContext, OpExecutionContext, ResourceParam

from kaimon.base.access import accessing
from kaimon.base.acting import SYSTEM, Actor, acting_as
from kaimon.base.redact import without_tokens
from lake.access import access_log
from lake.settings import LakeSettings
from pipelines.settings import PipelineSettings
from pipelines.tables import TenantTables
from tenancy.alarms import alarm_of_lost_access
from tenancy.database import Database, open_database


class Platform:
    """The control database and the lake of this `KAIMON_HOME`; everything is read from `KAIMON_*` when it is used."""

    @contextmanager
    def database(self) -> Iterator[Database]:
        """Open the control database for the length of a `with`."""
        database = open_database()
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def step(self, context: AssetExecutionContext | OpExecutionContext) -> Iterator[Database]:
        """Open the control database for one step of a run, which is in the access log with all that it does."""
        day = context.partition_key if context.has_partition_key else None
        who = Actor(SYSTEM, f"dagster:{context.run.job_name}", context.run.run_id)
        with (
            self.database() as db,
            access_log("pipelines", self.lake, partial(alarm_of_lost_access, db)),
            acting_as(who),
            accessing("run", context.op_def.name, object=day),
        ):
            try:
                yield db
            except Exception as error:
                # Dagster keeps and shows what it is raised.
                clean = without_tokens(error)
                if clean is error:
                    raise
                raise clean from None

    @property
    def lake(self) -> LakeSettings:
        """Where the stores are."""
        return LakeSettings()

    @property
    def settings(self) -> PipelineSettings:
        """How the pipelines run."""
        return PipelineSettings()

    def tables(self, database: Database, tenant: str, holder: str) -> TenantTables:
        """Return one tenant's tables."""
        return TenantTables(database, tenant, holder, self.lake)


PlatformResource = ResourceParam[Platform]
"""The type by which assets, sensors and schedules ask for it."""
