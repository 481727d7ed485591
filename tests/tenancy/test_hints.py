"""Hints of what is staged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenancy.database import Database
from tenancy.hints import Hint, all_hints, drop, mark_staged, staged_since

RACE = """
import os, random
from pathlib import Path
from tenancy.database import open_database
from tenancy.hints import mark_staged
from tenancy.settings import TenancySettings

def work(home):
    db = open_database(TenancySettings(home=Path(home)))
    for seq in random.sample(range(1, 41), 40):
        mark_staged(db, [("acme", "shared", seq), ("acme", f"own-{os.getpid()}", seq)])
"""


def test_a_hint_says_how_far_a_node_has_come(db: Database, clock: Any) -> None:
    mark_staged(db, [("acme", "n1", 3), ("acme", "n1", 2), ("zeta", "n1", 9)])
    mark_staged(db, [])
    assert all_hints(db) == [Hint("acme", "n1", 3, clock(), clock()), Hint("zeta", "n1", 9, clock(), clock())]


def test_a_late_hint_never_takes_a_node_back(db: Database) -> None:
    mark_staged(db, [("acme", "n1", 8)])
    mark_staged(db, [("acme", "n1", 7)])
    assert [hint.seq for hint in all_hints(db)] == [8]


def test_only_hints_since_a_moment_are_told(db: Database, clock: Any) -> None:
    mark_staged(db, [("acme", "n1", 1), ("acme", "n2", 1)])
    clock.move(10)
    moment = clock()
    mark_staged(db, [("acme", "n2", 2)])
    assert [(hint.node, hint.seq) for hint in staged_since(db, moment)] == [("n2", 2)]


def test_a_hint_is_dropped_only_if_nothing_newer_is_staged(db: Database) -> None:
    mark_staged(db, [("acme", "n1", 5), ("acme", "n2", 5)])
    drop(db, "acme", "n1", 4)
    assert len(all_hints(db)) == 2
    drop(db, "acme", "n1", 5)
    assert [hint.node for hint in all_hints(db)] == ["n2"]


def test_what_waits_has_waited_since_its_node_last_came_on(db: Database, clock: Any) -> None:
    mark_staged(db, [("acme", "n1", 1)])
    began = clock()
    clock.move(60)
    mark_staged(db, [("acme", "n1", 5)])
    assert [hint.since for hint in all_hints(db)] == [began]
    clock.move(60)
    drop(db, "acme", "n1", 4)
    assert [hint.since for hint in all_hints(db)] == [clock()]


def test_hints_of_racing_nodes_all_arrive(in_processes: Callable[..., list[str]], db: Database) -> None:
    in_processes(RACE, 3, db.settings.home)
    hints = all_hints(db)
    assert len(hints) == 4
    assert {hint.seq for hint in hints} == {40}
