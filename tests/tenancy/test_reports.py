"""Who gets summaries and when: only who confirmed, at the tenant's own hour, each mail claimed by one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tenancy.mails import ATTEMPTS, CLAIM, claim, mails, not_sent, sent
from tenancy.recipients import (
    CONFIRM_WITHIN,
    add_recipient,
    confirm,
    recipients,
    record_bounce,
    remove_recipient,
    unsubscribe,
    unsubscribe_token,
)
from tenancy.schedules import Schedule, due, due_at, schedules, set_schedule

DAY = date(2026, 3, 4)


def confirmed(db: Any, tenant: str, address: str = "ciso@example.com") -> Any:
    _, code = add_recipient(db, tenant, address)
    return confirm(db, code)


@pytest.mark.parametrize(
    ("zone", "hour", "day", "moment"),
    [
        ("UTC", 6, date(2026, 3, 4), datetime(2026, 3, 5, 6, tzinfo=UTC)),
        ("America/New_York", 7, date(2026, 3, 6), datetime(2026, 3, 7, 12, tzinfo=UTC)),
        ("America/New_York", 7, date(2026, 3, 7), datetime(2026, 3, 8, 11, tzinfo=UTC)),  # clocks went forward
        ("America/New_York", 2, date(2026, 3, 7), datetime(2026, 3, 8, 7, tzinfo=UTC)),  # an hour that was skipped
        ("America/New_York", 1, date(2026, 10, 31), datetime(2026, 11, 1, 5, tzinfo=UTC)),  # the first of two
        ("Asia/Tokyo", 8, date(2026, 3, 4), datetime(2026, 3, 5, 23, tzinfo=UTC)),  # at 8 the day was not over yet
        ("Asia/Tokyo", 9, date(2026, 3, 4), datetime(2026, 3, 5, 0, tzinfo=UTC)),
    ],
)
def test_a_summary_is_due_at_the_tenants_hour_once_its_day_is_over(
    zone: str, hour: int, day: date, moment: datetime
) -> None:
    assert due_at(Schedule("acme", True, False, zone, hour), "day", day) == moment


def test_every_day_falls_due_once_through_a_change_of_clocks() -> None:
    schedule = Schedule("acme", True, False, "America/New_York", 2)
    start = datetime(2026, 3, 5, tzinfo=UTC)
    moments = [start + timedelta(minutes=30 * step) for step in range(48 * 7)]
    found = [day for moment in moments for _, day in due(schedule, moment, timedelta(minutes=30))]
    assert found == [date(2026, 3, 4) + timedelta(days=ahead) for ahead in range(7)]


def test_a_week_is_due_after_its_sunday() -> None:
    schedule = Schedule("acme", False, True, "UTC", 7)
    assert due(schedule, datetime(2026, 3, 9, 7, tzinfo=UTC)) == [("week", date(2026, 3, 2))]
    assert due(schedule, datetime(2026, 3, 9, 6, 59, tzinfo=UTC)) == []


def test_a_schedule_is_kept_and_a_wrong_one_refused(db: Any, tenant: str) -> None:
    wanted = Schedule(tenant, True, True, "Europe/Berlin", 7)
    set_schedule(db, wanted)
    assert schedules(db) == [wanted]
    with pytest.raises(ValueError, match="time zone"):
        set_schedule(db, Schedule(tenant, True, False, "Mars/Base", 7))


def test_nobody_gets_mail_before_they_confirm_nor_after_they_stop(db: Any, tenant: str) -> None:
    person, code = add_recipient(db, tenant, "ciso@example.com")
    assert claim(db, person, "day", DAY, 1) is None
    assert confirm(db, "another") is None
    assert confirm(db, code) is not None
    assert claim(db, person, "day", DAY, 1) is not None
    assert not unsubscribe(db, person.recipient_id, "00")
    assert unsubscribe(db, person.recipient_id, unsubscribe_token(person))
    assert claim(db, person, "day", DAY, 2) is None
    assert confirm(db, code) is None


def test_a_code_that_is_too_old_confirms_nothing(db: Any, tenant: str, clock: Any) -> None:
    _, code = add_recipient(db, tenant, "ciso@example.com")
    clock.move(CONFIRM_WITHIN.total_seconds() + 1)
    assert confirm(db, code) is None


@pytest.mark.parametrize("address", ["a@b.c\r\nBcc: x@y.z", "A <a@b.c>", "a@b.c,d@e.f", "a@b..c", "", "a b@c.d"])
def test_what_is_not_one_plain_address_is_refused(db: Any, tenant: str, address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        add_recipient(db, tenant, address)


def test_a_mail_is_claimed_by_one_and_sent_once(db: Any, tenant: str, clock: Any) -> None:
    person = confirmed(db, tenant)
    first = claim(db, person, "day", DAY, 1)
    assert first is not None
    assert claim(db, person, "day", DAY, 1) is None
    clock.move(CLAIM.total_seconds())  # who claimed it was killed
    second = claim(db, person, "day", DAY, 1)
    assert second is not None
    assert (second.attempts, second.message_id) == (2, first.message_id)
    not_sent(db, first, "late")  # the first one was not dead after all, and has no say
    sent(db, second)
    clock.move(10 * CLAIM.total_seconds())
    assert claim(db, person, "day", DAY, 1) is None
    assert [one.state for one in mails(db, tenant)] == ["sent"]


def test_a_refused_mail_waits_longer_each_time_and_is_given_up(db: Any, tenant: str, clock: Any) -> None:
    person, waits = confirmed(db, tenant), []
    for _ in range(ATTEMPTS):
        mail = claim(db, person, "day", DAY, 1)
        assert mail is not None
        not_sent(db, mail, "not taken")
        left = mails(db, tenant)[0].due_at - clock.now
        waits.append(left)
        clock.move(left.total_seconds() - 1)
        assert claim(db, person, "day", DAY, 1) is None
        clock.move(1)
    assert waits == sorted(set(waits))
    assert mails(db, tenant)[0].state == "failed"
    assert claim(db, person, "day", DAY, 1) is None


def test_an_address_that_bounces_for_good_or_thrice_gets_no_more(db: Any, tenant: str) -> None:
    hard, soft = confirmed(db, tenant), confirmed(db, tenant, "cto@example.com")
    assert record_bounce(db, hard.recipient_id, permanent=True).state == "bounced"
    states = [record_bounce(db, soft.recipient_id, permanent=False).state for _ in range(3)]
    assert states == ["confirmed", "confirmed", "bounced"]
    assert claim(db, soft, "day", DAY, 1) is None


def test_no_tenant_reaches_anothers_recipient(db: Any, tenant: str) -> None:
    person = confirmed(db, tenant)
    with pytest.raises(ValueError, match="no recipient"):
        remove_recipient(db, "another", person.recipient_id)
    assert [one.state for one in recipients(db, tenant)] == ["confirmed"]
