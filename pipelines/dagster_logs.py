"""Where Dagster keeps what runs print: in S3 where the stores are, else below DAGSTER_HOME."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from lake.settings import LakeSettings
from pipelines.settings import DagsterSettings


def logs_url() -> str | None:
    """Return where in S3 what runs print is kept, `s3://bucket/prefix`; None: on this machine."""
    chosen = DagsterSettings().compute_logs_url
    if chosen is None and (stores := LakeSettings().stores_url) is not None and stores.startswith("s3://"):
        chosen = f"{stores}/compute-logs"
    return chosen if chosen is not None and chosen.startswith("s3://") else None


class ChosenLogs(ComputeLogManager, ConfigurableClass):
    """What `dagster.yaml` names; making one gives Dagster's own manager, of files or of S3.

    Abstract on purpose: nobody ever holds one. `dagster.yaml` cannot choose by a setting.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Take nothing from `dagster.yaml`."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override] # it never is one of its own
        cls, inst_data: ConfigurableClassData | None, _config: Mapping[str, Any]
    ) -> ComputeLogManager[Any]:
        """Make the manager that the environment asks for.

        Raises:
            kaimon.base.regions.RegionError: no region is set, or one outside the United States.
            lake.stores.StoreError: there are no credentials for S3.
        """
        home = os.environ.get("DAGSTER_HOME") or str(DagsterSettings().home.resolve() / "dagster")
        folder = str(Path(home) / "storage")
        url = logs_url()
        if url is None:
            return LocalComputeLogManager(folder, inst_data=inst_data)
        # Here: its imports take a second, which every process of Dagster would spend.
        from pipelines.dagster_logs_s3 import LogsInS3

        return LogsInS3(url, folder, inst_data)
