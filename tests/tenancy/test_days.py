"""Day states."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import select, text

from tenancy.database import Database
from tenancy.days import DayState, get, list_days, mark_open, set_checked, set_sealed, unsettled, with_news
from tenancy.tables import DAY_STATES, UNSETTLED

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)


def test_a_day_that_never_had_data_has_no_state_and_passes_no_check(db: Database) -> None:
    assert get(db, "acme", MONDAY) is None
    assert not set_checked(db, "acme", MONDAY, passed=True, detail={}, seen_version=0)
    assert list_days(db) == []


def test_a_day_with_data_is_open(db: Database, clock: Any) -> None:
    mark_open(db, "acme", [TUESDAY, MONDAY, TUESDAY])
    assert get(db, "acme", MONDAY) == DayState("acme", MONDAY, "open", {}, clock(), 1)
    assert [state.day for state in list_days(db)] == [MONDAY, TUESDAY]
    mark_open(db, "acme", [])
    assert [state.version for state in list_days(db)] == [1, 1]


def test_a_check_of_all_the_data_is_recorded(db: Database, clock: Any) -> None:
    mark_open(db, "acme", [MONDAY])
    clock.move(5)
    assert set_checked(db, "acme", MONDAY, passed=True, detail={"rows": 7}, seen_version=1)
    assert get(db, "acme", MONDAY) == DayState("acme", MONDAY, "passed", {"rows": 7}, clock(), 1)
    assert set_checked(db, "acme", MONDAY, passed=False, detail={"rows": 8}, seen_version=1)
    assert get(db, "acme", MONDAY).state == "failed"


def test_data_that_arrives_during_a_check_keeps_the_day_open(db: Database) -> None:
    mark_open(db, "acme", [MONDAY])
    seen = get(db, "acme", MONDAY).version
    mark_open(db, "acme", [MONDAY])
    assert not set_checked(db, "acme", MONDAY, passed=True, detail={"rows": 7}, seen_version=seen)
    assert get(db, "acme", MONDAY).state == "open"


def test_data_that_arrives_after_a_check_voids_it(db: Database) -> None:
    mark_open(db, "acme", [MONDAY, TUESDAY])
    set_checked(db, "acme", MONDAY, passed=True, detail={"rows": 7}, seen_version=1)
    set_checked(db, "acme", TUESDAY, passed=True, detail={"rows": 7}, seen_version=1)
    mark_open(db, "acme", [MONDAY])
    monday = get(db, "acme", MONDAY)
    assert (monday.state, monday.detail, monday.version) == ("open", {}, 2)
    assert get(db, "acme", TUESDAY).state == "passed"


def test_one_tenants_day_says_nothing_about_anothers(db: Database) -> None:
    mark_open(db, "acme", [MONDAY])
    mark_open(db, "zeta", [MONDAY, TUESDAY])
    assert set_checked(db, "zeta", MONDAY, passed=False, detail={}, seen_version=1)
    assert get(db, "acme", MONDAY).state == "open"
    assert [(state.tenant_id, state.day) for state in list_days(db, "zeta")] == [("zeta", MONDAY), ("zeta", TUESDAY)]
    assert [state.tenant_id for state in list_days(db, day=MONDAY)] == ["acme", "zeta"]
    assert [state.state for state in list_days(db, "zeta", MONDAY)] == ["failed"]


def test_a_seal_is_recorded_up_to_what_it_saw_and_never_taken_back(db: Database) -> None:
    mark_open(db, "acme", [MONDAY, TUESDAY])
    set_sealed(db, "acme", MONDAY, seen_version=1)
    mark_open(db, "acme", [MONDAY])
    monday = get(db, "acme", MONDAY)
    assert (monday.version, monday.sealed_version) == (2, 1), "data arrived: the seal is behind"
    set_sealed(db, "acme", MONDAY, seen_version=2)
    set_sealed(db, "acme", MONDAY, seen_version=1)
    assert get(db, "acme", MONDAY).sealed_version == 2
    assert get(db, "acme", TUESDAY).sealed_version == 0


def test_a_day_has_news_until_it_is_checked_and_sealed_for_every_tenant(db: Database) -> None:
    for tenant in ("acme", "zeta"):
        mark_open(db, tenant, [MONDAY, TUESDAY])
    assert with_news(db, MONDAY, TUESDAY) == [MONDAY, TUESDAY]
    assert with_news(db, TUESDAY, TUESDAY) == [TUESDAY]
    assert set_checked(db, "acme", MONDAY, passed=True, detail={}, seen_version=1)
    set_sealed(db, "acme", MONDAY, 1)
    assert with_news(db, MONDAY, MONDAY) == [MONDAY]
    assert set_checked(db, "zeta", MONDAY, passed=True, detail={}, seen_version=1)
    assert with_news(db, MONDAY, MONDAY) == [MONDAY]
    set_sealed(db, "zeta", MONDAY, 1)
    assert with_news(db, MONDAY, TUESDAY) == [TUESDAY]


def test_a_day_whose_check_failed_is_no_news_until_data_comes(db: Database) -> None:
    mark_open(db, "acme", [MONDAY])
    assert set_checked(db, "acme", MONDAY, passed=False, detail={}, seen_version=1)
    assert with_news(db, MONDAY, MONDAY) == []
    mark_open(db, "acme", [MONDAY])
    assert with_news(db, MONDAY, MONDAY) == [MONDAY]


def test_days_that_have_not_passed_are_found_without_reading_those_that_have(db: Database) -> None:
    mark_open(db, "acme", [MONDAY, TUESDAY])
    assert set_checked(db, "acme", MONDAY, passed=True, detail={}, seen_version=1)
    assert [state.day for state in unsettled(db)] == [TUESDAY]
    wanted = str(select(DAY_STATES.c.day).where(UNSETTLED).compile(compile_kwargs={"literal_binds": True}))
    with db.transaction() as session:
        if db.dialect == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))  # few rows are read faster without any index
        explain = "EXPLAIN" if db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = str(session.execute(text(f"{explain} {wanted}")).all())
    assert "ix_day_states_unsettled" in plan
