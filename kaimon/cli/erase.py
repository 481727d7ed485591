"""What `kaimon tenant erase` and `kaimon tenant receipt` do: show, delete for good, and prove it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaimon.cli.terminal import inert
from lake.commits import lease_name
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.retention.erase import Receipt, erase_tenant, read_receipt
from pipelines.retention.places import survey
from tenancy.database import Database
from tenancy.erasures import get_erasure, rows_of
from tenancy.leases import holder_of
from tenancy.tenants import get_tenant


def show(db: Database, tenant: str) -> list[str]:
    """Return the lines that say what is held of a tenant; nothing is changed.

    Raises:
        ValueError: there is no such tenant, or it is erased.
    """
    known, erasure = get_tenant(db, tenant), get_erasure(db, tenant)
    if erasure is not None and erasure.finished_at is not None:
        raise ValueError(f"tenant {tenant!r} is erased: `kaimon tenant receipt {tenant}`")
    if known is None and erasure is None:
        raise ValueError(f"there is no tenant {tenant!r}")
    lines = [] if known is None else [f"tenant {tenant} ({inert(known.name)}), subscription {known.subscription}"]
    held = survey(tenant, LakeSettings())
    lines += [_line(kind, told) for kind, told in held.items()]
    lines += [f"{f'control/{table}':28}{rows:>10,} rows" for table, rows in rows_of(db, tenant).items() if rows]
    total = sum(told["objects"] for told in held.values()), sum(told["bytes"] for told in held.values())
    lines.append(f"{'in all':28}{total[0]:>10,} objects {total[1]:>16,} bytes")
    if erasure is not None:
        lines.append(f"its erasure began at {erasure.begun_at:%Y-%m-%dT%H:%M:%SZ} and was cut off")
    elif (holder := holder_of(db, lease_name(tenant))) is not None:
        lines.append(f"now writing its tables: {holder}")
    return [
        *lines,
        f"nothing was deleted. To delete all of it for good: kaimon tenant erase {tenant} --confirm {tenant}",
    ]


def erase(db: Database, tenant: str, confirm: str) -> list[str]:
    """Erase a tenant whose id was typed twice, and return what to say of it.

    Raises:
        ValueError: the two differ, or there is no such tenant.
    """
    if confirm != tenant:
        raise ValueError(f"--confirm {confirm!r} is not {tenant!r}: nothing was deleted")
    receipt = erase_tenant(db, tenant)
    return [f"tenant {tenant} erased; receipt {receipt.key} in the audit store"]


def save_receipt(db: Database, tenant: str, out: Path) -> list[str]:
    """Write a receipt to a file and its signature beside it; return how to verify it.

    Raises:
        ValueError: the tenant was not erased.
    """
    receipt = _receipt(db, tenant)
    signature = out.with_name(f"{out.name}.sig")
    out.write_bytes(receipt.body)
    signature.write_bytes(receipt.signature)
    return [f"openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in {out} -sigfile {signature}"]


def _receipt(db: Database, tenant: str) -> Receipt:
    erasure = get_erasure(db, tenant)
    if erasure is None or erasure.finished_at is None:
        raise ValueError(f"tenant {tenant!r} was not erased")
    return read_receipt(erasure, open_store("audit", LakeSettings()))


def _line(kind: str, told: dict[str, Any]) -> str:
    line = f"{kind:28}{told['objects']:>10,} objects {told['bytes']:>16,} bytes"
    if told.get("rows", 0) < 0:
        return f"{line}  its rows cannot be read"
    return f"{line} {told['rows']:>14,} rows {told['days']:>6,} days" if "rows" in told else line
