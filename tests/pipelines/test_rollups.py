"""The rollups of a day, each against a model in plain Python."""

from __future__ import annotations

import errno
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.frames import frame_schema
from pipelines.rollups.activity import activity
from pipelines.rollups.actors import processes, top_paths, users
from pipelines.rollups.sensitive import PATTERNS, is_sensitive, new_behaviour, pattern_of, sensitive

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
VECTORS = Path(__file__).parents[1] / "vectors" / "sensitive.json"
Row = dict[str, Any]

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(0, 86_399).map(lambda second: START + timedelta(seconds=second)),
            "received_at": st.integers(0, 3).map(lambda second: START + timedelta(days=1, seconds=second)),
            "operation": st.sampled_from(["open", "write", "rename"]),
            "path": st.sampled_from(["/etc/shadow", "/root/.ssh/id_rsa", "/srv/a.pem", "/srv/a", "/srv/b", "id_rsa"]),
            "target_path": st.sampled_from([None, None, "/etc/shadow", "/srv/c", "/srv/tls.key"]),
            "process": st.sampled_from(["cat", "sshd"]),
            "exe": st.sampled_from([None, "/usr/bin/cat", "/tmp/cat"]),
            "user": st.sampled_from([None, "ann", "bob"]),
            "uid": st.sampled_from([0, 1000]),
            "login_uid": st.sampled_from([None, 1000]),
            "count": st.integers(1, 5),
            "result": st.sampled_from([None, 0, errno.EACCES, errno.EPERM, errno.ENOENT]),
            "agent_id": st.sampled_from(["agt_a", "agt_b"]),
            "hostname": st.sampled_from(["web", "web-2"]),
        }
    ),
    max_size=25,
)


def frame(rows: Iterable[Row], day: date = DAY) -> pl.LazyFrame:
    """Events of these columns, numbered in their order; the others are of no concern."""
    values = {pl.String: "x", pl.Date: day, pl.Datetime("us", "UTC"): START}
    whole = [
        {name: values.get(kind, 1) for name, kind in frame_schema("events").items()} | row | {"seq": number}
        for number, row in enumerate(rows)
    ]
    return pl.LazyFrame(whole, schema=frame_schema("events"))


def grouped(rows: list[Row], *key: str) -> dict[tuple[Any, ...], list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in key)].append(row)
    return groups


def done(rows: list[Row]) -> Row:
    denied = sum(row["count"] for row in rows if row["result"] in (errno.EACCES, errno.EPERM))
    return {"event_day": DAY, "events": sum(row["count"] for row in rows), "denied": denied}


def span(rows: list[Row]) -> Row:
    return {"first_time": min(row["time"] for row in rows), "last_time": max(row["time"] for row in rows)}


def newest(rows: list[Row], name: str) -> Any:
    known = [(row["received_at"], row[name]) for row in rows if row[name] is not None]
    return max(known)[1] if known else None


def distinct(rows: list[Row], name: str) -> int:
    return len({row[name] for row in rows})


def model_top_paths(rows: list[Row]) -> list[Row]:
    told = [
        done(group)
        | {"path": path, "rows": len(group), "hosts": distinct(group, "agent_id")}
        | {"processes": distinct(group, "process"), "users": distinct(group, "uid")}
        for (path,), group in grouped(rows, "path").items()
    ]
    told.sort(key=lambda row: (-row["events"], row["path"]))
    return [row | {"rank": rank} for rank, row in enumerate(told, start=1)]


def model_processes(rows: list[Row]) -> list[Row]:
    return [
        {"agent_id": agent, "process": process, "exe": exe, "hostname": newest(group, "hostname"), "rows": len(group)}
        | {"paths": distinct(group, "path"), "users": distinct(group, "uid")}
        | done(group)
        | span(group)
        for (agent, process, exe), group in grouped(rows, "agent_id", "process", "exe").items()
    ]


def model_users(rows: list[Row]) -> list[Row]:
    return [
        {"agent_id": agent, "uid": uid, "login_uid": login, "hostname": newest(group, "hostname")}
        | {"user": newest(group, "user"), "rows": len(group)}
        | {"paths": distinct(group, "path"), "processes": distinct(group, "process")}
        | done(group)
        | span(group)
        for (agent, uid, login), group in grouped(rows, "agent_id", "uid", "login_uid").items()
    ]


def model_pattern(path: str) -> str | None:
    for pattern in PATTERNS:
        if pattern.startswith("*"):
            fits = path.rsplit("/", 1)[-1].endswith(pattern[1:])
        else:
            fits = path == pattern if pattern.startswith("/") else path.endswith("/" + pattern)
        if fits:
            return pattern
    return None


def model_sensitive(rows: list[Row]) -> list[Row]:
    touches = [
        row | {"path": path, "number": number}
        for number, row in enumerate(rows)
        for path in sorted({row["path"], row["target_path"]} - {None})
        if model_pattern(path)
    ]
    return [
        {"agent_id": agent, "process": process, "exe": exe, "path": path, "pattern": model_pattern(path)}
        | {"hostname": newest(group, "hostname")}
        | {"user": min(group, key=lambda row: (row["time"], row["number"]))["user"]}
        | done(group)
        | span(group)
        for (agent, process, exe, path), group in grouped(touches, "agent_id", "process", "exe", "path").items()
    ]


def in_any_order(rows: Iterable[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_each_rollup_is_what_its_model_says(rows: list[Row]) -> None:
    pairs: list[tuple[Callable[[pl.LazyFrame], pl.DataFrame], Callable[[list[Row]], list[Row]]]] = [
        (top_paths, model_top_paths),
        (processes, model_processes),
        (users, model_users),
        (sensitive, model_sensitive),
    ]
    for rollup, model in pairs:
        rolled = rollup(frame(rows))
        assert in_any_order(rolled.rows(named=True)) == in_any_order(model(rows)), rollup.__name__
        assert rolled.equals(rollup(frame(rows).reverse())), "the order in which rows lie says nothing"


@settings(deadline=None, max_examples=30)
@given(ROWS)
def test_every_occurrence_is_in_every_rollup_that_has_all_of_them(rows: list[Row]) -> None:
    total = sum(row["count"] for row in rows)
    for rollup in (activity, top_paths, processes, users):
        rolled = rollup(frame(rows))
        assert (rolled["events"].sum(), rolled["rows"].sum()) == (total, len(rows)), rollup.__name__


def test_only_the_top_paths_are_named_and_ties_go_by_path() -> None:
    row = {"result": 0, "count": 2}
    rolled = top_paths(frame([row | {"path": path} for path in ("/b", "/a", "/c", "/c")]), top=2)
    assert rolled.select("rank", "path", "events").rows() == [(1, "/c", 4), (2, "/a", 2)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), ROWS), max_size=5), ROWS)
def test_new_is_what_the_same_program_did_not_touch_on_that_host_in_28_days(
    past: list[tuple[int, list[Row]]], rows: list[Row]
) -> None:
    def keys(touched: pl.DataFrame) -> set[tuple[Any, ...]]:
        return set(touched.select("agent_id", "process", "exe", "path").rows())

    days = {back: sensitive(frame(rows, DAY - timedelta(days=back))) for back, rows in past}
    today = sensitive(frame(rows))
    before = pl.concat([pl.DataFrame(schema=frame_schema("sensitive")), *days.values()])
    known = set().union(*(keys(touched) for back, touched in days.items() if 1 <= back <= 28))
    new = new_behaviour(today.lazy(), before.lazy(), DAY)
    assert keys(new) == keys(today) - known
    assert new.join(today, on=list(today.columns), how="anti", nulls_equal=True).is_empty()


@pytest.mark.parametrize(("back", "is_new"), [(1, False), (28, False), (29, True), (0, True)])
def test_twenty_eight_days_are_counted_to_the_day(back: int, is_new: bool) -> None:
    row = {"path": "/etc/shadow", "target_path": None, "process": "cat", "exe": None}
    before = sensitive(frame([row], DAY - timedelta(days=back)))
    assert new_behaviour(sensitive(frame([row])).lazy(), before.lazy(), DAY).is_empty() != is_new


def test_a_program_that_takes_anothers_name_is_new() -> None:
    row = {"path": "/etc/shadow", "target_path": None, "process": "sshd"}
    before = sensitive(frame([row | {"exe": "/usr/sbin/sshd"}], DAY - timedelta(days=1))).lazy()
    today = sensitive(frame([row | {"exe": "/usr/sbin/sshd"}, row | {"exe": "/tmp/sshd"}])).lazy()
    assert new_behaviour(today, before, DAY)["exe"].to_list() == ["/tmp/sshd"]


def test_the_patterns_and_what_they_fit_are_the_agents() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors["patterns"] == list(PATTERNS)
    paths = pl.DataFrame(vectors["paths"], schema={"path": pl.String, "pattern": pl.String})
    told = paths.select(
        "path", fits=is_sensitive(pl.col("path")), pattern=pattern_of(pl.col("path")), said=pl.col("pattern")
    )
    for path, fits, pattern, said in told.iter_rows():
        assert (pattern, fits) == (said, said is not None), path
        assert model_pattern(path) == said, path
    assert set(paths["pattern"]) >= set(PATTERNS), "every pattern is tried"
