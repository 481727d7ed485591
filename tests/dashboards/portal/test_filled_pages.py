"""The pages of a tenant that has data: each answers, and says what the tables hold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dashboards.portal.pages import ROUTES
from lake.settings import LakeSettings
from tenancy.tenants import create_tenant
from tests.dashboards.portal import filled


@pytest.fixture(scope="module")
def analyst(portal: Any) -> Any:
    """An Admin of a tenant that has a day of data."""
    create_tenant(portal.db, "corp")
    filled.fill(LakeSettings(home=portal.home), "corp")
    return portal.member("corp", "ana@corp.example", "admin")


@pytest.mark.parametrize("route", [one for one in ROUTES if one.method == "GET"], ids=lambda route: route.path or "/")
def test_every_page_answers_about_a_day_that_has_data(analyst: Any, route: Any) -> None:
    answer = analyst.get(f"/t/corp/{route.path}?day={filled.DAY}")
    assert answer.status_code in {200, 404}, answer.text
    if answer.status_code == 404:
        assert route.path in {"tokens/revoke", "keys/revoke", "reports/facts", "reports/file"}


def test_the_overview_says_how_many_events_the_hours_hold(analyst: Any) -> None:
    page = analyst.get(f"/t/corp/?day={filled.DAY}").text
    assert re.search(r"<dt>File events</dt><dd>(<a [^>]+>)?2,100", page)
    assert "<svg" in page
