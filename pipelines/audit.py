"""What the audit needs by the clock: each hour the chains' heads are signed, each night old access records go."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.

from dagster import DefaultScheduleStatus, OpExecutionContext, ScheduleDefinition, in_process_executor, job, op

from lake.access_reads import merge_access, purge_access
from lake.stores import AlreadyExistsError, Store, open_store
from pipelines.resources import PlatformResource
from tenancy.audit import heads_of
from tenancy.audit_heads import object_key, sign, signing_key
from tenancy.database import Database


def sign_heads(db: Database, store: Store) -> list[str]:
    """Sign the head of each chain that has grown since the last time; return the chains.

    Raises:
        lake.stores.StoreError: the audit store failed; what was put stays.
        tenancy.keys.KeyFileError: the signing key cannot be trusted.
    """
    key, moment = signing_key(db.settings.audit_key_path), db.clock()
    grown: list[str] = []
    for head in heads_of(db):
        if not head.seq:
            continue
        try:
            store.put_new(object_key(head), sign(head, key, moment))
        except AlreadyExistsError:
            continue  # signed before; `kaimon audit verify` holds that object against the chain
        grown.append(head.chain)
    return grown


@op(description="Sign how far each audit chain goes, and keep that where nothing can be written twice.")
def sign_audit_heads(context: OpExecutionContext, platform: PlatformResource) -> None:
    with platform.step(context) as db:
        grown = sign_heads(db, open_store("audit", platform.lake))
    context.add_output_metadata({"chains": len(grown)})


@job(executor_def=in_process_executor, tags={"kaimon/work": "audit"})
def sign_audit() -> None:
    """Sign the heads of the audit chains."""
    sign_audit_heads()


@op(description="Delete the access log's days that are past their retention; make few objects of a day's many.")
def purge_access_log(context: OpExecutionContext, platform: PlatformResource) -> None:
    with platform.step(context) as db:
        store, today = open_store("audit", platform.lake), db.clock().date()
        gone = purge_access(store, today, platform.lake.access_retention_days)
        merged = merge_access(store, today)
    context.add_output_metadata({"deleted": gone, "merged": merged})


@job(executor_def=in_process_executor, tags={"kaimon/work": "audit"})
def purge_audit() -> None:
    """Delete what the audit store need not keep any longer."""
    purge_access_log()


HOURLY = ScheduleDefinition(
    job=sign_audit,
    cron_schedule="7 * * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
)

NIGHTLY = ScheduleDefinition(
    job=purge_audit,
    cron_schedule="37 1 * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
)
