"""The resource through which every asset reaches the control database and the lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import ResourceParam

from lake.settings import LakeSettings
from pipelines.settings import PipelineSettings
from pipelines.tables import TenantTables
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
