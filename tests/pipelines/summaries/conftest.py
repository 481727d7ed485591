"""A day's facts, and a model that a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from kaimon.base.settings import AwsSettings
from pipelines.clones import find_clones
from pipelines.rollups.activity import activity
from pipelines.rollups.completeness import arrivals, completeness
from pipelines.settings import ModelSettings
from pipelines.summaries.document import Facts
from pipelines.summaries.draft import Writer
from pipelines.summaries.facts import build_facts
from pipelines.summaries.gathered import Day, busiest
from pipelines.summaries.wording import writer_for
from tenancy.database import Database
from tenancy.wording import allow_model
from tests.aws import REGION, ROLE
from tests.converse import Converse, running

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def facts_of(*loads: Any, previous: Facts | None = None, tenant: str = "acme", **more: Any) -> Facts:
    events = pl.concat([load.events for load in loads])
    batches = pl.concat([load.batches for load in loads])
    quarantine = pl.concat([load.quarantine for load in loads])
    return build_facts(
        Day(
            tenant=tenant,
            day=DAY,
            activity=activity(events.lazy()),
            completeness=completeness(batches, arrivals(events.lazy(), quarantine), DAY, START + timedelta(days=2)),
            paths=events["path"].n_unique(),
            processes=busiest(events.lazy(), "process"),
            users=busiest(events.lazy(), "user"),
            quarantined=quarantine.height,
            cloned=len({clone.agent_id for clone in find_clones(batches)}),
            blind_spots=["io_uring_writes"],
            accounting="in words",
            **more,
        ),
        previous,
    )


@pytest.fixture
def made(load: Any) -> Facts:
    """A day of which something is not known."""
    load.do(START, count=7, process="rsync")
    load.lose(events=2)
    load.cut(START, final=True)
    return facts_of(load)


@pytest.fixture
def converse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Converse]:
    for name, value in ROLE.items():
        monkeypatch.setenv(name, value)
    with running() as endpoint:
        yield endpoint


@pytest.fixture
def model_writer(home: Any, converse: Converse) -> Callable[..., Writer]:
    """Make the writer of a tenant that lets the model word its summaries."""
    home.tenant("acme")
    allow_model(home.db, "acme", allowed=True)

    def make(db: Database | None = None, **settings: Any) -> Writer:
        asked: dict[str, Any] = {"summary_model": MODEL, "summary_model_timeout_s": 20.0, **settings}
        aws = AwsSettings(aws_region=REGION, aws_bedrock_endpoint_url=converse.url)
        return writer_for(db or home.db, "acme", ModelSettings(**asked), aws)

    return make
