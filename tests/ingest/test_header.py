from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest

from ingest.header import read_header
from kaimon.base.problems import Problem
from lake.columns import CAUSES

GONE = object()


def header(wire: ModuleType) -> dict[str, Any]:
    made: dict[str, Any] = wire.Host("acme", "agt_0123456789abcdef", "").header()
    return made


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    """Return the header's line with one place changed, or taken out when `value` is GONE."""
    copy = json.loads(json.dumps(document))
    place, keys = copy, path.split(".")
    for key in keys[:-1]:
        place = place[int(key) if key.isdigit() else key]
    if value is GONE:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return json.dumps(copy).encode()


def test_a_good_header_is_read_as_it_is(wire: ModuleType) -> None:
    made = header(wire)
    read = read_header(json.dumps(made).encode())
    assert read.batch_seq == made["batch_seq"]
    assert read.cpus[0].lost_rows.ring == 0
    assert read.host.cloud is None


def test_the_causes_of_loss_are_those_of_the_tables(wire: ModuleType) -> None:
    assert set(header(wire)["cpus"][0]["lost_rows"]) == set(CAUSES)
    for cause in CAUSES:
        read_header(changed(header(wire), f"cpus.0.lost_events.{cause}", 7))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "event"),
        ("agent_id", "agt_XYZ"),
        ("agent_id", GONE),
        ("hostname", ""),
        ("hostname", "a\nb"),
        ("hostname", "a\\qb"),
        ("boot_id", "not-a-uuid"),
        ("load_id", 5),
        ("batch_seq", 0),
        ("batch_seq", "1"),
        ("batch_seq", 1.0),
        ("batch_seq", 2**63),
        ("batch_seq", True),
        ("previous_digest", "abc"),
        ("agent_version", "1\x00"),
        ("capture_mode", "Sys Exit"),
        ("blind_spots", None),
        ("blind_spots", ["Not Snake"]),
        ("host", "linux"),
        ("host.kernel", "a\u0085b"),
        ("host.more", "x"),
        ("cpus", {}),
        ("cpus", []),
        ("cpus.0.seen", -1),
        ("cpus.0.seen", 2**63),
        ("cpus.0.next_seq", GONE),
        ("cpus.0.pending", None),
        ("cpus.0.lost_rows.ring", GONE),
        ("cpus.0.lost_events.evicted", GONE),
        ("cpus.0.lost_events.other", 1),
        ("sent_at", 10**18),
        ("sent_at", "2026-01-01T00:00:00Z"),
        ("final", GONE),
        ("final", 0),
        ("surprise", 1),
    ],
)
def test_a_header_with_one_thing_wrong_is_refused(wire: ModuleType, path: str, value: Any) -> None:
    with pytest.raises(Problem) as refused:
        read_header(changed(header(wire), path, value))
    assert (refused.value.status, refused.value.code) == (400, "bad_header")
    assert refused.value.detail


def test_a_key_that_is_there_twice_is_refused_where_another_is_left_out(wire: ModuleType) -> None:
    made = header(wire)
    line = json.dumps(made, separators=(",", ":"))
    assert '"previous_digest":null' in line
    assert read_header(line.encode()).previous_digest is None
    twice = line.replace('"previous_digest":null', f'"boot_id":"{made["boot_id"]}"')
    with pytest.raises(Problem) as refused:
        read_header(twice.encode())
    assert "there twice" in str(refused.value.detail)


def test_a_cpu_or_a_key_that_is_there_twice_is_refused(wire: ModuleType) -> None:
    made = header(wire)
    made["cpus"] *= 2
    line = json.dumps(header(wire)).encode()
    for bad in (json.dumps(made).encode(), line[:-1] + b',"final":true}'):
        with pytest.raises(Problem) as refused:
            read_header(bad)
        assert "twice" in (refused.value.detail or "")


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b'{"kind":' + b"[" * 500_000, b'{"x":' + b'{"a":' * 100_000, b"\xff", b"{"]
)
def test_what_is_no_header_is_refused_however_deep(line: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_header(line)
    assert refused.value.code == "bad_header"
