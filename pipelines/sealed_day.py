"""The asset `sealed_day`: every tenant's day sealed, tenants hashed into shards that the executor may spread."""

# No `from __future__ import annotations` here: Dagster looks at the type of `context` itself.
from collections.abc import Iterator
from datetime import date
from zlib import crc32

import dagster as dg

from kaimon.base.logs import get_logger
from pipelines.day_step import GROUP, TABLES, Tenants
from pipelines.gate import admit
from pipelines.partitions import DAYS
from pipelines.resources import PlatformResource
from pipelines.seal import seal_day
from pipelines.tenant_loop import Counts, Outcome, for_each_tenant


def in_shards(tenants: Tenants, shards: int) -> dict[int, Tenants]:
    """Return the tenants of each shard that has any; a tenant's shard depends on nothing but its id."""
    parts: dict[int, Tenants] = {}
    for tenant in sorted(tenants):
        parts.setdefault(crc32(tenant.encode()) % shards, []).append(tenant)
    return dict(sorted(parts.items()))


@dg.op(out=dg.DynamicOut(list), description="Hash the tenants into shards.")
def seal_shards(platform: PlatformResource, tenants: Tenants) -> Iterator[dg.DynamicOutput[Tenants]]:
    for shard, members in in_shards(tenants, platform.settings.shards).items():
        yield dg.DynamicOutput(members, mapping_key=str(shard))


@dg.op(description="Seal the day of each of a shard's tenants whose gate is open; one that fails stops no other.")
def seal_shard(context: dg.OpExecutionContext, platform: PlatformResource, tenants: Tenants) -> Outcome:
    day = date.fromisoformat(context.partition_key)
    with platform.step(context) as db:

        def one(tenant: str) -> Counts:
            admit(db, tenant, day)
            return seal_day(platform.tables(db, tenant, f"seal {context.run.run_id}"), day)

        return for_each_tenant("sealed_day", tenants, one)


@dg.op(description="Gather what became of the shards.")
def seals_of_day(context: dg.OpExecutionContext, outcomes: list[Outcome]) -> dg.Output[Tenants]:
    whole = Outcome()
    for outcome in outcomes:
        whole.add(outcome)
    if whole.failed:
        get_logger(__name__).error("seals_failed", day=context.partition_key, tenants=len(whole.failed))
    # A day that is not sealed is as true as one that is: what follows goes on, for the tenants that failed here too.
    return dg.Output(sorted({*whole.done, *whole.skipped, *whole.failed}), metadata=whole.metadata())


@dg.graph_asset(
    partitions_def=DAYS,
    group_name=GROUP,
    owners=[TABLES],
    kinds={"deltalake", "polars"},
    description="Each tenant's day that is over, from two in the morning UTC: its rows sorted by path and time, in few "
    "files, in the place of those that landing wrote. A day that nothing has landed in since stays as it is.",
)
def sealed_day(day_checks: Tenants) -> Tenants:
    return seals_of_day(seal_shards(day_checks).map(seal_shard).collect())  # type: ignore[no-any-return]
