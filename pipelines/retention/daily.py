"""The night's retention: tenants whose time is up are erased, days past their limit dropped, old segments deleted."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
import hashlib
import time
from collections.abc import Callable

import dagster as dg

from kaimon.base.logs import get_logger
from lake.lifecycle import differences
from lake.settings import LakeSettings
from pipelines.day_step import GROUP, LANDING
from pipelines.resources import PlatformResource
from pipelines.retention.age import drop_days
from pipelines.retention.erase import erase_tenant
from pipelines.retention.places import places
from pipelines.retention.staging import purge
from pipelines.retention.vacuum import vacuum
from pipelines.settings import PipelineSettings
from pipelines.tables import TenantTables
from pipelines.tenant_loop import Counts, Outcome, SkipTenantError, for_each_tenant
from tenancy.alarms import LATE_DATA, LIFECYCLE, NO_TENANT, raise_alarm
from tenancy.database import Database
from tenancy.erasures import WithdrawnError, list_erasures
from tenancy.retention import kept, note_act
from tenancy.tenants import get_tenant, list_tenants


def retain(
    db: Database,
    holder: str,
    lake: LakeSettings,
    pipelines: PipelineSettings,
    wait: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Do for every tenant what is due by the clock of `db`; a tenant that fails stops no other, and is due tomorrow.

    Erasures that were cut off are gone on with. What was written for a tenant after its erasure, by a process that had
    slept through it, is deleted, put on its chain and told.
    """
    begun = {erasure.tenant_id: erasure for erasure in list_erasures(db)}

    def one(tenant: str) -> Counts:
        erasure = begun.get(tenant)
        if erasure is not None:
            if erasure.finished_at is not None:
                return _sweep(db, tenant, lake)
            erase_tenant(db, tenant, lake, pipelines, wait=wait)
            return {"erased": 1}
        return _keep(db, tenant, holder, lake, pipelines, wait)

    return for_each_tenant("retention", sorted({*begun, *(one.tenant_id for one in list_tenants(db))}), one)


def check_lifecycle(db: Database, lake: LakeSettings) -> list[str]:
    """Hold the buckets' lifecycle rules against ours and raise an alarm, once for the same differences; return them.

    Raises:
        kaimon.base.aws.AwsError: a bucket cannot be asked.
    """
    if found := differences(lake):
        name = hashlib.sha256("\n".join(found).encode()).hexdigest()
        raise_alarm(db, NO_TENANT, LIFECYCLE, name, NO_TENANT, {"differences": len(found)})
        for difference in found:
            get_logger(__name__).error("lifecycle_differs", difference=difference)
    return found


def _keep(  # noqa: PLR0917 - what a run has
    db: Database,
    tenant: str,
    holder: str,
    lake: LakeSettings,
    pipelines: PipelineSettings,
    wait: Callable[[float], None],
) -> Counts:
    found = get_tenant(db, tenant)
    if found is None:
        raise SkipTenantError("it is gone")
    due = kept(found, db)
    if due.erase is not None:
        try:
            erase_tenant(db, tenant, lake, pipelines, reason=due.erase, asked=due.erase == "request", wait=wait)
        except WithdrawnError as error:
            raise SkipTenantError(str(error)) from error
        return {"erased": 1}
    counts = purge(db, tenant, lake)
    tables = TenantTables(db, tenant, holder, lake)
    if due.before is not None:
        dropped = drop_days(tables, due.before)
        counts["objects_dropped"] = sum(dropped.values())
    return counts | vacuum(tables)


def _sweep(db: Database, tenant: str, lake: LakeSettings) -> Counts:
    """Delete what came back after an erasure."""
    everywhere = places(tenant, lake)
    held = [holding for place in everywhere for holding in place.found().values()]
    objects, size = (sum(holding[what] for holding in held) for what in ("objects", "bytes"))
    if objects:
        note_act(db, tenant, "tenant.erase.late", objects=objects, bytes=size)
        detail = {"objects": objects, "bytes": size}
        raise_alarm(db, tenant, LATE_DATA, db.clock().date().isoformat(), NO_TENANT, detail)
    for place in everywhere:
        place.erase()
    return {"objects_came_back": objects}


@dg.asset(
    group_name=GROUP,
    owners=[LANDING],
    description="Every night: tenants erased 30 days after their end, or as their Admins asked; days past a limit "
    "dropped with their bytes, staged segments deleted 14 days after they landed, an alarm for any that waits for "
    "24 hours, and files deleted that were replaced, or left by a process that died, 7 days before.",
)
def retention(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult[None]:
    with platform.step(context) as db:
        outcome = retain(db, f"retention {context.run.run_id}", platform.lake, platform.settings)
        # Last: a bucket that does not answer must not keep what is due.
        wrong = check_lifecycle(db, platform.lake)
    outcome.raise_if_all_failed()
    return dg.MaterializeResult(metadata=outcome.metadata() | {"lifecycle_differences": len(wrong)})


RETAIN = dg.define_asset_job(
    "retain",
    dg.AssetSelection.assets(retention),
    executor_def=dg.in_process_executor,
    tags={"kaimon/work": "retention"},
    description="Delete what is no longer to be kept.",
)

NIGHTLY = dg.ScheduleDefinition(
    job=RETAIN,
    cron_schedule="17 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
