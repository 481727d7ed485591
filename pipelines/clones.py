"""Clones: two machines that send under one agent's id at the same time, told from the ledger.

One machine runs one load of the programs at a time: when a load ends, by a restart or by `kill -9`, nothing of it is
sent after the next one's first batch. So where two loads of one agent take turns, two machines hold its credential.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from tenancy.alarms import CLONE, raise_alarm
from tenancy.database import Database

_SPAN: Final = ["sent_first", "sent_last", "received_first", "received_last"]


@dataclass(frozen=True, order=True)
class Clone:
    """Two loads of one agent that took turns; `first_load` is the one that was heard first, `since` when both were."""

    agent_id: str
    first_load: str
    second_load: str
    since: datetime


def suspects(hosts: pl.DataFrame, batches: pl.DataFrame) -> list[str]:
    """Return the agents of which `batches` (the ledger's) know another load than `hosts` does, or more than one.

    A restart makes a suspect too, but nearly every group of batches makes none: only suspects are looked at.
    """
    known: dict[str, str] = dict(zip(hosts["agent_id"].to_list(), hosts["load_id"].to_list(), strict=True))
    told = zip(*(batches[name].to_list() for name in ("agent_id", "load_id", "outcome", "final")), strict=True)
    heard: dict[str, set[str]] = {}
    for agent, load, outcome, final in told:
        loads = heard.setdefault(agent, {known[agent]} if agent in known else set())
        if outcome == "landed" and not final:
            loads.add(load)
    return sorted(agent for agent, loads in heard.items() if len(loads) > 1)


def find_clones(batches: pl.DataFrame) -> list[Clone]:
    """Return each pair of loads of one agent whose batches take turns (A, B, A), in order.

    They must do so both by when they were cut, on the host's clock, and by when they arrived, on ours: a clock that
    was set back between two loads, or a batch that a slow connection held up, upsets one order and never both. A
    goodbye (`final`) and what did not land say nothing. Two machines whose clocks differ are known once both have
    sent for longer than that difference.
    """
    spans = (
        _counted(batches)
        .group_by("agent_id", "load_id")
        .agg(
            sent_first=pl.col("sent_at").min(),
            sent_last=pl.col("sent_at").max(),
            received_first=pl.col("received_at").min(),
            received_last=pl.col("received_at").max(),
        )
        .sort("agent_id", "received_first", "load_id")
        .select("agent_id", "load_id", *_SPAN)
    )
    found: list[Clone] = []
    running: list[_Span] = []
    for span in (_Span(*row) for row in spans.iter_rows()):
        # Sorted by arrival: what ended before this load began can take turns with no later one either.
        running = [one for one in running if one.agent_id == span.agent_id and one.received_last > span.received_first]
        found += [
            Clone(span.agent_id, one.load_id, span.load_id, span.received_first)
            for one in running
            if one.takes_turns_with(span)
        ]
        running.append(span)
    return sorted(found)


def alarm_of_clones(db: Database, tenant: str, clones: Iterable[Clone]) -> list[str]:
    """Raise an alarm for each pair of loads, once however often it is noticed; return the agents, in order."""
    agents: set[str] = set()
    for clone in clones:
        loads = sorted((clone.first_load, clone.second_load))
        detail = {"loads": loads, "since": clone.since.isoformat()}
        raise_alarm(db, tenant, CLONE, "/".join((clone.agent_id, *loads)), clone.agent_id, detail)
        agents.add(clone.agent_id)
    return sorted(agents)


@dataclass(frozen=True)
class _Span:
    agent_id: str
    load_id: str
    sent_first: datetime
    sent_last: datetime
    received_first: datetime
    received_last: datetime

    def takes_turns_with(self, other: _Span) -> bool:
        sent = self.sent_first < other.sent_last and other.sent_first < self.sent_last
        return sent and self.received_first < other.received_last and other.received_first < self.received_last


def _counted(batches: pl.DataFrame) -> pl.DataFrame:
    return batches.filter((pl.col("outcome") == "landed") & ~pl.col("final"))
