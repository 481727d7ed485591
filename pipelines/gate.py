"""The gate of a tenant's day: nothing rests on data whose checks have not passed."""

from __future__ import annotations

from datetime import date

from pipelines.tenant_loop import SkipTenantError
from tenancy.database import Database
from tenancy.days import get


def admit(db: Database, tenant: str, day: date) -> None:
    """Let a tenant's day through, or say why not.

    `passed` goes through. `open` means that data has come since the check: while the day runs that is its normal
    state, so what passed in this run goes on, provisionally; a day that is over waits for its next check.

    Raises:
        SkipTenantError: the day's checks failed, or are out of date.
    """
    state = get(db, tenant, day)
    name = "open" if state is None else state.state
    if name == "failed":
        raise SkipTenantError("the day's checks failed")
    if name == "open" and day < db.clock().date():
        raise SkipTenantError("data has come since the day's checks")
