"""Fuzz the decoder of bodies, guided by what of `ingest` an input reaches: `body.py --seconds 600 [--keep FOLDER]`.

Prints one JSON object: `executions`; `inputs`, those that reached something new; `coverage`, edges of Python code;
`peak_rss_mb`; `seconds`; `crashes`, names of files under `--keep` that repeat one, and what was said; empty if all is
well.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from ingest.arrow import HEADER_KEY
from lake.schema import EVENT_LINE

HERE = Path(__file__).parent
AGENT = "agt_00112233445566ff"
MOST_RSS_MB = 512
"""Of a process that has all of ingest loaded, Python and its instruments too; each input takes at most some MiB."""
LONGEST = 8_192

UUID = "00000000-0000-4000-8000-00000000000{}"
NONE_LOST = dict.fromkeys(("ring", "scratch", "shed", "refused", "evicted"), 0)
COUNTERS = {"cpu": 0, "seen": 9, "filtered": 2, "next_seq": 7, "pending": 0}
HEADER = {
    "kind": "batch",
    "agent_id": AGENT,
    "hostname": "host-1",
    "boot_id": UUID.format(1),
    "load_id": UUID.format(2),
    "batch_seq": 1,
    "previous_digest": None,
    "agent_version": "0.1.0",
    "capture_mode": "fentry",
    "blind_spots": ["io_uring"],
    "host": {"os": "Debian", "kernel": "6.1", "arch": "x86_64", "cloud": None},
    "cpus": [COUNTERS | {"lost_rows": NONE_LOST, "lost_events": NONE_LOST}],
    "sent_at": 1_700_000_000_000_000,
    "final": False,
}
EVENT = {
    "time": 1_700_000_000_000_000,
    "monotonic_ns": 1_000,
    "operation": "write",
    "path": "/srv/data/1",
    "path_status": "resolved",
    "file_type": "regular",
    "count": 1,
    "uid": 1000,
    "euid": 1000,
    "gid": 1000,
    "pid": 42,
    "process": "python3",
    "cpu": 0,
    "seq": 1,
}
FULL = EVENT | {
    "operation": "rename",
    "access": "read_write",
    "target_path": r"/srv/\\data\x00\xff",
    "mode": 0o644,
    "mode_before": None,
    "flags": 2,
    "result": 13,
    "last_time": 1_700_000_000_000_001,
    "login_uid": -1,
    "user": "é",
    "ppid": 1,
    "exe": "/usr/bin/python3",
    "process_start": 1_699_999_999_000_000,
    "parent_process": "sh",
    "container_id": "c" * 12,
    "mount_ns": 4_026_531_840,
    "inode": -1,
    "dev": 2**63 - 1,
}


def lines(*objects: Any) -> bytes:
    text = [item if isinstance(item, str) else json.dumps(item, separators=(",", ":")) for item in objects]
    return "".join(f"{line}\n" for line in text).encode()


def stream(rows: list[dict[str, Any]], parts: int = 1, *, coded: bool = False, **header: Any) -> bytes:
    """Return rows as an Arrow stream, `coded` with their texts as dictionaries."""
    table = pa.Table.from_pylist(rows, schema=EVENT_LINE)
    if coded:
        texts = [column.dictionary_encode() if column.type == pa.string() else column for column in table.columns]
        table = pa.table(texts, table.column_names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.with_metadata({HEADER_KEY: json.dumps(HEADER | header)})) as out:
        for _ in range(parts):
            out.write_table(table)
    return sink.getvalue().to_pybytes()


def first_inputs() -> dict[str, bytes]:
    """Return good bodies and bad ones of every kind, each behind the byte that says what it is (see target.py)."""
    twice = json.dumps(EVENT).replace('"seq": 1', '"seq": 1, "seq": 2')
    texts = {
        "heartbeat": lines(HEADER),
        "events": lines(HEADER, EVENT, FULL, EVENT | {"seq": 2}),
        "rejected": lines(HEADER, EVENT, EVENT | {"count": 0}, EVENT | {"more": 1}, "{}", "", "x", twice),
        "escapes": lines(HEADER, *(EVENT | {"path": path} for path in (r"/a\\b\x0a", "/\u009f\u2028", "/\0"))),
        "numbers": lines(HEADER, EVENT | {"uid": 2**63}, EVENT | {"seq": 1.0}, EVENT | {"time": 10**18}),
        "deep": lines(HEADER, "[" * 500, '{"path":' * 50),
        "long": lines(HEADER, EVENT | {"path": "/" + "a" * 4_100}),
        "another": lines(HEADER | {"agent_id": "agt_0000000000000000"}),
        "cpus": lines(HEADER | {"cpus": HEADER["cpus"] * 2}, EVENT),  # type: ignore[operator]
    }
    found = {f"{name}-{form}": bytes([form]) + text for name, text in texts.items() for form in (2, 3, 247)}
    streams = {
        "rows": stream([EVENT, FULL]),
        "none": stream([]),
        "parts": stream([EVENT], 3),
        "odd": stream([EVENT, EVENT | {"path": "\0"}, EVENT | {"count": 0}]),
        "nulls": stream([EVENT | {"path": None}]),
        "coded": stream([EVENT, FULL, EVENT], coded=True),
        "coded-parts": stream([EVENT, FULL], 2, coded=True),
        "coded-odd": stream([EVENT, EVENT | {"path": "\0"}], coded=True),
    }
    found |= {f"arrow-{name}": b"\x04" + data for name, data in streams.items()}
    frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    found |= {f"frame-{name}": b"\x00" + frame(text) for name, text in texts.items()}
    found |= {f"arrow-frame-{name}": b"\x01" + frame(data) for name, data in streams.items()}
    return found | {"nothing": b"", "empty": b"\x00"}


def fuzz(seconds: int, keep: Path, seed: int = 1) -> dict[str, Any]:
    """Run the fuzzer for so long; return what the first lines of this file explain."""
    keep.mkdir(parents=True, exist_ok=True)
    crashes = keep / "crashes"
    crashes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "corpus"
        corpus.mkdir()
        for title, data in first_inputs().items():
            (corpus / title).write_bytes(data)
        words = Path(name) / "words"
        keys = [*HEADER, *FULL, *NONE_LOST, *COUNTERS, "null", "true", "batch", "\\\\x00"]
        words.write_text("".join(f'"{key}"\n' for key in keys))
        neighbour = Path(name) / "neighbour"
        neighbour.write_bytes(lines(HEADER, EVENT, "{}"))
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-rss_limit_mb={MOST_RSS_MB}",
            f"-seed={seed}",
            f"-dict={words}",
            f"-artifact_prefix={crashes}/",
            "-timeout=30",
            "-print_final_stats=1",
        ]
        began = time.monotonic()
        command = [sys.executable, str(HERE / "target.py"), str(neighbour), *options, str(corpus)]
        # To a process's peak the kernel counts what its parent held: a shell in between holds next to nothing.
        apart = ["sh", "-c", '"$@"; exit $?', "sh", *command]
        with (keep / "log").open("wb") as log:
            ended = subprocess.run(apart, stderr=log, stdout=log, check=False)
    said = (keep / "log").read_text(errors="replace")

    def last(pattern: str) -> int:
        found = re.findall(pattern, said)
        return int(found[-1]) if found else 0

    return {
        "executions": last(r"stat::number_of_executed_units:\s+(\d+)"),
        "inputs": last(r"stat::new_units_added:\s+(\d+)"),
        "coverage": last(r"cov: (\d+)"),
        "peak_rss_mb": last(r"stat::peak_rss_mb:\s+(\d+)"),
        "seconds": round(time.monotonic() - began),
        "crashes": sorted(path.name for path in crashes.iterdir()) + ([said[-2_000:]] if ended.returncode else []),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where crashes and the log go")
    given = parser.parse_args()
    found = fuzz(given.seconds, given.keep, given.seed)
    print(json.dumps(found))
    return 1 if found["crashes"] else 0


if __name__ == "__main__":
    sys.exit(main())
