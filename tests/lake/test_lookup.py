"""Who touched a path: the right rows, and of sealed days nothing else is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lake import sealed
from lake.commits import Writer
from lake.encoding import encode
from lake.files import put_file
from lake.frames import frame_schema, to_rows
from lake.lookup import KEY, Asked, above, counted, newest, touches
from lake.ordering import ORDER
from lake.sealed import SealedFiles
from lake.settings import LakeSettings

DAY = date(2026, 1, 1)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def events(paths: list[tuple[str, str | None]], day: date = DAY) -> pl.DataFrame:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    values = {pl.String: "x", pl.Date: day, pl.Datetime("us", "UTC"): MIDNIGHT}
    told = pl.DataFrame(
        {
            "path": [path for path, _ in paths],
            "target_path": pl.Series([target for _, target in paths], dtype=pl.String),
            "time": [start + timedelta(seconds=number) for number in range(len(paths))],
            "seq": list(range(len(paths))),
        }
    )
    return told.select(
        pl.col(name).cast(kind) if name in told.columns else pl.lit(values.get(kind, 1)).cast(kind).alias(name)
        for name, kind in frame_schema("events").items()
    )


def put(frame: pl.DataFrame, settings: LakeSettings, *, seal: bool) -> Path:
    day = frame["event_day"][0]
    if seal:
        target = SealedFiles("acme", "events", day, f"s{day:%d}", settings)
        target.add(to_rows(frame.sort(ORDER), "events"))
        [file] = target.close()
    else:
        told = frame.height, frame["time"].min(), frame["time"].max()
        file = put_file("acme", "events", day, encode([to_rows(frame, "events")], "events"), told, settings)  # type: ignore[arg-type]
    Writer("acme", 1, settings).append_files("events", [file])
    return settings.home / "lake" / "acme" / "events" / file.path


def test_both_ends_of_an_event_count_and_days_outside_do_not(settings: LakeSettings) -> None:
    days = [DAY + timedelta(days=number) for number in range(4)]
    for number, day in enumerate(days):
        pairs = [("/a", None), ("/b", "/a"), ("/a", "/a"), ("/ab", "/b"), ("/b", None)]
        put(events(pairs, day), settings, seal=number % 2 == 0)
    found = touches("acme", "/a", days[1], days[2], settings)
    assert found.select("event_day", "seq").rows() == [(day, seq) for day in days[1:3] for seq in (0, 1, 2)]
    assert found.schema == frame_schema("events")


def test_a_tenant_without_events_has_no_touches(settings: LakeSettings) -> None:
    assert touches("acme", "/a", DAY, DAY, settings).is_empty()


@hypothesis_settings(deadline=None, max_examples=40)
@given(st.text("'\"\\%_;-\n /aé😀", min_size=1, max_size=12))
def test_a_path_is_a_value_whatever_it_holds(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    settings = LakeSettings(home=tmp_path_factory.mktemp("home"))
    put(events([(path, None), (path + "x", None), ("/z", path)]), settings, seal=True)
    assert touches("acme", path, DAY, DAY, settings)["seq"].to_list() == [0, 2]
    assert touches("acme", "' OR ''='", DAY, DAY, settings).is_empty() or path == "' OR ''='"


def test_pages_that_cannot_hold_the_path_are_not_read(settings: LakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that cannot hold it are made unreadable, and in its own group a page of another column."""
    monkeypatch.setattr(sealed, "GROUP_ROWS", 1_000)
    monkeypatch.setattr(sealed, "PAGE_ROWS", 100)
    file = put(events([(f"/srv/{number:04d}", None) for number in range(3_000)]), settings, seal=True)
    stored = pq.ParquetFile(file)
    column, other = (stored.schema_arrow.names.index(name) for name in ("path", "seq"))
    data = bytearray(file.read_bytes())
    for group in (0, 2):
        chunk = stored.metadata.row_group(group).column(column)
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        data[first : first + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    middle = stored.metadata.row_group(1).column(other)
    end = (middle.dictionary_page_offset or middle.data_page_offset) + middle.total_compressed_size
    # In the last tenth of the chunk lies the last page, of the rows up to /srv/1999.
    broken = middle.total_compressed_size // 20
    data[end - broken : end] = b"\xff" * broken
    stored.close()
    file.write_bytes(data)
    assert touches("acme", "/srv/1500", DAY, DAY, settings)["path"].to_list() == ["/srv/1500"]
    for path in ("/srv/0500", "/srv/1990", "/srv/2500"):
        with pytest.raises(Exception, match=r"(?i)parquet|page|decompress|thrift|eof"):
            touches("acme", path, DAY, DAY, settings)


WORDS = ("/a", "/a/b", "/a/bc", "/a/c", "/a'", "/é", "/\U0010ffff", "/\ud7ff", "/b")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[LakeSettings, pl.DataFrame]:
    """Nine days, every other one sealed, of rows that share their times."""
    settings = LakeSettings(home=tmp_path_factory.mktemp("home"))
    days = []
    for number in range(9):
        pairs = [(WORDS[(number + row) % len(WORDS)], WORDS[row % 5] if row % 3 else None) for row in range(40)]
        times = pl.col("time").dt.truncate("7s") + pl.duration(hours=pl.col("seq") % 24)
        rows = events(pairs, DAY + timedelta(days=number)).with_columns(times, pid=pl.col("seq") % 3)
        put(rows, settings, seal=number % 2 == 0)
        days.append(rows)
    return settings, pl.concat(days)


def fits(asked: Asked) -> pl.Expr:
    """What is asked, said anew: in Polars, and without bounds."""
    said = pl.col("event_day").is_between(asked.first_day, asked.last_day)
    if asked.begins is not None:
        said &= pl.col("path").str.starts_with(asked.begins)
    if asked.file is not None:
        said &= (pl.col("path") == asked.file) | pl.col("target_path").eq_missing(asked.file)
    for name, value in asked.equal.items():
        said &= pl.col(name) == value
    return (
        said
        & (pl.col("time") >= (asked.since or MIDNIGHT))
        & (pl.col("time") < (asked.until or MIDNIGHT + timedelta(days=99)))
    )


questions = st.builds(
    Asked,
    st.integers(0, 4).map(lambda number: DAY + timedelta(days=number)),
    st.integers(3, 9).map(lambda number: DAY + timedelta(days=number)),
    begins=st.none() | st.sampled_from([*WORDS, "/", "/\U0010ffff\U0010ffff"]),
    file=st.none() | st.sampled_from(WORDS),
    equal=st.fixed_dictionaries({}, optional={"pid": st.integers(0, 2), "process": st.sampled_from(["x", "'"])}),
    since=st.none() | st.integers(0, 99).map(lambda hours: MIDNIGHT + timedelta(hours=hours)),
    until=st.none() | st.integers(99, 299).map(lambda hours: MIDNIGHT + timedelta(hours=hours)),
)


@hypothesis_settings(deadline=None, max_examples=20)
@given(asked=questions, most=st.integers(1, 60))
def test_pages_of_the_newest_rows_and_their_counts_are_those_of_all_that_fit(
    mixed: tuple[LakeSettings, pl.DataFrame], asked: Asked, most: int
) -> None:
    settings, rows = mixed
    wanted = rows.filter(fits(asked)).sort("time", *KEY, descending=[True, *[False] * len(KEY)])
    first = newest("acme", asked, ["path"], most, settings)
    assert first.rows() == wanted.head(most).select("path", "time", *KEY).rows()
    if first.height:
        after = (first["time"][-1], first.select(KEY).row(-1))
        rest = newest("acme", replace(asked, after=after), ["path"], 1_000, settings)
        assert rest.rows() == wanted[most:].select("path", "time", *KEY).rows()
    hours = wanted.group_by(pl.col("time").dt.truncate("1h")).agg(pl.col("count").sum())
    assert counted("acme", asked, timedelta(hours=1), settings) == dict(hours.iter_rows())


def test_of_what_begins_with_a_path_no_more_is_read_than_can(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "GROUP_ROWS", 1_000)
    file = put(events([(f"/srv/{number:04d}", None) for number in range(3_000)]), settings, seal=True)
    stored = pq.ParquetFile(file)
    data = bytearray(file.read_bytes())
    for column in range(stored.metadata.num_columns):
        chunk = stored.metadata.row_group(0).column(column)
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        data[first : first + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    stored.close()
    file.write_bytes(data)
    assert newest("acme", Asked(DAY, DAY, begins="/srv/15"), ["path"], 500, settings).height == 100
    assert sum(counted("acme", Asked(DAY, DAY, begins="/srv/15"), timedelta(days=1), settings).values()) == 100
    with pytest.raises(Exception, match=r"(?i)parquet|page|decompress|thrift|eof"):
        newest("acme", Asked(DAY, DAY, begins="/srv/05"), ["path"], 500, settings)


@given(prefix=st.text(min_size=1, max_size=4), rest=st.text(max_size=4))
def test_what_begins_with_a_text_lies_below_the_text_above_it(prefix: str, rest: str) -> None:
    end = above(prefix)
    assert end is None or prefix + rest < end
