"""Hosts: how each is doing, how to add one, and whether the one that was just added has been heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl
from starlette.responses import Response

from dashboards.portal import queries
from dashboards.portal.call import Call, Route, html
from dashboards.portal.queries import HostRow
from dashboards.portal.question import moment
from dashboards.portal.scope import TenantScope
from kaimon.base.problems import Problem
from lake.columns import CAUSES
from lake.reads import scan
from lake.settings import LakeSettings

_DAY: Final = timedelta(days=1)
_BEFORE: Final = timedelta(hours=1)
"""How long before a page was opened a host may have enrolled and still stand below "Add a host"."""


@dataclass(frozen=True)
class Health:
    """A host's last 24 hours: None where nothing is known.

    `lag` is how long its newest batch took from being cut to being in the tables; `lost` are events known lost,
    `unaccounted` any other difference, `unknown_hours` those for a part of which nothing vouches.
    """

    lag: timedelta | None = None
    lost: int | None = None
    unaccounted: int | None = None
    unknown_hours: int | None = None


def health_of(scope: TenantScope, now: datetime, lake: LakeSettings) -> dict[str, Health]:
    """Return how each host of the tenant that was heard or expected in the last 24 hours is doing, by agent."""
    first, found = now - _DAY, dict[str, Health]()
    lags = dict(
        scan(scope.tenant_id, "batches", first.date(), now.date(), lake)
        .filter(pl.col("outcome") == "landed", pl.col("received_at") >= moment(first))
        .group_by("agent_id")
        .agg((pl.col("landed_at") - pl.col("sent_at")).sort_by("sent_at").last())
        .collect()
        .iter_rows()
    )
    sums = (
        scan(scope.tenant_id, "completeness", first.date(), now.date(), lake)
        .filter(pl.col("hour") >= moment(first.replace(minute=0, second=0, microsecond=0)))
        .group_by("agent_id")
        .agg(
            pl.sum_horizontal(f"lost_{cause}" for cause in CAUSES).sum().alias("lost"),
            pl.col("unaccounted").sum(),
            (pl.col("state") == "unknown").sum().alias("unknown"),
        )
        .collect()
    )
    for agent, lost, unaccounted, unknown in sums.iter_rows():
        found[agent] = Health(lags.pop(agent, None), lost, unaccounted, unknown)
    return found | {agent: Health(lag) for agent, lag in lags.items()}


def first_events(scope: TenantScope, agents: Sequence[str], since: datetime, lake: LakeSettings) -> dict[str, datetime]:
    """Return when the first event that landed of each of some agents was, by agent; `since` is when they enrolled."""
    if not agents:
        return {}
    return dict(
        scan(scope.tenant_id, "batches", first_day=since.date(), settings=lake)
        .filter(pl.col("outcome") == "landed", pl.col("rows") > 0, pl.col("agent_id").is_in(agents))
        .group_by("agent_id")
        .agg(pl.col("first_time").min())
        .collect()
        .iter_rows()
    )


@dataclass(frozen=True)
class New:
    """Hosts that enrolled lately, each with the time of its first event; `done`: there is nothing to wait for."""

    hosts: tuple[tuple[HostRow, datetime | None], ...]
    done: bool


def new_of(call: Call, opened: datetime, all_hosts: Sequence[HostRow]) -> New:
    """Return what has come of "Add a host" since a page was opened."""
    since = opened - _BEFORE
    mine = [host for host in all_hosts if host.enrolled_at >= since and host.revoked_at is None]
    heard = first_events(call.scope, [host.agent_id for host in mine], since, call.lake)
    later = any(host.enrolled_at >= opened for host in mine)
    return New(
        tuple((host, heard.get(host.agent_id)) for host in mine),
        later and all(host.agent_id in heard for host in mine),
    )


def hosts(call: Call) -> Response:
    """Show the hosts, and how to add one."""
    found, opened = queries.hosts_of(call.db, call.scope, call.lake), _opened(call)
    labels = {token.token_id: token.label for token, _ in queries.tokens_of(call.db, call.scope)}
    return call.page(
        "hosts.html",
        hosts=found,
        health=health_of(call.scope, call.now, call.lake),
        nothing=Health(),
        labels=labels,
        opened=opened,
        new=new_of(call, opened, found),
    )


def heard(call: Call) -> Response:
    """Show the part of the page that changes while somebody waits for a host."""
    opened = _opened(call)
    found = queries.hosts_of(call.db, call.scope, call.lake)
    return html("heard.html", call=call, opened=opened, new=new_of(call, opened, found))


def _opened(call: Call) -> datetime:
    """Return when the page was opened, to the second.

    Raises:
        Problem: 400, it is no moment of the last day.
    """
    asked = call.query.get("opened")
    if not asked:
        return call.now.replace(microsecond=0)
    try:
        opened = datetime.fromtimestamp(int(asked), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Problem(400, "bad_moment", "Not a moment", "Open the page Hosts anew.") from error
    if not timedelta(0) <= call.now - opened < _DAY:
        raise Problem(400, "bad_moment", "Opened too long ago", "Open the page Hosts anew.")
    return opened


ROUTES: Final = (
    Route("GET", "hosts", "member", hosts),
    Route("GET", "hosts/heard", "member", heard),
)
