"""The loop over tenants: each tenant's error is held apart, so that it never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dagster import Failure, MetadataValue

from kaimon.base.access import accessing
from kaimon.base.logs import get_logger

Counts = dict[str, int]
SHOWN: Final = 200
"""Tenants listed in a run's metadata at most; totals are over all."""


class SkipTenantError(Exception):
    """A tenant has nothing to do here; the message is the reason, in ids and words of ours."""


@dataclass
class Outcome:
    """What became of each tenant: counts where it was done, a reason where not; agents that proved to be cloned."""

    done: dict[str, Counts] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    clones: dict[str, list[str]] = field(default_factory=dict)

    def add(self, later: Outcome) -> None:
        """Take over what a later round says of its tenants."""
        for tenant in (*later.done, *later.skipped, *later.failed):
            for told in (self.done, self.skipped, self.failed):
                told.pop(tenant, None)
        self.done |= later.done
        self.skipped |= later.skipped
        self.failed |= later.failed

    def metadata(self) -> dict[str, Any]:
        """Return Dagster metadata: totals, counts by tenant, and who was skipped or failed. Ids and numbers only."""
        names = sorted({name for counts in self.done.values() for name in counts})
        totals = {name: sum(counts.get(name, 0) for counts in self.done.values()) for name in names}
        shown = dict(list(self.done.items())[:SHOWN])
        rows = ["| tenant | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for tenant, counts in shown.items():
            cells = [tenant, *(f"{counts.get(name, 0):,}" for name in names)]
            rows.append(f"| {' | '.join(cells)} |")
        said: dict[str, Any] = {"tenants": len(self.done), **totals}
        if shown:
            said["by_tenant"] = MetadataValue.md("\n".join(rows))
        for name, reasons in (("skipped", self.skipped), ("failed", self.failed)):
            if reasons:
                said[f"tenants_{name}"] = len(reasons)
                said[name] = MetadataValue.json(dict(list(reasons.items())[:SHOWN]))
        if self.clones:
            shown_clones = {tenant: agents[:SHOWN] for tenant, agents in list(self.clones.items())[:SHOWN]}
            said["cloned_agents"] = sum(len(agents) for agents in self.clones.values())
            said["clones"] = MetadataValue.json(shown_clones)
        return said

    def raise_if_all_failed(self) -> None:
        """Stop the run when it failed for everyone who had something to do.

        Raises:
            dagster.Failure: so that what depends on this asset does not start.
        """
        if self.failed and not self.done:
            raise Failure(f"failed for all of {len(self.failed)} tenants", metadata=self.metadata())


def for_each_tenant(step: str, tenants: Iterable[str], action: Callable[[str], Counts]) -> Outcome:
    """Run `action` for each tenant; log and keep apart what fails."""
    outcome = Outcome()
    log = get_logger(__name__)
    for tenant in tenants:
        try:
            with accessing("run", step, tenant):
                outcome.done[tenant] = action(tenant)
        except SkipTenantError as reason:
            outcome.skipped[tenant] = str(reason)
        except Exception as error:
            log.exception("tenant_failed", step=step, tenant=tenant)
            outcome.failed[tenant] = type(error).__name__
        else:
            log.info("tenant_done", step=step, tenant=tenant, **outcome.done[tenant])
    return outcome
