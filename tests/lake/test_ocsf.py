from __future__ import annotations

from types import ModuleType

import pytest

from lake.describe import collected_markdown, schema_markdown
from lake.ocsf import ACTIVITY, FILE_TYPE, to_ocsf
from lake.schema import EVENTS, FILE_TYPES, OPERATIONS, TABLES
from lake.segments import encode_segment, read_segment


def test_an_event_reads_as_a_file_system_activity(staging: ModuleType) -> None:
    one = staging.Batch(1, ({"seq": 3, "operation": "chmod", "mode": 0o600, "login_uid": 1000},))
    row = read_segment(encode_segment("n1", 1, "acme", [one.part()])).events.row(0, named=True)
    document = to_ocsf(row)
    assert (document["class_uid"], document["type_uid"], document["activity_id"]) == (1001, 100107, 7)
    assert document["time"] == int(staging.NOON.timestamp() * 1000) - 1000
    assert document["file"] == {"path": "/data/1111/3", "type_id": 1}
    assert document["actor"]["process"]["auid"] == 1000
    assert document["device"]["hostname"] == "host-1"
    assert document["metadata"]["sequence"] == 3
    assert document["unmapped"]["mode"] == 0o600


@pytest.mark.parametrize(
    ("operation", "type_uid"),
    [("create", 100101), ("write", 100103), ("truncate", 100103), ("delete", 100104), ("rename", 100105),
     ("chmod", 100107), ("chown", 100107), ("open", 100114)],
)  # fmt: skip
def test_operations_have_the_numbers_of_the_design(operation: str, type_uid: int) -> None:
    assert 100100 + ACTIVITY[operation] == type_uid


def test_every_operation_and_file_type_has_a_number() -> None:
    assert set(ACTIVITY) == set(OPERATIONS)
    assert set(FILE_TYPE) == set(FILE_TYPES)


def test_no_two_columns_share_an_ocsf_path() -> None:
    paths = [column.ocsf for column in EVENTS if column.ocsf]
    assert len(paths) == len(set(paths))


def test_the_documents_name_every_table_and_column_with_its_meaning() -> None:
    text = schema_markdown()
    for table in TABLES.values():
        assert f"## {table.name}" in text
        for column in table.columns:
            assert f"| `{column.name}` | {column.kind}{'?' if column.nullable else ''} | {column.meaning}" in text
    collected = collected_markdown().splitlines()[2:]
    assert [line.split("`")[1] for line in collected] == [column.name for column in EVENTS]
