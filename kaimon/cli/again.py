"""What `replay` and `backfill` share: a tenant's days, and its id once more before anything is changed."""

from __future__ import annotations

from typing import Annotated

import typer

from tenancy.database import Database
from tenancy.tenants import get_tenant

TenantOption = Annotated[str, typer.Option(help="Whose days.")]
ConfirmOption = Annotated[
    str | None, typer.Option(help="The tenant's id once more: do it. Without it, only say what would be done.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a day.")]


def check_confirmed(db: Database, tenant: str, confirm: str | None) -> None:
    """Let pass what may be looked at, or done if `confirm` is the tenant's id.

    Raises:
        ValueError: there is no such tenant, or the id that confirms is another.
    """
    if get_tenant(db, tenant) is None:
        raise ValueError(f"there is no tenant {tenant!r}")
    if confirm not in {None, tenant}:
        raise ValueError(f"--confirm {confirm!r} is not {tenant!r}: nothing was changed")
