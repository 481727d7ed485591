from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from click.testing import Result

from kaimon.cli.alarm import app
from tenancy.alarms import CLONE, raise_alarm
from tenancy.database import open_database


def test_alarms_are_listed_by_ids(run: Callable[..., Result]) -> None:
    with closing(open_database()) as db:
        raise_alarm(db, "acme", CLONE, "agt_1/a/b", "agt_1", {"loads": ["a", "b"]})
        raise_alarm(db, "beta", CLONE, "agt_2/a/b", "agt_2", {"loads": ["a", "b"]})
    listed = run(app, "list", "--tenant", "acme").stdout.splitlines()
    assert [line.split("  ")[1:] for line in listed] == [["acme", "clone", "agt_1", '{"loads": ["a", "b"]}']]
    assert len(run(app, "list").stdout.splitlines()) == 2
