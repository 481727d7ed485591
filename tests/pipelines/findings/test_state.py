"""Findings from day to day: opened, seen again, quiet, closed, suppressed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from lake.frames import frame_schema
from pipelines.findings.rules import rules
from pipelines.findings.scan import MATCHES
from pipelines.findings.state import grouped, settle
from tenancy.findings import Closing, Suppression

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
ONE = timedelta(days=1)


def match(number: int = 0, path: str = "/etc/sudoers.d/x", **more: object) -> pl.DataFrame:
    """One match on the day of this number."""
    row = {"rule": "sudoers_written", "time": START + number * ONE, "agent_id": "agt_1", "hostname": "web-1", "uid": 0}
    row |= {"user": "ann", "process": "vim", "exe": "/usr/bin/vim", "path": path, "target_path": None, "count": 1}
    return pl.DataFrame([row | more], schema=MATCHES)


def live(
    matches: dict[int, pl.DataFrame],
    days: int,
    *,
    closings: tuple[Closing, ...] = (),
    suppressed: dict[int, list[Suppression]] | None = None,
) -> pl.DataFrame:
    """The table after so many days, each told twice."""
    table = pl.DataFrame(schema=frame_schema("findings"))
    for number in range(days):
        day = DAY + number * ONE
        found = matches.get(number, pl.DataFrame(schema=MATCHES))
        today = grouped(found, rules(), (suppressed or {}).get(number, []), day)
        settled = settle(today, table, closings, day)
        assert settled.equals(settle(today, pl.concat([table, settled]), closings, day)), "told again it is the same"
        table = pl.concat([table, settled])
    return table


def states(table: pl.DataFrame, days: int) -> list[list[str]]:
    return [sorted(table.filter(pl.col("event_day") == DAY + number * ONE)["state"]) for number in range(days)]


def suppression(**narrow: str) -> Suppression:
    fields = dict.fromkeys(("agent_id", "exe", "user", "path_prefix")) | narrow
    return Suppression(
        "sup_1", "acme", "sudoers_written", reason="x", expires_on=DAY, created_by="p", created_at=START, **fields
    )


def test_a_finding_is_opened_goes_quiet_comes_again_and_is_closed_by_itself() -> None:
    table = live({0: match(0), 2: match(2)}, 11)
    assert states(table, 11) == [["opened"], ["quiet"], ["ongoing"], *[["quiet"]] * 6, ["closed"], []]
    assert table["finding_id"].n_unique() == 1
    assert set(table["opened_day"]) == {DAY}
    assert table["events"].to_list() == [1, 0, 1, *[0] * 7]
    first = table.row(0, named=True)
    assert (first["hostname"], first["user"], first["process"]) == ("web-1", "ann", "vim")
    assert (first["path"], first["severity"], first["attack_id"]) == ("/etc/sudoers.d/x", "high", "T1548.003")


@pytest.mark.parametrize("hours", [1, 36])
def test_what_a_person_closed_stays_closed_until_it_comes_again(hours: int) -> None:
    name = live({0: match()}, 1)["finding_id"][0]
    closing = Closing("cls_1", "acme", name, "x", "prs_1", START + timedelta(hours=hours))
    table = live({0: match(0), 3: match(3)}, 5, closings=(closing,))
    assert states(table, 5) == [["opened"], ["closed"], [], ["opened"], ["quiet"]]
    assert table["opened_day"].to_list()[-1] == DAY + 3 * ONE


def test_a_finding_that_comes_after_a_closing_of_its_day_is_told_again() -> None:
    name = live({0: match()}, 1)["finding_id"][0]
    closing = Closing("cls_1", "acme", name, "x", "prs_1", START - timedelta(hours=1))
    assert states(live({0: match()}, 2, closings=(closing,)), 2) == [["opened"], ["quiet"]]


def test_a_suppressed_finding_is_kept_and_not_reported_while_that_holds() -> None:
    found = pl.concat([match(), match(exe="/usr/bin/nano")])
    table = live({0: found, 1: match(1)}, 3, suppressed={0: [suppression(exe="/usr/bin/vim")]})
    assert states(table, 3) == [["opened", "suppressed"], ["opened", "quiet"], ["quiet", "quiet"]]
    assert set(table.filter(pl.col("state") == "suppressed")["suppression_id"]) == {"sup_1"}


def test_a_suppression_of_a_folder_leaves_the_rest_of_a_group() -> None:
    found = pl.concat([match(), match(path="/etc/sudoers.d/evil", count=3)])
    row = live({0: found}, 1, suppressed={0: [suppression(path_prefix="/etc/sudoers.d/x")]}).row(0, named=True)
    assert (row["state"], row["path"], row["paths"], row["events"]) == ("opened", "/etc/sudoers.d/evil", 1, 3)


def test_a_suppression_is_only_for_what_all_its_fields_fit() -> None:
    only = suppression(agent_id="agt_1", user="bob")
    assert states(live({0: match()}, 1, suppressed={0: [only]}), 1) == [["opened"]]
    nameless = match(user=None)
    assert states(live({0: nameless}, 1, suppressed={0: [suppression(user="ann")]}), 1) == [["opened"]]


def test_findings_are_told_apart_by_host_user_and_program_and_not_by_file() -> None:
    found = [
        match(),
        match(path="/etc/sudoers"),
        match(agent_id="agt_2"),
        match(uid=7),
        match(exe=None),
        match(process="vi"),
    ]
    table = live({0: pl.concat(found)}, 1)
    assert table["events"].sort().to_list() == [1, 1, 1, 1, 2]


def test_a_finding_about_a_rename_names_where_it_led() -> None:
    row = live({0: match(path="/tmp/x", target_path="/etc/sudoers")}, 1).row(0, named=True)
    assert row["path"] == "/etc/sudoers"
