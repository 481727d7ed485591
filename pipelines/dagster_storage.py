"""Where Dagster keeps its runs, events and ticks: PostgreSQL if one setting says so, else SQLite below DAGSTER_HOME."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster import DagsterInvariantViolationError
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import make_url

from kaimon.base.secrets import resolved
from kaimon.base.settings import AwsSettings
from pipelines.settings import DagsterSettings
from tenancy.settings import TenancySettings


class ChosenStorage(DagsterStorage):
    """What `dagster.yaml` names; making one gives Dagster's own storage, for SQLite or for PostgreSQL.

    Abstract on purpose: nobody ever holds one. `dagster.yaml` cannot choose by a setting, and a URL that stands in it
    could be no reference to a secret.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take nothing from `dagster.yaml`."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, _config: Mapping[str, Any]) -> DagsterStorage:
        """Open the storage that the environment asks for; its tables are made when they are not there.

        Raises:
            dagster.DagsterInvariantViolationError: it is the control database, whose tables bear the same names.
            kaimon.base.aws.AwsError: the URL is a reference to a secret that cannot be read.
        """
        settings = DagsterSettings()
        if settings.dagster_database_url is None:
            home = os.environ.get("DAGSTER_HOME") or str(settings.home.resolve() / "dagster")
            return DagsterSqliteStorage.from_local(home, inst_data)
        from dagster_postgres.storage import DagsterPostgresStorage

        url = make_url(resolved(settings.dagster_database_url, AwsSettings(home=settings.home)))
        # By name: SQLAlchemy's own choice is another driver than the one that Dagster's statements are written for.
        url = url.set(drivername="postgresql+psycopg2")
        control = TenancySettings(home=settings.home)
        if control.database_url is not None:
            other = control.control_url
            if (url.host, url.port, url.database, url.query) == (other.host, other.port, other.database, other.query):
                raise DagsterInvariantViolationError("KAIMON_DAGSTER_DATABASE_URL names the control database")
        return DagsterPostgresStorage(url.render_as_string(hide_password=False), inst_data=inst_data)
