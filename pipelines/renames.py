"""Changed names: a host that calls itself otherwise than before, told from what its batches claim.

The name that tables go by is the one of enrollment and stays. What a batch claims decides nothing, so that nobody can
pose as another host; but a machine that was renamed, copied or taken over shows there first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from tenancy.alarms import HOSTNAME_CHANGED, raise_alarm
from tenancy.database import Database

_SHOWN: Final = 16
_CLAIM: Final = ("agent_id", "received_at", "load_id", "batch_seq", "outcome", "hostname", "claimed_hostname")


@dataclass(frozen=True)
class Rename:
    """One agent's batch that claims another name than the one before it did (wire's escaping)."""

    agent_id: str
    before: str
    after: str
    load_id: str
    batch_seq: int

    @property
    def names(self) -> str:
        """Tells this change from others of the agent, without either name in it."""
        both = f"{self.before}\n{self.after}".encode()
        return hashlib.sha256(both).hexdigest()[:_SHOWN]


def find_renames(hosts: pl.DataFrame, batches: pl.DataFrame) -> list[Rename]:
    """Return where `batches` (rows of the ledger), in the order in which they arrived, change an agent's claimed name.

    What `hosts` knows of an agent comes first; before its first batch stands the name that it enrolled with. Batches
    that did not land say nothing.
    """
    names: dict[str, str] = dict(zip(hosts["agent_id"].to_list(), hosts["claimed_hostname"].to_list(), strict=True))
    found = []
    for agent, _, load, number, outcome, hostname, claimed in sorted(batches.select(_CLAIM).iter_rows()):
        if outcome == "landed":
            before = names.get(agent, hostname)
            names[agent] = claimed
            if before != claimed:
                found.append(Rename(agent, before, claimed, load, number))
    return found


def alarm_of_renames(db: Database, tenant: str, renames: Iterable[Rename]) -> list[str]:
    """Raise an alarm for each change from one name to another, once an agent; return the agents, in order."""
    agents: set[str] = set()
    for one in renames:
        # As text: canonical JSON knows no integer past 2^53. Not the names' digest: the chain outlives an erasure.
        detail = {"load_id": one.load_id, "batch_seq": str(one.batch_seq)}
        raise_alarm(db, tenant, HOSTNAME_CHANGED, f"{one.agent_id}/{one.names}", one.agent_id, detail)
        agents.add(one.agent_id)
    return sorted(agents)
