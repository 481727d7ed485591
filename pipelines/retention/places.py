"""Where a tenant's data lies outside the control database: three stores, in each a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import polars as pl

from lake.holdings import Holdings, holdings, measure
from lake.reads import scan
from lake.schema import TABLES
from lake.settings import LakeSettings

LAKE: Final = "lake"


@dataclass(frozen=True)
class Place:
    """A folder that is one tenant's: `name` is `staging`, `lake` or `outbox`."""

    name: str
    holdings: Holdings
    folder: str

    def found(self) -> dict[str, dict[str, Any]]:
        """Return what is there by kind, such as `lake/events`: `objects`, `bytes`, `digest`; empty kinds are left out.

        Raises:
            lake.stores.StoreError: it cannot be asked.
        """
        parts = self.holdings.folders(self.folder) if self.name == LAKE else []
        told = {f"{LAKE}/{part}": measure(self.holdings.held(f"{self.folder}/{part}")) for part in parts}
        below = tuple(f"{self.folder}/{part}/" for part in parts)
        told[self.name] = measure(one for one in self.holdings.held(self.folder) if not one.key.startswith(below))
        return {kind: vars(holding) for kind, holding in told.items() if holding.objects}

    def erase(self) -> None:
        """Delete everything there, for good.

        Raises:
            lake.stores.StoreError: something is left.
        """
        self.holdings.erase(self.folder)


def places(tenant: str, lake: LakeSettings) -> list[Place]:
    """Return every place of a tenant, in the order in which they are emptied: what would be landed goes first."""
    return [
        Place("staging", holdings(lake.staging_url, "staging"), tenant),
        Place(LAKE, holdings(lake.lake_url, LAKE), tenant),
        Place("outbox", holdings(lake.outbox_url, "outbox"), tenant),
    ]


def rows_and_days(tenant: str, lake: LakeSettings) -> dict[str, dict[str, int]]:
    """Return the rows of each of a tenant's tables, and on how many days they are; a table that cannot be read says -1.

    Only what a reader sees now: older versions of rows count as bytes alone.
    """
    told: dict[str, dict[str, int]] = {}
    for name, table in TABLES.items():
        days = pl.col(table.partition).n_unique() if table.partition else pl.lit(0)
        try:
            rows = scan(tenant, name, settings=lake).select(rows=pl.len(), days=days).collect()
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it must go
            told[f"{LAKE}/{name}"] = {"rows": -1, "days": -1}
            continue
        counted = {key: int(value) for key, value in rows.row(0, named=True).items()}
        if counted["rows"]:
            told[f"{LAKE}/{name}"] = counted
    return told


def survey(tenant: str, lake: LakeSettings) -> dict[str, dict[str, Any]]:
    """Return all that lies outside the control database, by kind; nothing is changed.

    Raises:
        lake.stores.StoreError: a store cannot be asked.
    """
    rows = rows_and_days(tenant, lake)
    found = chain.from_iterable(place.found().items() for place in places(tenant, lake))
    return {kind: holding | rows.get(kind, {}) for kind, holding in found}
