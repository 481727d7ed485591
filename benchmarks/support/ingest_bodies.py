"""Batches as a busy host sends them: every field that the agent fills, real-looking paths, each body distinct."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import sysconfig
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import zstandard

from lake.schema import EVENT_LINE

LOST: Final = dict.fromkeys(("ring", "scratch", "shed", "refused", "evicted"), 0)
TEMPLATES: Final = 4
PROGRAMS: Final = (
    ("nginx", "/usr/sbin/nginx"),
    ("postgres", "/usr/lib/postgresql/15/bin/postgres"),
    ("python3", "/usr/bin/python3.11"),
)
NDJSON: Final = "application/x-ndjson"
ARROW: Final = "application/vnd.apache.arrow.stream"


@cache
def real_paths() -> list[str]:
    """Return paths as they are on real hosts: those of Python's own library, below another folder, in mixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    found = [f"/srv/app/{path.relative_to(library)}" for path in sorted(library.rglob("*.py"))]
    random.Random(1).shuffle(found)
    return found


def events(count: int, seed: int) -> list[dict[str, Any]]:
    """Return `count` events of a host that builds, serves and logs; keys in the agent's order."""
    rng = random.Random(seed)
    now, monotonic = time.time_ns() // 1000, 3_558_139_342_044
    made = []
    names = real_paths()
    for seq in range(count):
        monotonic += rng.randrange(2_000, 900_000)
        operation = rng.choices(
            ("open", "create", "write", "rename", "delete", "chmod"), (50, 12, 25, 6, 6, 1)
        )[0]  # fmt: skip
        # Some files are touched again and again, and a few bear names that nobody saw before.
        number = min(int(rng.paretovariate(0.2)), len(names)) - 1
        path = f"/tmp/build-{rng.getrandbits(64):016x}/out.o" if rng.random() < 0.1 else names[number]
        process, exe = rng.choice(PROGRAMS)
        pid = rng.randrange(300, 900)
        event = {
            "time": now + monotonic // 1000, "monotonic_ns": monotonic, "operation": operation,
            "path": path, "path_status": "resolved", "file_type": "regular", "mode": 0o100644, "result": 0, "count": 1,
            "uid": 1000, "euid": 1000, "gid": 1000, "user": "app", "pid": pid, "ppid": 1,
            "process": process, "exe": exe, "process_start": now - pid * 1_000_003, "parent_process": "systemd",
            "mount_ns": 4026531841, "inode": 1_000_000 + number * 37, "dev": 65025,
            "cpu": seq % 2, "seq": seq // 2,
        }  # fmt: skip
        if operation == "open":
            event |= {"access": "read_write", "flags": 0o2}
        if operation == "rename":
            event["target_path"] = path + ".new"
        made.append(event)
    return made


class Host:
    """One enrolled host that makes requests: bytes to be sent as they are."""

    def __init__(self, agent_id: str, credential: str) -> None:
        self._agent_id = agent_id
        self._credential = credential
        self._boot, self._load = str(uuid.uuid4()), str(uuid.uuid4())
        self._seq = 0

    def header(self) -> dict[str, Any]:
        """Return the next batch's header."""
        self._seq += 1
        counters = {"seen": 10**6 + self._seq, "filtered": 10**5, "next_seq": 9 * 10**5, "pending": 3}
        return {
            "kind": "batch", "agent_id": self._agent_id, "hostname": "bench", "boot_id": self._boot,
            "load_id": self._load, "batch_seq": self._seq, "previous_digest": None, "agent_version": "0.1.0",
            "capture_mode": "sys_exit", "blind_spots": ["io_uring_results", "kernel_writes"],
            "host": {"os": "Debian GNU/Linux 12", "kernel": "6.1.0", "arch": "x86_64", "cloud": None},
            "cpus": [{"cpu": cpu, **counters, "lost_rows": LOST, "lost_events": LOST} for cpu in (0, 1)],
            "sent_at": time.time_ns() // 1000, "final": False,
        }  # fmt: skip

    def requests(self, kind: str, number: int, size: int) -> list[bytes]:
        """Return `number` whole HTTP requests, each a batch of `size` events under its own number."""
        templates = [events(size, seed) for seed in range(TEMPLATES)]
        pack = [_arrow(rows) if kind == ARROW else _ndjson(rows) for rows in templates]
        squeeze = zstandard.ZstdCompressor(level=1)
        return [self._request(kind, squeeze.compress(pack[each % TEMPLATES](self.header()))) for each in range(number)]

    def _request(self, kind: str, body: bytes) -> bytes:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        head = (
            f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._credential}\r\n"
            f"Content-Type: {kind}\r\nContent-Encoding: zstd\r\nContent-Digest: sha-256=:{digest}:\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _ndjson(rows: list[dict[str, Any]]) -> Any:
    lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    return lambda header: json.dumps(header, separators=(",", ":")).encode() + b"\n" + lines


def _arrow(rows: list[dict[str, Any]]) -> Any:
    """Pack as a sender does who cares what it costs: columns of nulls are left out, and texts are dictionaries."""
    whole = pa.Table.from_pylist(rows, schema=EVENT_LINE)
    there = {name: whole[name].combine_chunks() for name in whole.column_names if whole[name].null_count < len(rows)}
    columns = [_dictionary(column) if pa.types.is_string(column.type) else column for column in there.values()]
    table = pa.table(columns, list(there))

    def pack(header: dict[str, Any]) -> bytes:
        marked = table.replace_schema_metadata({"kaimon.batch": json.dumps(header, separators=(",", ":"))})
        target = io.BytesIO()
        with pa.ipc.new_stream(target, marked.schema) as writer:
            writer.write_table(marked)
        return target.getvalue()

    return pack


def _dictionary(texts: Any) -> Any:
    """Return texts as a dictionary whose indices are as narrow as can be."""
    found = texts.dictionary_encode()
    size = len(found.dictionary)
    index = pa.int8() if size <= 2**7 else pa.int16() if size <= 2**15 else pa.int32()
    return pa.DictionaryArray.from_arrays(found.indices.cast(index), found.dictionary)
