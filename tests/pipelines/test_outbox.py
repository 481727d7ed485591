"""The outbox in S3: summaries are put there, read from there, and gone from there with their tenant."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from dashboards.portal.reports import Report, file_of
from lake.holdings import holdings
from lake.settings import LakeSettings
from lake.stores import open_store
from pipelines.retention.age import drop_days
from pipelines.retention.places import places
from pipelines.summaries import outbox
from pipelines.summaries.day import deliver, make_facts, write_summary
from pipelines.summaries.period import Period
from pipelines.summaries.wording import writer_for

DAY = date(2026, 3, 4)
NINE = datetime(2026, 3, 4, 9, tzinfo=UTC)
SCOPE: Any = type("Scope", (), {"tenant_id": "acme"})


def told(home: Any, load: Any, tenant: str) -> Any:
    """A tenant whose day's summary was delivered, by the steps of the pipelines themselves."""
    home.tenant(tenant)
    load.do(NINE)
    load.cut(NINE, final=True)
    home.stage(tenant, load)
    assert home.run("events").success
    tables, period = home.tables(tenant), Period("day", DAY)
    make_facts(tables, period)
    write_summary(tables, period, writer_for(tables.db, tenant))
    assert deliver(tables, period)["delivered"] == 1
    return tables


def test_a_summary_lies_in_the_bucket_and_goes_from_it_with_its_day_and_with_its_tenant(
    s3: Any, home: Any, load: Any, new_load: Any
) -> None:
    lake = LakeSettings()
    assert lake.outbox_url == f"{s3.stores_url}/outbox"
    tables = told(home, load, "acme")
    told(home, new_load(agent_id="agt_00000000000000bb"), "acme-2")
    assert not (home.path / "outbox").exists()
    page = file_of(SCOPE, Report("day", DAY, 1), "html", lake)
    assert page is not None
    assert b"4 March 2026" in page
    store = open_store("outbox", lake)
    assert store.get("acme/day/2026-03-04-r1.html") == page
    assert file_of(SCOPE, Report("day", DAY, 2), "html", lake) is None
    gone = drop_days(tables, DAY + timedelta(days=1))
    assert gone["outbox"] == len(["html", "txt", "pdf"])
    assert file_of(SCOPE, Report("day", DAY, 1), "html", lake) is None
    [place] = [one for one in places("acme-2", lake) if one.name == "outbox"]
    assert place.found()["outbox"]["objects"] == 3
    place.erase()
    assert not list(holdings(lake.outbox_url, "outbox").held("acme-2")), "no version is left"


@pytest.mark.parametrize("where", ["home", "s3"])
def test_a_page_that_was_put_is_put_again_unchanged_and_another_takes_its_place(
    request: pytest.FixtureRequest, home: Any, where: str
) -> None:
    if where == "s3":
        request.getfixturevalue("s3")
    lake = LakeSettings()
    name = outbox.reference("acme", "day", "2026-03-04", 1)
    first = outbox.put(lake, name, b"one")
    assert outbox.put(lake, name, b"one") == first
    assert outbox.put(lake, name, b"another") != first
    assert open_store("outbox", lake).get(name) == b"another"
    if where == "home":
        assert (home.path / "outbox" / name).stat().st_mode & 0o777 == 0o600
