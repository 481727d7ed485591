"""Fuzz the compiled reader under sanitizers, and hold it against the judge: `plain.py --seconds 600 [--seed N]`.

Compiles it with AddressSanitizer and UndefinedBehaviorSanitizer and runs this file with them once more. Each body lies
in memory of just its size, so that a look beyond its end is seen. Prints one JSON object: `seed`; `bodies` that were
read; `lines` of them, and how many of these were `plain`; `columns`, rows that came as such; `vouched` for of these;
`streams` of Arrow, `seen_through` of these, and `read` without Arrow; `seconds`. The first thing wrong ends it with
what was said on standard error, and exit 1.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.arrow import HEADER_KEY, look_through, read_stream
from ingest.events import LINE_COLUMNS
from ingest.lines import judge, read_rows
from ingest.plain import Lines, Reader
from lake.schema import EVENT_LINE

ROOT = Path(__file__).parents[2]
LONGEST = 4_000
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-U_FORTIFY_SOURCE")
EVENT: dict[str, Any] = {
    "time": 1_700_000_000_000_000, "monotonic_ns": 1, "count": 1, "cpu": 0, "seq": 3, "operation": "open",
    "access": "read", "path": "/srv/naïve/\U0001f600", "target_path": "/t", "path_status": "resolved",
    "file_type": "regular", "mode": 33188, "mode_before": 0, "flags": -1, "result": 0, "uid": 0, "euid": 0, "gid": 0,
    "login_uid": 7, "user": "ada", "pid": 7, "ppid": 1, "process": "cat", "exe": "/bin/cat", "process_start": -5,
    "parent_process": "", "container_id": "c", "mount_ns": 4026531841, "inode": 1 - 2**63, "dev": 2**63 - 1,
    "last_time": 1_700_000_000_000_009,
}  # fmt: skip
PIECES = (
    b'"', b"\\", b":", b",", b"{", b"}", b"\n", b"-", b"0", b"9" * 19, b"9" * 20, b"\xc2\x85", b"\xc3", b"\xe2\x82",
    b"\xf4", b"\xed\xa0\x80", b"\x00", b"\x7f", b" ", b"null", b'"time":', b'"path":"', b'"open"', b"x" * 4_000,
    b"}\n{",
    b'":"',
)  # fmt: skip


def line(rng: random.Random) -> bytes:
    """Return a line that is good, or nearly so."""
    keys = [name for name, column in _COLUMNS.items() if not column.nullable or rng.random() < 0.7]
    if rng.random() < 0.3:
        rng.shuffle(keys)
    made = bytearray(json.dumps({key: EVENT[key] for key in keys}, separators=(",", ":"), ensure_ascii=False).encode())
    for _ in range(rng.choice((0, 0, 1, 1, 3))):
        place, gone = rng.randrange(len(made)), rng.choice((0, 1, 2, 40))
        piece = rng.choice((rng.choice(PIECES), rng.randbytes(rng.randrange(4)), bytes(made[:60])))
        made[place : place + gone] = piece
    # Whatever is open at the end of a body is what could be looked for beyond it.
    return bytes(made[: rng.randrange(len(made))] if made and rng.random() < 0.2 else made)


_COLUMNS = {column.name: column for column in LINE_COLUMNS}


class Exact:
    """The compiled reader, given memory that ends where the body does."""

    def __init__(self, library: Path) -> None:
        self.reader = Reader(library)
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.malloc.argtypes = (ctypes.c_size_t,)
        self._libc.free.argtypes = (ctypes.c_void_p,)
        self._counting = self.reader._count_lines
        self._counting.argtypes = (ctypes.c_void_p, ctypes.c_int64)
        self.reader._count_lines = self._count
        self._looking = self.reader._look_through
        self._looking.argtypes = (ctypes.c_void_p, *self._looking.argtypes[1:])
        self.reader._look_through = self._look
        self._reading = self.reader._read_body
        self._reading.argtypes = (self._reading.argtypes[0], ctypes.c_void_p, *self._reading.argtypes[2:])
        self.reader._read_body = self._read
        self._code = self.reader._read_lines
        self.reader._read_lines = self._call

    def _count(self, data: bytes, size: int) -> int:
        at = self._libc.malloc(size)
        ctypes.memmove(at, data, size)
        try:
            return int(self._counting(at, size))
        finally:
            self._libc.free(at)

    def _look(self, data: bytes, size: int, *told: Any) -> int:
        at = self._libc.malloc(size)
        ctypes.memmove(at, data, size)
        try:
            return int(self._looking(at, size, *told))
        finally:
            self._libc.free(at)

    def _read(self, rules: Any, data: bytes, size: int, *rest: Any) -> int:
        at = self._libc.malloc(size)
        ctypes.memmove(at, data, size)
        try:
            return int(self._reading(rules, at, size, *rest))
        finally:
            self._libc.free(at)

    def _call(self, rules: Any, parts: Any, *rest: Any) -> int:
        # The first thing in a part is where its data is.
        places = [ctypes.c_void_p.from_buffer(part) for part in parts]
        given = [place.value for place in places]
        for place, part in zip(places, parts, strict=True):
            at = self._libc.malloc(part.size)
            ctypes.memmove(at, place.value, part.size)
            place.value = at
        try:
            return int(self._code(rules, parts, *rest))
        finally:
            for place, before in zip(places, given, strict=True):
                self._libc.free(place.value)
                place.value = before


def try_lines(exact: Exact, rng: random.Random) -> tuple[int, int]:
    """Read a body; return how many lines it had, and how many were plain."""
    bodies = [b"".join(line(rng) + b"\n" for _ in range(rng.choice((1, 2, 9)))) for _ in range(rng.choice((1, 1, 3)))]
    counts = [body.count(b"\n") for body in bodies]
    if [exact.reader.count_lines(body) for body in bodies] != counts:
        raise AssertionError((bodies, "newlines"))
    parts = [Lines(body, 0, count) for body, count in zip(bodies, counts, strict=True)]
    rows, plain, sums = exact.reader.read_lines(parts, LONGEST, 2)
    rows.validate(full=True)
    found, start = pa.Table.from_batches([rows]), 0
    for body, good, told in zip(bodies, plain, sums, strict=True):
        lines = body.split(b"\n")[:-1]
        judged = judge([one for one, is_good in zip(lines, good, strict=True) if is_good], LONGEST)
        mine = found.slice(start, told.rows)
        start += told.rows
        if judged.faults or judged.sums != told:
            raise AssertionError((body, good, judged.faults))
        if not mine.drop_columns("line").equals(judged.rows.drop_columns("line")):
            raise AssertionError((body, good, mine.to_pylist()))
        if mine["line"].to_pylist() != [index + 2 for index, is_good in enumerate(good) if is_good]:
            raise AssertionError((body, good, "numbers"))
    return sum(counts), start


def try_columns(exact: Exact, rng: random.Random) -> tuple[int, int]:
    """Look through columns; return how many rows they had, and how many were vouched for."""
    events = [EVENT | {name: _odd(name, rng) for name in rng.sample(sorted(EVENT), rng.choice((0, 0, 1)))}
              for _ in range(rng.choice((0, 1, 3, 17)))]  # fmt: skip
    given = pa.RecordBatch.from_pylist(events, schema=pa.schema([field.with_nullable(True) for field in EVENT_LINE]))
    if coded := rng.random() < 0.5:
        kind = pa.dictionary(rng.choice((pa.int8(), pa.int16(), pa.int32())), pa.string())
        texts = [column.cast(kind) if column.type == pa.string() else column for column in given.columns]
        given = pa.RecordBatch.from_arrays(texts, given.schema.names)
    names = [field.name for field in EVENT_LINE if not field.nullable or rng.random() < 0.9]
    given = given.select(rng.sample(names, len(names)))
    given = given.slice(rng.choice((0, 0, 1, 5)))
    found = exact.reader.vouch(given, LONGEST, 2)
    lines = [
        json.dumps({key: value for key, value in row.items() if value is not None}).encode()
        for row in given.to_pylist()
    ]
    judged = judge(lines, 2**20)
    if found is None:
        return given.num_rows, 0
    rows = pa.Table.from_batches([found[0]])
    if coded:
        rows = rows.cast(judged.rows.schema)
    if judged.faults or judged.sums != found[1] or not rows.equals(judged.rows):
        raise AssertionError((events, judged.faults))
    return given.num_rows, given.num_rows


def try_streams(exact: Exact, rng: random.Random) -> tuple[int, int, int]:
    """Look through a stream; return 1, and 1 if it was plain, and 1 if all in it was: the slow way finds the same."""
    events = [EVENT | {name: _odd(name, rng) for name in rng.sample(sorted(EVENT), rng.choice((0, 0, 1)))}
              for _ in range(rng.choice((0, 1, 2, 17)))]  # fmt: skip
    rows = pa.RecordBatch.from_pylist(events, schema=pa.schema([field.with_nullable(True) for field in EVENT_LINE]))
    rows = rows.select([field.name for field in EVENT_LINE if not field.nullable or rng.random() < 0.9])
    if rng.random() < 0.7:
        kind = pa.dictionary(rng.choice((pa.int8(), pa.int16(), pa.int32())), pa.string())
        texts = [column.cast(kind) if column.type == pa.string() else column for column in rows.columns]
        rows = pa.RecordBatch.from_arrays(texts, rows.schema.names)
    rows = rows.replace_schema_metadata({HEADER_KEY: b"{}" * rng.randrange(9)})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=rng.choice((None, None, None, None, None, "zstd")))
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
            writer.write_batch(rows)
    made = bytearray(sink.getvalue().to_pybytes())
    for _ in range(rng.choice((0, 1, 1, 2, 9))):
        place = rng.randrange(len(made))
        odd = rng.choice((rng.randbytes(1), rng.randbytes(1), bytes([rng.randrange(9)]), b"", bytes(made[-8:])))
        # As a rule nothing moves: what does is refused at once.
        made[place : place + (rng.choice((0, 1, 8)) if rng.random() < 0.2 else len(odd))] = odd
    stream = bytes(made[: rng.randrange(len(made))] if rng.random() < 0.1 else made)
    found = exact.reader.look_through(stream)
    if found is not None:
        # Flatbuffers that are not sound Arrow refuses by itself, before it looks into any.
        with suppress(pa.ArrowException, OSError, StopIteration):
            if look_through(pa.py_buffer(stream)) != found:
                raise AssertionError((stream, found))
    read = exact.reader.read_body(stream, 16, LONGEST, 2, 2_000)
    if read is not None:
        header, parts = read_stream(stream, 16)
        slowly = read_rows(parts, LONGEST, 2_000)
        if slowly is None or header != read[0] or slowly.sums != read[2] or slowly.rows != pa.table(read[1]):
            raise AssertionError((stream, read))
        read[1].validate(full=True)
    return 1, int(found is not None), int(read is not None)


def _odd(name: str, rng: random.Random) -> Any:
    column = _COLUMNS[name]
    if column.kind == "string":
        return rng.choice(
            (
                None,
                "",
                "x" * 900,
                "\x85",
                "\\",
                "é",
                "x" * 9 + "\x7f" + "x" * 9,
                "é" * 9,
                "a\nb",
                '"',
                *(column.domain or ("/p",)),
            )
        )
    bits = 31 if column.kind == "int32" else 63
    return rng.choice((None, 0, -1, 2**bits - 1, -(2**bits), 2**40 if bits > 40 else 7))


_TRIED = (
    (("lines", "plain"), try_lines),
    (("columns", "vouched"), try_columns),
    (("streams", "seen_through", "read"), try_streams),
)


def watched(library: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz in this process, which has the sanitizers."""
    rng, exact, began = random.Random(seed), Exact(library), time.monotonic()
    told = {
        "seed": seed,
        "bodies": 0,
        "lines": 0,
        "plain": 0,
        "columns": 0,
        "vouched": 0,
        "streams": 0,
        "seen_through": 0,
        "read": 0,
    }
    while time.monotonic() < began + seconds or told["bodies"] < 50:
        told["bodies"] += 1
        for keys, tried in _TRIED:
            for key, number in zip(keys, tried(exact, rng), strict=True):
                told[key] += number
    return told | {"seconds": round(time.monotonic() - began, 1)}


def fuzz(seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """Fuzz in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "plain.so"
        subprocess.run([ROOT / "script" / "build-native", "plain", "--out", library, "--", *SANITIZERS], check=True)
        compiler = os.environ.get("CC", "cc")
        found = [
            subprocess.run(
                [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment = os.environ | {
            "LD_PRELOAD": " ".join(found),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, __file__, "--seconds", str(seconds), "--seed", str(seed), "--library", str(library)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    """Fuzz and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--library", type=Path, help="already compiled, and the sanitizers are here")
    given = parser.parse_args()
    if given.library is not None:
        print(json.dumps(watched(given.library, given.seconds, given.seed)))
        return 0
    done = fuzz(given.seconds, given.seed)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
