"""Each rule: what it finds, what it has nothing to do with, and what comes close and is no finding."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from sigma.exceptions import SigmaError

from lake.frames import frame_schema
from pipelines.findings.rules import FOLDER, SEVERITIES, by_name, read_rule, rules
from pipelines.findings.scan import scan
from pipelines.findings.sigma import UnsupportedRuleError
from pipelines.summaries.guard import check_words

DAY = date(2026, 3, 4)
START = datetime(2026, 3, 4, tzinfo=UTC)
Row = dict[str, Any]


def events(*rows: Row) -> pl.LazyFrame:
    """Events of these columns, numbered in their order; `result` 0, what may be missing missing."""
    schema = frame_schema("events")
    optional = {"access", "target_path", "mode", "mode_before", "user", "exe", "login_uid"}
    values = {pl.String: "x", pl.Date: DAY, pl.Datetime("us", "UTC"): START}
    whole = [
        {name: None if name in optional else values.get(kind, 1) for name, kind in schema.items()}
        | {"result": 0, "file_type": "regular"}
        | row
        | {"seq": number}
        for number, row in enumerate(rows)
    ]
    return pl.LazyFrame(whole, schema=schema)


def hours(*states: str) -> pl.LazyFrame:
    schema = frame_schema("completeness")
    rows = [
        {name: "a" if kind == pl.String else 0 for name, kind in schema.items()}
        | {"event_day": DAY, "hour": START + timedelta(hours=number), "state": state}
        for number, state in enumerate(states)
    ]
    return pl.LazyFrame(rows, schema=schema)


def read(path: str, exe: str | None = None, **more: Any) -> Row:
    return {"operation": "open", "access": "read", "path": path, "exe": exe} | more


def write(path: str, exe: str | None = "/usr/bin/vim", **more: Any) -> Row:
    return {"operation": "write", "path": path, "exe": exe} | more


def rename(path: str, target: str, exe: str | None = "/usr/bin/mv", **more: Any) -> Row:
    return {"operation": "rename", "path": path, "target_path": target, "exe": exe} | more


def many(number: int, made: Any, each: timedelta = timedelta(milliseconds=500)) -> list[Row]:
    return [made(place) | {"time": START + place * each} for place in range(number)]


def lock(place: int) -> Row:
    return rename(f"/srv/{place}.ods", f"/srv/{place}.ods.locked")


def gone(place: int) -> Row:
    return {"operation": "delete", "path": f"/srv/{place}.ods", "exe": "/usr/bin/rm"}


Rows = list[Row]
SECOND = timedelta(milliseconds=100)

CASES: dict[str, tuple[Rows, Rows, Rows]] = {
    "credential_files_read": (
        [read("/etc/shadow", "/usr/bin/cat")],
        [read("/etc/passwd", "/usr/bin/cat")],
        [read("/etc/shadow", "/usr/sbin/sshd"), read("/etc/SHADOW"), read("/etc/shadow", "/usr/bin/cat", result=13)],
    ),
    "private_keys_copied": (
        [read("/home/ann/.ssh/id_ed25519", "/usr/bin/base64")],
        [read("/home/ann/notes", "/usr/bin/base64")],
        [read("/home/ann/.ssh/id_ed25519", "/usr/bin/ssh"), read("/home/ann/.ssh/id_ed25519.pub", "/usr/bin/cat")],
    ),
    "authorized_keys_written": (
        [write("/root/.ssh/authorized_keys")],
        [write("/root/.ssh/known_hosts")],
        [
            write("/root/.ssh/authorized_keys.bak"),
            read("/root/.ssh/authorized_keys"),
            rename("/root/.ssh/authorized_keys", "/tmp/keys"),
        ],
    ),
    "sudoers_written": (
        [rename("/etc/sudoers.tmp", "/etc/sudoers", "/usr/sbin/visudo")],
        [write("/etc/sudo.conf")],
        [write("/etc/sudoers.d/web", "/usr/bin/dpkg"), write("/etc/sudoers.tmp"), write("/etc/Sudoers")],
    ),
    "cron_written": (
        [write("/etc/cron.d/backup", "/usr/bin/tee")],
        [write("/etc/hosts")],
        [
            write("/etc/cron.daily/apt", "/usr/bin/dpkg"),
            {"operation": "create", "path": "/var/spool/cron/crontabs/tmp.Xy1", "exe": "/usr/bin/crontab"},
            {"operation": "delete", "path": "/etc/cron.d/backup"},
        ],
    ),
    "systemd_unit_written": (
        [write("/etc/systemd/system/miner.service")],
        [write("/etc/systemd/logind.conf")],
        [
            write("/run/systemd/system/session.scope"),
            {
                "operation": "symlink",
                "path": "/etc/systemd/system/multi-user.target.wants/nginx.service",
                "target_path": "/lib/systemd/system/nginx.service",
                "exe": "/usr/bin/systemctl",
            },
        ],
    ),
    "setuid_gained": (
        [{"operation": "chmod", "path": "/tmp/sh", "mode": 0o104755, "mode_before": 0o100755}],
        [{"operation": "chmod", "path": "/tmp/sh", "mode": 0o100755, "mode_before": 0o100644}],
        [
            {"operation": "chmod", "path": "/bin/su", "mode": 0o104755, "mode_before": 0o104750},
            {"operation": "chmod", "path": "/bin/su", "mode": 0o104755, "exe": "/usr/bin/dpkg"},
            {"operation": "chmod", "path": "/tmp/sh", "mode": 0o102755, "mode_before": 0o100755},
        ],
    ),
    "logs_deleted": (
        [{"operation": "truncate", "path": "/var/log/auth.log", "exe": "/usr/bin/bash"}],
        [{"operation": "delete", "path": "/home/ann/auth.log", "exe": "/usr/bin/rm"}],
        [
            {"operation": "delete", "path": "/var/log/syslog.7.gz", "exe": "/usr/sbin/logrotate"},
            {"operation": "delete", "path": "/var/log/auth.log", "exe": "/usr/bin/rm", "result": 13},
        ],
    ),
    "ld_so_preload_written": (
        [rename("/tmp/x", "/etc/ld.so.preload")],
        [write("/etc/ld.so.conf")],
        [read("/etc/ld.so.preload"), rename("/etc/ld.so.preload", "/etc/ld.so.preload.off")],
    ),
    "agent_tampered": (
        [{"operation": "delete", "path": "/usr/bin/kaimon-agent", "exe": "/usr/bin/rm"}],
        [write("/usr/bin/kaimon")],
        [
            write("/usr/bin/kaimon-agent", "/usr/bin/dpkg"),
            write("/var/lib/kaimon-agent/credential", "/usr/bin/kaimon-agent"),
            read("/etc/kaimon/agent.yaml"),
        ],
    ),
    "mass_rename": (
        many(100, lock),
        many(100, lambda place: write(f"/srv/{place}.ods")),
        [
            *many(99, lock),
            *many(100, lambda place: rename(f"/srv/{place}", f"/srv/new-{place}")),
            *many(100, lambda place: rename(f"/tmp/{place}", f"/tmp/{place}.gz")),
        ],
    ),
    "mass_delete": (
        many(500, gone, SECOND),
        many(20, gone, SECOND),
        [*many(499, gone, SECOND), *many(600, lambda place: gone(place) | {"path": f"/node_modules/{place}"}, SECOND)],
    ),
}  # fmt: skip


def found(rows: pl.LazyFrame) -> set[str]:
    return set(scan(rows, hours(), rules())["rule"])


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_what_it_is_for(name: str) -> None:
    assert name in found(events(*CASES[name][0]))


@pytest.mark.parametrize("name", CASES)
def test_a_rule_leaves_alone_what_it_is_not_for(name: str) -> None:
    assert found(events(*CASES[name][1])) == set()


@pytest.mark.parametrize("name", CASES)
def test_a_rule_leaves_alone_what_comes_close(name: str) -> None:
    assert name not in found(events(*CASES[name][2]))


def test_a_host_that_fell_silent_is_found_and_one_that_said_goodbye_is_not() -> None:
    assert set(scan(events(), hours("complete", "unknown"), rules())["rule"]) == {"agent_silent"}
    assert scan(events(), hours("complete", "partial"), rules()).is_empty()
    assert scan(events(), hours("not_monitored"), rules()).is_empty()


def test_every_rule_has_its_three_tests() -> None:
    assert CASES.keys() | {"agent_silent"} == {path.stem for path in FOLDER.glob("*.yml")} == by_name().keys()


def test_every_rule_says_what_a_summary_needs_and_in_words_that_the_guard_lets_through() -> None:
    assert len({rule.rule_id for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule.severity in SEVERITIES
        assert rule.attack_id.startswith("T1")
        for text in (rule.title, rule.rationale, rule.advice):
            check_words(text)


BASE = """
title: T
id: 6f2e4c0a-3c3f-4f6e-9a55-0a4a7d3c9a01
status: test
level: high
taxonomy: kaimon
tags: [attack.t1486]
kaimon: {attack_version: "16.1", rationale: Because., advice: Look.}
logsource: {product: linux, category: file_event}
detection:
  selection:
    DETECTION
  condition: selection
"""


@pytest.mark.parametrize(
    "detection",
    ["pth: /etc/x", "path|re: '^/etc'", "path|cidr: 10.0.0.0/8", "path|fieldref: target_path", "path|base64: x"],
)
def test_what_is_not_compiled_is_refused_and_never_matched_wrongly(detection: str) -> None:
    if "base64" in detection:
        rule = read_rule("x", BASE.replace("DETECTION", detection))
        assert events(write("eA==")).filter(rule.matches).collect().height == 1, "pySigma turns it into a string"
        return
    with pytest.raises((UnsupportedRuleError, SigmaError)):
        read_rule("x", BASE.replace("DETECTION", detection))


def test_a_rule_without_technique_rationale_or_taxonomy_is_refused() -> None:
    whole = BASE.replace("DETECTION", "path: /etc/x")
    read_rule("x", whole)
    for missing in ("tags: [attack.t1486]\n", "taxonomy: kaimon\n", " rationale: Because.,", "level: high\n"):
        assert missing in whole
        with pytest.raises((UnsupportedRuleError, SigmaError)):
            read_rule("x", whole.replace(missing, ""))


@pytest.mark.parametrize(
    ("pattern", "fits", "misses"),
    [
        ("'/a/*'", ["/a/", "/a/b/c"], ["/a", "/A/b", "x/a/b"]),
        ("'*/b'", ["/b", "/a/b"], ["/b/c", "/a/B", "b"]),
        ("'*/b/*'", ["/b/", "/a/b/c"], ["/b", "/B/"]),
        ("'/a?c*.x'", ["/abc.x", "/a\\nc12.x"], ["/ac.x", "/abcx"]),
        ("'/a\\*b'", ["/a*b"], ["/axb"]),
        ("'/a.c'", ["/a.c"], ["/abc"]),
        ("['/a', '/b*']", ["/a", "/b", "/bc"], ["/ab", ""]),
    ],
)
def test_patterns_fit_with_case_and_whole(pattern: str, fits: list[str], misses: list[str]) -> None:
    rule = read_rule("x", BASE.replace("DETECTION", f"path: {pattern}"))
    told = [path.replace("\\n", "\n") for path in (*fits, *misses)]
    kept = events(*(write(path) for path in told)).filter(rule.matches).collect()["path"].to_list()
    assert kept == [path.replace("\\n", "\n") for path in fits]


def test_what_is_missing_fits_nothing_and_its_negation_everything() -> None:
    rule = read_rule(
        "x", BASE.replace("DETECTION", "user: ann").replace("condition: selection", "condition: not selection")
    )
    assert events(write("/a"), write("/b", user="ann")).filter(rule.matches).collect()["path"].to_list() == ["/a"]
