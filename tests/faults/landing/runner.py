"""Lands a tenant, seals its day or vacuums in a process of its own and, at a named step, dies or stops until told.

Steps are `<word> <what>#<times>`: `admit events#1` just before the first handle on `events` is opened for a commit,
`commit events#1` between that and the commit, `committed events#1` after it; `opened days#1`, `dropped hint#1`.
With `storage`, each call that reaches storage counts, before and after it: `die_at` and `stop_at` name such a moment.
Of a seal: `put file#1`, `has put file#1`. Of a vacuum: `delete file#1` just before the first one goes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from lake.lean import without_pandas

without_pandas()

from lake import commits, holdings, reads, sealed, stores  # noqa: E402 - the shorter start must come first
from lake import tables as lake_tables  # noqa: E402 - as above
from lake.settings import LakeSettings  # noqa: E402 - as above
from pipelines import seal, tables  # noqa: E402 - as above
from pipelines.landing import land  # noqa: E402 - as above
from pipelines.retention.vacuum import vacuum  # noqa: E402 - as above
from tenancy.database import open_database  # noqa: E402 - as above
from tenancy.leases import HeldLease, Lease  # noqa: E402 - as above
from tenancy.settings import TenancySettings  # noqa: E402 - as above

ASKED: dict[str, Any] = json.loads(sys.argv[1])
TIMES: Counter[str] = Counter()


def step(name: str) -> None:
    TIMES[name] += 1
    numbered = f"{name}#{TIMES[name]}"
    with Path(ASKED["log"]).open("a") as log:
        log.write(numbered + "\n")
    if numbered == ASKED.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if numbered == ASKED.get("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)


MOMENTS = 0


def moment() -> None:
    """Count a moment before or after a storage call, and die or stop there if that was asked."""
    global MOMENTS  # noqa: PLW0603 - a process of one run
    MOMENTS += 1
    if ASKED.get("die_at") == MOMENTS:
        os.kill(os.getpid(), signal.SIGKILL)
    if ASKED.get("stop_at") == MOMENTS:
        os.kill(os.getpid(), signal.SIGSTOP)


def count_storage() -> None:
    """Count every call by which landing reaches a store or a table."""
    for owner, names in (
        (stores.LocalStore, ("put_new", "get", "prefixes", "_entries")),
        (stores, ("make_folders", "sync_folder")),
        (os, ("link", "fsync")),
        (commits, ("silent_table", "renew", "write_deltalake", "_settle")),
        (reads, ("silent_table",)),
        (lake_tables, ("_create",)),
        (commits.DeltaTable, ("create_write_transaction",)),
    ):
        for name in names:
            setattr(owner, name, around(getattr(owner, name)))


def around(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **how: Any) -> Any:
        moment()
        answer = function(*args, **how)
        moment()
        return answer

    return wrapped


def before(name: str, function: Callable[..., Any], table_at: int) -> Callable[..., Any]:
    def wrapped(*args: Any, **how: Any) -> Any:
        step(f"{name} {args[table_at]}")
        return function(*args, **how)

    return wrapped


def around_put(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **how: Any) -> Any:
        step("put file")
        answer = function(*args, **how)
        step("has put file")
        return answer

    return wrapped


def before_each(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, held: Any) -> Any:
        def one_by_one() -> Iterator[Any]:
            for one in held:
                step("delete file")
                yield one

        return function(self, one_by_one())

    return wrapped


def after(name: str, function: Callable[..., Any], table_at: int | None = None) -> Callable[..., Any]:
    def wrapped(*args: Any, **how: Any) -> Any:
        answer = function(*args, **how)
        step(name if table_at is None else f"{name} {args[table_at]}")
        return answer

    return wrapped


@contextmanager
def any_fence(_db: object, name: str, holder: str, ttl_s: float) -> Iterator[HeldLease]:
    """A lease that excludes nobody, as if its holder had slept through its end."""
    yield HeldLease(Lease(name, holder, ASKED["fence"], datetime.now(UTC) + timedelta(days=1), ttl_s))


commits.Writer._admitted = before("admit", commits.Writer._admitted, 1)  # type: ignore[method-assign]
commits.Writer._write = before("commit", after("committed", commits.Writer._write, 2), 2)  # type: ignore[method-assign]
sealed.put_file = around_put(sealed.put_file)
holdings.LocalHoldings.delete = before_each(holdings.LocalHoldings.delete)  # type: ignore[method-assign]
land.mark_open = after("opened days", land.mark_open)
land.drop = after("dropped hint", land.drop)
land.GROUP_ROWS = ASKED.get("group_rows", land.GROUP_ROWS)
if "fence" in ASKED:
    land.held_lease = any_fence
    tables.held_lease = any_fence

if ASKED.get("storage"):
    count_storage()

home = Path(ASKED["home"])
later = timedelta(days=ASKED.get("later_days", 0))
db = open_database(TenancySettings(home=home), lambda: datetime.now(UTC) + later)
try:
    if day := ASKED.get("seal"):
        acme = tables.TenantTables(db, "acme", "runner", LakeSettings(home=home))
        print(seal.seal_day(acme, date.fromisoformat(day), range_rows=5, file_bytes=1)["rows"])
        sys.exit(0)
    if ASKED.get("vacuum"):
        acme = tables.TenantTables(db, "acme", "runner", LakeSettings(home=home))
        print(vacuum(acme, timedelta(0))["files_vacuumed"])
        sys.exit(0)
    landed = land.land_tenant(db, "acme", "runner", LakeSettings(home=home))
except commits.CommitError as error:
    print(type(error).__name__)
    sys.exit(3)
print(MOMENTS if ASKED.get("storage") else landed.segments)
