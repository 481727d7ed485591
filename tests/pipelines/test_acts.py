"""The audit chain's copy among a tenant's tables: whole, once, and verifiable where it lies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import polars as pl

from lake.query import run_query
from lake.settings import LakeSettings
from pipelines.acts import copy_acts
from pipelines.tables import TenantTables
from tenancy.audit import GENESIS, read_chain
from tenancy.enrollment import create_token, revoke_token
from tenancy.members import invite

LONG_AGO, SOON = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
VERIFY = (
    "SELECT count(*) AS records, count(*) FILTER (WHERE sha256(record) <> digest) AS altered, count(*) FILTER (WHERE "
    "json_extract_string(record, '$.previous') <> before) AS misplaced FROM "
    f"(SELECT *, lag(digest, 1, '{GENESIS}') OVER (ORDER BY seq) AS before FROM acts)"
)


def verified(tenant: str) -> dict[str, int]:
    return dict(run_query(tenant, VERIFY, LONG_AGO, SOON).table.to_pylist()[0])


def test_every_act_is_copied_once_and_the_copy_verifies_by_sql_alone(home: Any) -> None:
    tenant, other = home.tenant("acme"), home.tenant("other")
    tables = home.tables(tenant)
    record, token = create_token(home.db, tenant, "Jane's laptop")
    copied = copy_acts(tables)
    invite(home.db, tenant, "jane@example.com", "admin")
    revoke_token(home.db, tenant, record.token_id)
    assert copy_acts(tables) == 2
    assert copy_acts(tables) == 0
    chain = read_chain(home.db, tenant)[1]
    table = home.table(tenant, "acts").sort("seq")
    assert table["record"].to_list() == [one.body for one in chain]
    assert table["act"].to_list()[-3:] == ["token.create", "member.invite", "token.revoke"]
    assert table["act_day"].to_list() == table["at"].dt.date().to_list()
    assert verified(tenant) == {"records": copied + 2, "altered": 0, "misplaced": 0}
    everything = "\n".join(table["record"])
    assert token not in everything
    assert "Jane" not in everything
    assert "jane" not in everything
    assert verified(other)["records"] == 0


def test_a_record_that_is_altered_or_taken_out_of_the_copy_is_seen_by_sql(home: Any) -> None:
    tenant = home.tenant("acme")
    for number in range(4):
        create_token(home.db, tenant, f"{number}")
    tables = home.tables(tenant)
    copied = copy_acts(tables)
    kept = home.table(tenant, "acts")
    with tables.writer() as writer:
        writer.replace("acts", kept.filter(pl.col("seq") != 3))
    assert verified(tenant) == {"records": copied - 1, "altered": 0, "misplaced": 1}
    changed = pl.when(pl.col("seq") == 3).then(pl.col("record").str.replace("token", "taken")).otherwise("record")
    with tables.writer() as writer:
        writer.replace("acts", kept.with_columns(record=changed))
    assert verified(tenant) == {"records": copied, "altered": 1, "misplaced": 0}


def test_two_who_copy_at_once_copy_each_act_once(home: Any) -> None:
    tenant = home.tenant("acme")
    for number in range(20):
        create_token(home.db, tenant, f"{number}")
    both = [TenantTables(home.db, tenant, f"copier {number}", LakeSettings()) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        copied = list(pool.map(copy_acts, both))
    chain = read_chain(home.db, tenant)[1]
    assert sum(copied) == len(chain)
    assert home.table(tenant, "acts")["seq"].sort().to_list() == [one.seq for one in chain]
