"""Alerts: told once when something goes wrong and once when it is over, by real mail and a real webhook."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance, build_sensor_context
from standardwebhooks import Webhook
from typer.testing import CliRunner

from kaimon.cli import alert as alert_command
from pipelines.alerts.causes import KINDS
from pipelines.alerts.sensors import alerts, failed_run
from pipelines.alerts.words import ANCHORS
from pipelines.definitions import defs
from pipelines.resources import Platform
from tenancy.alarms import CLONE, raise_alarm
from tenancy.alerts import ATTEMPTS, list_alerts, open_alerts
from tenancy.database import open_database
from tenancy.days import mark_open, set_checked
from tenancy.hints import mark_staged

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = date(2026, 3, 3)


class Watch:
    """The sensor as the daemon runs it, its cursor kept, by a clock that the test sets."""

    def __init__(self, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.now, self.cursor = home, NOW, None
        self.instance: DagsterInstance = home.instance
        home.db.clock = lambda: self.now
        monkeypatch.setattr("pipelines.resources.open_database", lambda: open_database(clock=lambda: self.now))

    def look(self, seconds: float = 60) -> str:
        self.now += timedelta(seconds=seconds)
        context = build_sensor_context(instance=self.instance, cursor=self.cursor, resources={"platform": Platform()})
        said = alerts(context)
        assert isinstance(said, dg.SkipReason)
        self.cursor = context.cursor
        return str(said.skip_message)


@pytest.fixture
def watch(home: Any, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(home, monkeypatch)


def subjects(mailbox: Any) -> list[str]:
    return [str(mail["Subject"]).removeprefix("[kaimon] ") for mail in mailbox.mails]


def test_a_failing_day_is_told_once_and_once_more_when_it_passes(
    home: Any, watch: Watch, mailbox: Any, hook: Any
) -> None:
    mark_open(home.db, "acme", [DAY])
    set_checked(home.db, "acme", DAY, False, {"broken": ["rows_unaccounted", "nulls"]}, 1)
    assert watch.look() == "told: 4 sent"
    assert watch.look() == "nothing new to tell"
    told = [
        "raised: a day failed its checks of acme (2026-03-03)",
        "raised: events are unaccounted for of acme (2026-03-03)",
    ]
    assert sorted(subjects(mailbox)) == told
    # Data came: nobody knows until it is checked.
    mark_open(home.db, "acme", [DAY])
    assert watch.look() == "nothing new to tell"
    set_checked(home.db, "acme", DAY, True, {"broken": []}, 2)
    assert watch.look() == "told: 4 sent"
    assert sorted(subjects(mailbox)[2:]) == [line.replace("raised", "cleared") for line in told]
    assert open_alerts(home.db) == []

    mail = mailbox.mails[0]
    assert mailbox.recipients[0] == ["ops@example.com", "night@example.com"]
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "docs/runbook.md#" in mail.get_content()
    assert len({str(one["Message-ID"]) for one in mailbox.mails}) == 4
    for headers, body in hook.posts:
        said = json.loads(body)
        assert headers["webhook-id"] == f"{said['alert']}.{said['state']}"
        assert (said["tenant"], said["detail"]["day"]) == ("acme", "2026-03-03")
    assert sorted(json.loads(body)["state"] for _, body in hook.posts) == ["cleared"] * 2 + ["raised"] * 2


def test_a_webhook_is_signed_so_that_another_implementation_accepts_it_and_a_changed_body_is_refused(
    home: Any, hook: Any, secret: str
) -> None:
    done = CliRunner().invoke(alert_command.app, ["test"])
    assert (done.exit_code, done.output) == (0, "webhook: taken\n")
    [(headers, body)] = hook.posts
    assert Webhook(secret).verify(body.decode(), headers)["kind"] == "test"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(secret).verify(body.decode().replace("test", "test2"), headers)


def test_a_channel_that_fails_is_tried_again_later_and_later_and_holds_up_no_other(
    home: Any, watch: Watch, mailbox: Any, hook: Any
) -> None:
    raise_alarm(home.db, "acme", CLONE, "agt_1/a/b", "agt_1", {"loads": ["a", "b"]})
    hook.status = 500
    assert watch.look() == "told: 1 failed, 1 sent"
    assert watch.look(10) == "nothing new to tell", "it is not due yet"
    assert watch.look(30) == "told: 1 failed"
    hook.status = 302
    assert watch.look(120) == "told: 1 failed", "a redirect is no answer"
    hook.status = 204
    assert watch.look(600) == "told: 1 sent"
    assert watch.look(86_400) == "nothing new to tell"
    assert (len(mailbox.mails), len(hook.posts)) == (1, 1)
    # An alarm is for people: nothing clears it.
    assert [alert.kind for alert in open_alerts(home.db)] == ["alarm"]


def test_many_tenants_of_whom_the_same_is_wrong_are_one_mail_and_a_post_each(
    home: Any, watch: Watch, mailbox: Any, hook: Any
) -> None:
    tenants = [home.tenant(f"tenant-{number:02d}") for number in range(60)]
    mark_staged(home.db, [(tenant, "node-1", 1) for tenant in tenants])
    mailbox.refuse = True
    assert watch.look(301) == "told: 60 failed, 60 sent"
    mailbox.refuse = False
    assert watch.look(60) == "told: 60 sent"
    assert len(hook.posts) == 60, "a program takes each by itself"
    assert subjects(mailbox) == ["raised: data is late of 60 tenants (60 alerts)"]
    text = mailbox.mails[0].get_content()
    assert all(f"{tenant}: landing, " in text for tenant in tenants[:50])
    assert "and 10 more: kaimon alert list" in text
    assert watch.look(60) == "nothing new to tell"


def test_what_no_channel_takes_is_given_up_after_a_bounded_number_of_attempts(
    home: Any, watch: Watch, mailbox: Any
) -> None:
    raise_alarm(home.db, "acme", CLONE, "agt_1/a/b", "agt_1", {})
    mailbox.refuse = True
    assert [watch.look(3600) for _ in range(ATTEMPTS)] == ["told: 1 failed"] * ATTEMPTS
    mailbox.refuse = False
    assert watch.look(86_400) == "nothing new to tell"


def test_mail_never_goes_in_the_clear_nor_to_a_server_that_nobody_vouches_for(
    home: Any, mailbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAIMON_SMTP_CA")
    done = CliRunner().invoke(alert_command.app, ["test"])
    assert done.exit_code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.output
    monkeypatch.setenv("KAIMON_SMTP_PASSWORD", "another")
    assert CliRunner().invoke(alert_command.app, ["test"]).exit_code == 1
    assert mailbox.mails == []


def test_an_error_shows_neither_the_webhooks_address_nor_its_secret(
    home: Any, hook: Any, secret: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.status = 404
    done = CliRunner().invoke(alert_command.app, ["test"])
    assert done.output == "webhook: ChannelError: the webhook answered 404\n"
    assert "s3cret" not in "".join(capfd.readouterr())


def test_a_run_that_fails_is_told_until_one_of_its_job_goes_through(
    home: Any, watch: Watch, mailbox: Any, load: Any
) -> None:
    watch.now = datetime.now(UTC)
    home.stage(home.tenant("acme"), _one_batch(load, watch.now))
    path = next((home.path / "staging" / "acme").rglob("*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(b"not a segment")
    land = defs.resolve_job_def("land")

    def run() -> Any:
        return land.execute_in_process(instance=home.instance, raise_on_error=False)

    failed = run()
    assert not failed.success
    context = dg.build_run_status_sensor_context(
        "failed_run", failed.all_events[-1], home.instance, failed.dagster_run, resources={"platform": Platform()}
    )
    failed_run(context.for_run_failure())
    assert watch.look() == "told: 1 sent"
    assert watch.look() == "nothing new to tell", "the other sensor has seen it too"
    [alert] = open_alerts(home.db)
    assert (alert.kind, alert.subject, alert.detail) == ("run_failed", "land", {"run": failed.run_id})
    path.write_bytes(whole)
    assert run().success
    assert watch.look() == "told: 1 sent"
    assert subjects(mailbox) == ["raised: a run failed (land)", "cleared: a run failed (land)"]


def test_a_tenant_that_waits_for_landing_is_stale_and_one_that_lands_or_is_silent_is_not(
    home: Any, watch: Watch, mailbox: Any, load: Any
) -> None:
    for tenant in ("acme", "idle"):
        home.tenant(tenant)
    home.stage("acme", _one_batch(load, NOW))
    assert watch.look(299) == "nothing new to tell"
    mark_staged(home.db, [("acme", "node-1", 1)])
    assert watch.look(2) == "told: 1 sent", "a hint that is renewed hides nothing"
    [alert] = open_alerts(home.db)
    assert (alert.tenant_id, alert.detail) == ("acme", {"landed_until": None, "waiting_s": 301})
    assert home.run("events").success
    assert watch.look() == "told: 1 sent"
    assert subjects(mailbox) == ["raised: data is late of acme (landing)", "cleared: data is late of acme (landing)"]


def test_a_day_that_nobody_checks_in_the_night_after_it_is_stale(home: Any, watch: Watch) -> None:
    mark_open(home.db, "acme", [DAY, NOW.date()])
    watch.now = datetime(2026, 3, 5, 5, 58, tzinfo=UTC)
    watch.look()
    assert [alert.subject for alert in open_alerts(home.db)] == []
    watch.look(120)
    assert {alert.subject for alert in open_alerts(home.db)} == {"2026-03-03", "2026-03-04"}
    for day in (DAY, NOW.date()):
        set_checked(home.db, "acme", day, True, {"broken": []}, 1)
    watch.look()
    assert open_alerts(home.db) == []


def test_quarantine_that_grows_is_told_until_the_day_is_over(
    home: Any, watch: Watch, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_ALERT_QUARANTINE_LINES", "3")
    home.tenant("acme")
    for n in range(2):
        load.do(NOW, path=f"/a{n}")
        load.do(NOW)
        load.cut(NOW, broken=1 if n else 2)
    home.stage("acme", load)
    assert home.run("events").success
    watch.look()
    [alert] = open_alerts(home.db)
    assert (alert.kind, alert.tenant_id, alert.detail) == ("quarantine", "acme", {"day": "2026-03-04", "lines": 3})
    watch.look(86_400)
    assert "quarantine" not in {alert.kind for alert in open_alerts(home.db)}


def test_a_control_database_that_is_away_is_told_without_it(
    home: Any, watch: Watch, mailbox: Any, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    for _ in range(2):
        assert watch.look() == "the control database does not answer"
    assert subjects(mailbox) == ["raised: the control database is away (control)"]
    monkeypatch.delenv("KAIMON_DATABASE_URL")
    for _ in range(2):
        assert watch.look() == "nothing new to tell"
    assert subjects(mailbox)[1:] == ["cleared: the control database is away (control)"]
    assert [json.loads(body)["state"] for _, body in hook.posts] == ["raised", "cleared"]


def test_an_alert_holds_no_name_that_a_host_chose(home: Any, watch: Watch, mailbox: Any, hook: Any, load: Any) -> None:
    home.tenant("acme")
    load.hostname = "secret-host"
    load.do(NOW - timedelta(days=30), path="/secret/path", process="secret-program", user="secret-user")
    load.cut(NOW, final=True)
    home.stage("acme", load)
    watch.look(301)
    assert home.run("events").success
    watch.look()
    everything = b"".join(body for _, body in hook.posts) + b"".join(mail.as_bytes() for mail in mailbox.mails)
    assert everything.count(b"acme") > 2
    assert b"secret" not in everything


def test_every_kind_of_alert_has_its_place_in_the_runbook() -> None:
    assert set(KINDS) <= set(ANCHORS)


def _one_batch(load: Any, at: datetime) -> Any:
    load.do(at)
    load.cut(at, final=True)
    return load


def test_alerts_are_listed_with_when_they_began_and_ended(home: Any, watch: Watch) -> None:
    mark_open(home.db, "acme", [DAY])
    set_checked(home.db, "acme", DAY, False, {"broken": ["nulls"]}, 1)
    watch.look()
    assert len(list_alerts(home.db)) == 1
    done = CliRunner().invoke(alert_command.app, ["list"])
    assert done.output == (
        '2026-03-04T12:01:00Z  open  day_failed  acme  2026-03-03  {"broken": ["nulls"], "day": "2026-03-03"}\n'
    )
