"""The lying model in the real run: boto3 asks it within Dagster's assets, and every tenant is still told in time."""

from __future__ import annotations

import json
from datetime import date, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipelines.settings import ModelSettings
from tenancy.breakers import Breaker
from tenancy.wording import allow_model
from tests.aws import REGION
from tests.converse import Converse, failing, honest

from .conftest import DAY, MODEL, START
from .test_lying_model import LIES

TOLD = (
    "50 KB", "a foreign reference", "a refusal", "a wrong host by name", "all quiet", "an answer that is no JSON",
    "an invented number", "throttling",
)  # fmt: skip
"""Lies that go through the whole run each time; with `--full` all of them do."""
TEMPLATE, BEDROCK = "Written by kaimon's template", f"bedrock/{MODEL}"


@pytest.fixture
def asked(home: Any, converse: Converse, monkeypatch: pytest.MonkeyPatch) -> Converse:
    """The endpoint, which the assets' own settings lead to; an answer may take as long as this machine needs."""
    for name, value in {
        "KAIMON_SUMMARY_MODEL": MODEL,
        "KAIMON_SUMMARY_MODEL_TIMEOUT_S": "60",
        "KAIMON_AWS_REGION": REGION,
        "KAIMON_AWS_BEDROCK_ENDPOINT_URL": converse.url,
    }.items():
        monkeypatch.setenv(name, value)
    return converse


def live(home: Any, new_load: Any, tenants: list[str], day: date = DAY) -> None:
    """Make tenants of which something is not known on that day, and land it."""
    at = START + (day - DAY)
    for place, tenant in enumerate(tenants):
        if day == DAY:
            home.tenant(tenant)
            allow_model(home.db, tenant, allowed=True)
        load = new_load(agent_id=f"agt_{place:016x}")
        load.do(at, count=7, process="rsync")
        load.lose(events=2)
        load.cut(at, final=True)
        home.stage(tenant, load, node=f"n-{day}")
    assert home.run("events").success


def making(home: Any, tenant: str, day: date = DAY) -> dict[str, Any]:
    """How the newest summary of a day came about."""
    rows = home.table(tenant, "summaries").filter(period="day", period_start=day).sort("revision")
    said: dict[str, Any] = json.loads(rows["document"][-1])["making"]
    return said


def page(home: Any, tenant: str, day: date = DAY) -> str:
    """The page in the outbox, as HTML."""
    path: Path = home.path / "outbox" / tenant / "day" / f"{day}-r1.html"
    return unescape(path.read_text())


@pytest.mark.slow
def test_no_lie_is_delivered_and_no_tenant_waits_for_its_summary(
    home: Any, new_load: Any, asked: Converse, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setenv("KAIMON_SUMMARY_MODEL_FAILURES", "1000")
    lies = sorted(LIES) if pytestconfig.getoption("--full") else sorted(TOLD)
    tenants = [f"t-{place:02}" for place in range(len(lies))]
    live(home, new_load, [*tenants, "t-zz"])
    # The tenants are told one after the other, by name; each lie is told twice.
    asked.replies = [LIES[lie][0] for lie in lies for _ in range(2)] + [honest]
    assert home.run(day=DAY).success
    assert len(asked.requests) == 2 * len(lies) + 1
    for tenant, lie in zip(tenants, lies, strict=True):
        said = making(home, tenant)
        assert (lie, said["verdict"], said["attempts"]) == (lie, LIES[lie][1], 2)
        assert TEMPLATE in page(home, tenant)
        assert (home.path / "outbox" / tenant / "day" / f"{DAY}-r1.pdf").read_bytes().startswith(b"%PDF")
    assert making(home, "t-zz")["verdict"] == "accepted", "the settings let an honest one through"
    assert "a language model" in page(home, "t-zz")
    bodies = {page(home, tenant).replace(tenant, "t").split("<footer>")[0] for tenant in tenants}
    assert len(bodies) == 1, "what the model said has left no trace: all pages are the same"


def test_a_model_that_never_answers_holds_no_summary_up(
    home: Any, new_load: Any, asked: Converse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMON_SUMMARY_MODEL_TIMEOUT_S", "0.3")
    live(home, new_load, ["t-00"])
    asked.replies = [asked.silent]
    assert home.run(day=DAY).success
    assert (making(home, "t-00")["verdict"], making(home, "t-00")["attempts"]) == ("timed_out", 2)
    assert TEMPLATE in page(home, "t-00")


@pytest.mark.slow
def test_the_breaker_opens_in_one_run_and_closes_in_a_later_one_and_both_are_on_record(
    home: Any, new_load: Any, asked: Converse, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tenants = [f"t-{place:02}" for place in range(4)]
    live(home, new_load, tenants)
    asked.replies = [failing(503, "ServiceUnavailableException")]
    assert home.run(day=DAY).success
    verdicts = [making(home, tenant)["verdict"] for tenant in tenants]
    assert verdicts == ["unavailable"] * 3 + ["breaker_open"]
    assert len(asked.requests) == 6, "nobody asks while it is open"
    assert all(TEMPLATE in page(home, tenant) for tenant in tenants)
    settings = ModelSettings()
    breaker = Breaker(home.db, BEDROCK, settings.summary_model_failures, settings.summary_model_pause_s)
    assert breaker.state() == "open"
    assert capfd.readouterr().out.count("model_unusable") == 3

    # A pause that somebody shortens has ended at once.
    monkeypatch.setenv("KAIMON_SUMMARY_MODEL_PAUSE_S", "0.001")
    asked.replies = [honest]
    later = DAY + timedelta(days=1)
    live(home, new_load, tenants, later)
    assert home.run(day=later).success
    assert [making(home, tenant, later)["verdict"] for tenant in tenants] == ["accepted"] * 4
    assert all("a language model" in page(home, tenant, later) for tenant in tenants)
    assert breaker.state() == "closed"
    assert all(TEMPLATE in page(home, tenant) for tenant in tenants), "what was delivered stays"
