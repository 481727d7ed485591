"""Our events in OCSF's words: File System Activity (class_uid 1001), one event as one document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kaimon.base.clock import to_micros
from lake.schema import EVENTS

CLASS_UID: Final = 1001
CATEGORY_UID: Final = 1

ACTIVITY: Final = {
    "create": 1, "write": 3, "truncate": 3, "mmap_write": 3, "delete": 4, "rename": 5, "chmod": 7, "chown": 7,
    "link": 99, "symlink": 99, "open": 14,
}  # fmt: skip
"""`activity_id` of each operation; 99 is OCSF's "Other", and then `activity_name` says which."""

FILE_TYPE: Final = {"regular": 1, "directory": 2, "device": 3, "socket": 5, "fifo": 6, "symlink": 7, "unknown": 0}


def to_ocsf(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of `events`, by column name, as an OCSF document; nulls are left out.

    Times become milliseconds, as OCSF has them; columns without an OCSF path go to `unmapped`.
    """
    activity = ACTIVITY[event["operation"]]
    document: dict[str, Any] = {
        "class_uid": CLASS_UID,
        "category_uid": CATEGORY_UID,
        "type_uid": CLASS_UID * 100 + activity,
        "activity_id": activity,
        "activity_name": event["operation"],
        "severity_id": 1,
        "metadata": {"product": {"name": "kaimon", "vendor_name": "kaimon"}},
    }
    for column in EVENTS:
        value = event.get(column.name)
        if value is None or column.name == "operation":
            continue
        if column.name == "file_type":
            value = FILE_TYPE[value]
        elif isinstance(value, datetime):
            value = to_micros(value) // 1000
        elif column.kind == "date":
            value = value.isoformat()
        _put(document, column.ocsf or f"unmapped.{column.name}", value)
    return document


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    *folders, name = path.split(".")
    for folder in folders:
        document = document.setdefault(folder, {})
    document[name] = value
